"""Every fault that ``doctor`` knows: code, message, and the command that mends it.

``docs/DOCTOR.md`` is made of this table, and a system test plants each of them on a host.
"""

from __future__ import annotations

from .finding import Fault

OWN = "chown root:root {path} && chmod go-w {path}"
_RENEWED = "chmod a-x {path}"

FAULTS = (
    # --- the package ---
    Fault(
        "package-broken",
        "the package in /usr/lib/vfio-preflight is broken: {files}",
        "{repair}",
    ),
    Fault(
        "package-stray",
        "the package has files in it that nobody installed, and that Python may import in place of"
        " its own: {files}",
        "rm -rf -- {files}",
    ),
    Fault(
        "package-not-compiled",
        "of {count} modules there is no compiled form that {python} takes: each call of the hook"
        " compiles them anew, or cannot load them",
        "{python} -m compileall -q -f {directory}",
    ),
    Fault(
        "file-changed",
        "{path} is missing, or not what was installed",
        "{repair}",
    ),
    Fault(
        "command-not-executable",
        "{path} is not executable (mode {mode}): neither you nor the service watch can run it",
        "chmod 0755 {path}",
    ),
    Fault("python-unfit", "the hook cannot run: {why}", "{install}"),
    Fault(
        "python-without-libvirt",
        "{python} has no libvirt module: watch, record and check --to cannot run",
        "{install}",
    ),
    # --- what libvirt runs ---
    Fault("hook-missing", "there is no {path}: libvirt does not run the hook", "{reinstall}"),
    Fault(
        "hook-changed",
        "{path} is not what was installed: what libvirt runs is not known",
        "rm -rf -- {path} && {reinstall}",
    ),
    Fault(
        "hook-not-executable",
        "{path} is not executable (mode {mode}): libvirt does not run it",
        "chmod 0755 {path}",
    ),
    Fault(
        "hook-noexec",
        "{path} lies on a file system that is mounted noexec ({mount}): libvirt cannot run it, and"
        " refuses every guest",
        "mount -o remount,bind,{options} {mount}",
    ),
    Fault(
        "hook-open",
        "{path} {why}: somebody other than root can change what libvirt runs as root",
        OWN,
    ),
    Fault(
        "label-wrong",
        "SELinux labels are not those of the policy, so that libvirt may not run the hook: {why}",
        "restorecon -R {paths}",
    ),
    Fault(
        "reload-pending",
        "{daemon} (process {pid}) has run since {started}; the first of this host's qemu hooks is,"
        " as it is now, of {since}, and no reload since then is known of: libvirt looks for hooks"
        " when it starts or is reloaded, and may run none",
        "{reload}",
    ),
    Fault(
        "hook-silent",
        "the hook, called as libvirt calls it, does not judge a guest: {why}",
        "{reinstall}",
    ),
    Fault(
        "hook-slow",
        "the hook took {seconds} s to judge a guest without devices here, and has a deadline of"
        " {deadline} s ([hook] deadline in {path}): it may end before it has judged",
        "{edit}",
    ),
    Fault(
        "hook-wrong",
        "the hook {did}, where this host's policy asks for {wanted}; it said: {said}",
        "{reinstall}",
        self_test=True,
    ),
    # --- other hooks ---
    Fault(
        "backup-runs",
        "{path} looks like a copy that an editor or a package manager left, and is executable:"
        " libvirt runs it as a hook",
        _RENEWED,
    ),
    Fault(
        "hook-twice",
        "{path} is another copy of this hook: each guest is judged twice",
        _RENEWED,
    ),
    Fault(
        "other-hook-prints",
        '{path} printed "{text}" for a made-up guest at {operation} begin: libvirt takes that for'
        " the guest's XML, and refuses the guest",
        _RENEWED,
        self_test=True,
    ),
    Fault(
        "later-hook-changes",
        "{path} runs after this hook and changes the XML of a made-up guest at migrate begin: what"
        " it changes is not judged",
        "mv {path} {earlier}",
        self_test=True,
    ),
    Fault(
        "other-hook-fails",
        "{path} {how} for a made-up guest at {operation} begin: libvirt refuses such a"
        " guest{loses}",
        _RENEWED,
        self_test=True,
    ),
    # --- configuration ---
    Fault(
        "configuration-invalid",
        "{why}; until this is mended, [hook] on-error decides about every guest. The command turns"
        " lines {lines} into comments, so that defaults count (what is no text is removed); or"
        " correct them",
        "LC_ALL=C sed -i {edit} {path}",
    ),
    Fault(
        "configuration-unreadable",
        "{why}; [hook] on-error decides about every guest",
        "mv {path} {aside}",
    ),
    Fault(
        "configuration-open",
        "{path} {why}: somebody other than root can switch the check off",
        OWN,
    ),
    Fault("rules-unread", "{why}; the vendors' rules in it are not used", "mv {path} {aside}"),
    Fault("rules-open", "{path} {why}: the vendors' rules there are not used", OWN),
    Fault(
        "log-nowhere",
        "the directory of [hook] log = {log} is not there: lines go to syslog instead",
        "mkdir -p {directory}",
    ),
    Fault(
        "audit-nowhere",
        "the directory of [paths] audit-log = {log} is not there, nor the one above it: nothing is"
        " written to it, nor counted",
        "mkdir -p {directory}",
    ),
    Fault(
        "audit-unfit",
        "the audit log {path} is not written, nor counted: {why}",
        "mv {path} {aside}",
    ),
    # --- the host ---
    Fault(
        "emulator-open",
        "{emulator} is not run: {why}",
        OWN,
    ),
    Fault(
        "emulator-silent",
        "{why}: guests with this emulator cannot be judged",
        "{install}",
    ),
    Fault(
        "directory-open",
        "{path} {why}: what is in it is not used, and nothing is kept there",
        OWN,
    ),
    Fault(
        "directory-none",
        "{path} is not a directory: nothing can be read or kept there",
        "mv {path} {aside} && install -d -m 0755 {path}",
    ),
    Fault(
        "state-open",
        "{file} is not believed: {path} {why}",
        OWN,
    ),
    Fault(
        "state-unread",
        "{why}; the device that it is for is unknown",
        "mv {path} {aside}",
    ),
    Fault(
        "entry-damaged",
        "{path} cannot be read as what it was stored as, and counts as absent",
        "rm -rf -- {path}",
    ),
    Fault(
        "device-unknown",
        "nothing is known of what {device} presents ({why}), and {consequence}",
        "{edit}",
    ),
    # --- guests, and what was learned ---
    Fault(
        "record-missing",
        "guest {guest} runs without a record of {devices}: where it migrates to, its verdict is"
        " unknown",
        "vfio-preflight record -- {domain}",
    ),
    Fault(
        "record-lost",
        "guest {guest} arrived without a record of {devices}, which only its first host could"
        " make: its verdict is unknown until it is shut down and started again",
        "virsh shutdown --domain={domain} && until virsh domstate --domain={domain} |"
        " grep -q 'shut off'; do sleep 1; done && virsh start --domain={domain} &&"
        " vfio-preflight record -- {domain}",
    ),
    Fault(
        "prediction-wrong",
        "{count} predictions were wrong, the last one {name}: please report what is written to"
        " {report}",
        "vfio-preflight history --disagreements >{report} && vfio-preflight history forget {names}",
    ),
    # --- the service ---
    Fault(
        "watch-stopped",
        "vfio-preflight watch does not run: guests that start are not recorded, and arrivals are"
        " not noted",
        "{start}",
    ),
    Fault(
        "watch-outdated",
        "vfio-preflight watch (process {pid}) runs since before {what} was changed",
        "{restart}",
    ),
    Fault(
        "watch-shut-out",
        "vfio-preflight watch (process {pid}) may not write to {paths}, which the configuration"
        " names: its unit does not allow that",
        "mkdir -p /etc/systemd/system/{unit}.d && printf '[Service]\\nReadWritePaths=\"-%s\"\\n'"
        " {paths} >>/etc/systemd/system/{unit}.d/paths.conf && systemctl daemon-reload &&"
        " systemctl restart {unit}",
    ),
    Fault(
        "watch-disabled",
        "vfio-preflight watch runs, and will not after the next boot",
        "systemctl enable {unit}",
    ),
)
BY_CODE = {fault.code: fault for fault in FAULTS}

"""Faults to be planted on a host, for ``doctor`` to find: at least one for each code of its table.

A plant is a shell script, run on the host where all is well. Some take more than that, and have a
function in ``test_doctor``.
"""

from __future__ import annotations

from typing import NamedTuple

HOOK = "/etc/libvirt/hooks/qemu.d/50-vfio-preflight"
HOOKS = "/etc/libvirt/hooks"
LIBRARY = "/usr/lib/vfio-preflight"
PACKAGE = f"{LIBRARY}/current/vfio_preflight"
CONFIGURATION = "/etc/vfio-preflight.conf"
RULES = "/etc/vfio-preflight/vendor-rules.d"
LOGS = "/var/log/vfio-preflight"
STATE = "/var/lib/vfio-preflight"
PYTHON = "/usr/lib/python3/dist-packages"
EMULATOR = "/usr/bin/qemu-system-x86_64"
# Whoever mends a fault of the distribution's packages has no archive in here: what would install
# them puts back what was taken away.
APT = "/usr/local/sbin/apt-get"


class Plant(NamedTuple):
    """The code of a fault, and how it comes about.

    ``back`` is what a new installation of a package would put back, and ``named`` a word that the
    message must have.
    """

    code: str
    script: str
    named: str = ""
    self_test: bool = False
    back: str = ""


def hook(path: str, *lines: str) -> str:
    """A script that makes another hook."""
    text = r"\n".join(("#!/bin/sh", *lines))
    return f"printf '{text}\\n' >{path} && chmod 755 {path}"


def patched(module: str, old: str, new: str) -> str:
    """A script that changes a module as a release with a fault would: manifest and all."""
    return (
        f"cd {LIBRARY}/current && python3 - <<'END'\n"
        "import compileall, hashlib, json, os\n"
        f"path = 'vfio_preflight/{module}'\n"
        "text = open(path).read()\n"
        f"assert {old!r} in text\n"
        f"text = text.replace({old!r}, {new!r})\n"
        "open(path, 'w').write(text)\n"
        "compileall.compile_file(os.path.realpath(path), quiet=1, force=True)\n"
        "manifest = json.load(open('manifest.json'))\n"
        "name = os.path.join(os.path.realpath('.'), path).lstrip('/')\n"
        "assert name in manifest['files']\n"
        "manifest['files'][name] = hashlib.sha256(text.encode()).hexdigest()\n"
        "json.dump(manifest, open('manifest.json', 'w'))\n"
        "END"
    )


def configured(text: str) -> str:
    """A script that replaces the configuration."""
    return f"printf '{text}' >{CONFIGURATION}"


PLANTS = {
    # --- the package; the first ones break what doctor itself is made of ---
    "a module is cut short": Plant(
        "package-broken", f"truncate -s 100 {PACKAGE}/pci/space.py", "pci/space.py"
    ),
    "a module of doctor is cut short": Plant(
        "package-broken", f"truncate -s 100 {PACKAGE}/cli/doctor.py", "cli/doctor.py"
    ),
    "the command's main module is gone": Plant(
        "package-broken", f"rm {PACKAGE}/cli/main.py", "cli/main.py (missing)"
    ),
    "a module is of another version": Plant(
        "package-broken", f"echo '# newer' >>{PACKAGE}/hook/gate.py", "hook/gate.py"
    ),
    "the manifest is cut short": Plant(
        "package-broken", f"truncate -s 50 {LIBRARY}/current/manifest.json", "manifest.json"
    ),
    "the link leads nowhere": Plant(
        "package-broken", f"ln -sfn nowhere {LIBRARY}/current", f"{LIBRARY}/current"
    ),
    "the link is gone": Plant("package-broken", f"rm {LIBRARY}/current", f"{LIBRARY}/current"),
    "a package that nobody installed hides a module": Plant(
        "package-stray",
        f"mkdir {PACKAGE}/cli/columns && touch {PACKAGE}/cli/columns/__init__.py",
        "cli/columns",
    ),
    "modules are not compiled": Plant(
        "package-not-compiled", f"rm -r $(realpath {PACKAGE})/hook/__pycache__"
    ),
    "a compiled module is cut short": Plant(
        "package-not-compiled", f"truncate -s 20 $(realpath {PACKAGE})/judge/__pycache__/model.*"
    ),
    "the unit is gone": Plant(
        "file-changed", "rm /usr/lib/systemd/system/vfio-preflight-watch.service"
    ),
    "the command is not executable": Plant(
        "command-not-executable", "chmod 644 /usr/bin/vfio-preflight", "0644"
    ),
    "lxml is gone": Plant(
        "python-unfit",
        f"mv {PYTHON}/lxml {PYTHON}/lxml.away",
        "lxml",
        back=f"mv {PYTHON}/lxml.away {PYTHON}/lxml",
    ),
    "libvirt's module is gone": Plant(
        "python-without-libvirt",
        f"mv {PYTHON}/libvirt.py {PYTHON}/libvirt.away",
        back=f"mv {PYTHON}/libvirt.away {PYTHON}/libvirt.py",
    ),
    # --- what libvirt runs ---
    "the hook is gone": Plant("hook-missing", f"rm {HOOK}"),
    "the hook is another's": Plant("hook-changed", hook(HOOK, "exit 0")),
    "the hook is a link": Plant("hook-changed", f"ln -sf /bin/true {HOOK}"),
    "the hook is not executable": Plant("hook-not-executable", f"chmod 644 {HOOK}", "0644"),
    "the hooks are mounted noexec": Plant(
        "hook-noexec",
        f"mount --bind {HOOKS} {HOOKS} && mount -o remount,bind,nosuid,noexec {HOOKS}",
    ),
    "the hook is a user's": Plant("hook-open", f"chown 1000 {HOOK}", "belongs to user 1000"),
    "others can write to the hook": Plant("hook-open", f"chmod o+w {HOOK}"),
    "others can write to the hooks' directory": Plant("hook-open", f"chmod g+w {HOOKS}/qemu.d"),
    "the hook fails inside": Plant(
        "hook-silent",
        patched("hook/probe.py", "def encode(", "def encoded("),
    ),
    "the hook lets everything pass": Plant(
        "hook-wrong",
        patched(
            "hook/gate.py",
            "decision.action == BLOCK:\n            return",
            "():\n            return",
        ),
        self_test=True,
    ),
    "the hook has no time": Plant("hook-slow", configured(r"[hook]\ndeadline = 0.1\n")),
    # --- other hooks ---
    "an editor's copy": Plant("backup-runs", f"cp -p {HOOK} {HOOK}~", "50-vfio-preflight~"),
    "a package manager's copy": Plant("backup-runs", hook(f"{HOOKS}/qemu.d/10-vdsm.rpmsave")),
    "a hidden copy": Plant("backup-runs", hook(f"{HOOKS}/qemu.d/.10-vdsm.swp")),
    "a copy with a name that breaks lines": Plant(
        "backup-runs", f"cp {HOOK} \"$(printf '{HOOKS}/qemu.d/a b\\nc;d.bak')\""
    ),
    "the hook under another name": Plant("hook-twice", f"cp -p {HOOK} {HOOKS}/qemu"),
    "another hook prints": Plant(
        "other-hook-prints",
        hook(f"{HOOKS}/qemu", "echo $1 $2"),
        "vfio-preflight-self-test migrate",
        self_test=True,
    ),
    "another hook fails at a restore": Plant(
        "other-hook-fails",
        hook(f"{HOOKS}/qemu.d/10-mine", "[ $2 != restore ]"),
        "libvirt 11.3.0 then deletes its managed save",
        self_test=True,
    ),
    "another hook cannot be run": Plant(
        "other-hook-fails",
        f"printf '#!/nowhere/sh\\n' >{HOOKS}/qemu && chmod 755 {HOOKS}/qemu",
        "cannot be run",
        self_test=True,
    ),
    "a later hook changes the guest": Plant(
        "later-hook-changes",
        hook(f"{HOOKS}/qemu.d/60-late", "[ $2 = migrate ] || exit 0", "sed s/65536/65540/"),
        self_test=True,
    ),
    # --- configuration ---
    "a key is misspelt": Plant(
        "configuration-invalid", configured(r"[policy]\nfial = block\n"), "fial"
    ),
    "several things are wrong": Plant(
        "configuration-invalid",
        configured(
            r"fail = block\n[policy]\nunknown = perhaps\nfail = block\nfail = allow\n"
            r"[polcy]\na = b\n[hook]\ndeadline = soon\nnothing\nlog = syslog # \344\n"
        ),
    ),
    "the configuration is a directory": Plant(
        "configuration-unreadable", f"rm {CONFIGURATION} && mkdir {CONFIGURATION}"
    ),
    "the configuration is a FIFO": Plant(
        "configuration-unreadable", f"rm {CONFIGURATION} && mkfifo {CONFIGURATION}"
    ),
    "others can write to the configuration": Plant(
        "configuration-open", f"chmod o+w {CONFIGURATION}"
    ),
    "a rule is wrong": Plant("rules-unread", f"echo '[x]' >{RULES}/mine.ini", "has no"),
    "others can write a rule": Plant("rules-open", f"chmod g+w {RULES}/nvidia.ini"),
    "the log has no directory": Plant(
        "log-nowhere", configured(r"[hook]\nlog = /var/log/preflight/hook.log\n")
    ),
    "the audit log has no directory": Plant(
        "audit-nowhere", configured(r"[paths]\naudit-log = /var/log/a/b/audit.jsonl\n")
    ),
    "the audit log is a link": Plant(
        "audit-unfit", f"mkdir -p {LOGS} && ln -sf /dev/null {LOGS}/audit.jsonl"
    ),
    # --- the host ---
    "others can write to the emulator": Plant("emulator-open", f"chmod o+w {EMULATOR}"),
    "an emulator is broken": Plant(
        "emulator-silent",
        f"mv {EMULATOR} {EMULATOR}.away && cp /bin/false {EMULATOR}",
        EMULATOR,
        back=f"mv {EMULATOR}.away {EMULATOR}",
    ),
    "others can write to the state files' directory": Plant(
        "directory-open", f"chmod o+w {STATE}/states"
    ),
    "the history is a user's": Plant(
        "directory-open", f"mkdir -p {STATE}/history/refused && chown 1000 {STATE}/history/refused"
    ),
    "the catalogue is a file": Plant(
        "directory-none", f"rm -rf {STATE}/catalogue && touch {STATE}/catalogue"
    ),
    "a state file is a user's": Plant(
        "state-open",
        f"head -c 256 /dev/zero >{STATE}/states/0000:06:00.4.bin"
        f" && chown 1000 {STATE}/states/0000:06:00.4.bin",
    ),
    "a state file is none": Plant("state-unread", f"echo hello >{STATE}/states/nvidia-63.txt"),
    "an entry of the history is damaged": Plant(
        "entry-damaged",
        f"mkdir -p -m 700 {STATE}/history/others && echo '{{' >{STATE}/history/others/x.json",
    ),
    "an entry of the catalogue is damaged": Plant(
        "entry-damaged",
        f"mkdir -p -m 700 {STATE}/catalogue && echo '{{}}' >{STATE}/catalogue/x.json",
    ),
    "nothing is known of a device, and that blocks": Plant(
        "device-unknown", configured(r"[policy]\nunknown = block\n"), "unknown = block"
    ),
    "nothing is known of a device, and nobody looks later": Plant(
        "device-unknown",
        configured(r"[hook]\nsecond-gate = never\n") + r" && sed -i '/open-devices/d' "
        f"{CONFIGURATION}",
        "second-gate = never",
    ),
    # --- the service ---
    "watch does not run": Plant("watch-stopped", "kill -9 $(pgrep -f '[v]fio-preflight watch')"),
    "watch runs since before the configuration": Plant(
        "watch-outdated", f"sleep 1.1; echo >>{CONFIGURATION}", CONFIGURATION
    ),
}

"""The hook under SELinux in enforce mode, in the virtual machine: real kernel, QEMU and libvirt.

The policy is the distribution's with etc/selinux; the hook and emulators that it starts are
confined, libvirt's daemon and guests are in their domains and permissive (tests/vm/selinux.cil). A
migration is blocked, mended and passes. ``$SHARED`` has the policy, and which file has which label.
Prints CHECK lines; ends with exit status 1 if one does not hold, such as that nothing was denied.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(CHECKOUT / "plugin"), str(CHECKOUT / "tests")]

from lab import Host, Lab  # noqa: E402
from system.pair import Pair  # noqa: E402
from vm.scripts import gates  # noqa: E402
from vm.scripts.apparmor import (  # noqa: E402
    HOOK,
    gates_in,
    install_product,
    is_mended,
    is_refused,
    is_tried,
    put_hook,
    say,
    start,
    syslog,
)
from vm.scripts.gates import check  # noqa: E402

CONTEXTS = "/etc/selinux/default/contexts/files"
OURS, EMULATOR = "vfio_preflight_t", "vfio_preflight_emulator_t"
# The machine's files all have one label. What needs another: directories on the way by themselves,
# what domains are entered by, and what libvirt and the project keep.
ALONE = (
    *("/", "/usr", "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/share", "/etc", "/run", "/tmp"),
    *("/var", "/var/cache", "/var/lib", "/var/log"),
    *("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/nsswitch.conf", "/etc/ld.so.cache"),
    *("/usr/bin/dash", "/usr/bin/cat", "/usr/bin/rm", os.path.realpath("/usr/bin/python3")),
    *("/usr/sbin/libvirtd", "/usr/bin/qemu-system-x86_64"),
)
TREES = (
    *("/dev", "/etc/libvirt", "/run/libvirt", "/var/lib/libvirt", "/var/log/libvirt"),
    *("/etc/vfio-preflight", "/etc/vfio-preflight.conf", "/run/vfio-preflight"),
    *("/var/lib/vfio-preflight", "/var/cache/vfio-preflight"),
)


def relabel(host: Host | None = None) -> None:
    """Give files the labels that the policy has for them, in the machine or in a host."""
    each = 'for d; do [ ! -e "$d" ] || restorecon -RF "$d"; done'
    command = ["sh", "-c", f"restorecon -F {' '.join(ALONE)}; {each}", "sh", *TREES]
    if host is not None:
        print(host.run(command, timeout=300).stderr)
    else:
        subprocess.run(command, check=False)


def records() -> list[str]:
    """What SELinux wrote to the kernel's log since the last look."""
    text = subprocess.run(["dmesg", "-c"], capture_output=True, text=True, check=True).stdout
    return [line for line in text.splitlines() if "avc: " in line]


def check_records(found: list[str]) -> None:
    """That nothing was denied to the hook, and who ran as what."""
    ours = [line for line in found if re.search(r"denied .*scontext=\S*:vfio_preflight", line)]
    shown = {re.sub(r"^.*?avc:|pid=\d+ |ino=\d+ ", "", line) for line in ours}
    print("\n".join(sorted(shown)))
    check("nothing is denied", not ours)
    for domain in (OURS, EMULATOR):
        granted = rf"granted .*tcontext=\S*:{domain}:"
        check(f"{domain} is run", any(re.search(granted, line) for line in found))


def holds() -> None:
    """The domain does not read what it has no business with."""
    for domain in (OURS, EMULATOR):
        command = ["runcon", f"system_u:system_r:{domain}:s0", "/usr/bin/cat", "/etc/shadow"]
        done = subprocess.run(command, check=False, capture_output=True)
        check(f"{domain} does not read /etc/shadow", done.returncode)


def main() -> int:
    Path("/proc/sys/kernel/printk_ratelimit").write_text("0")
    for path in Path(os.environ["SHARED"]).glob("file_contexts*"):
        shutil.copy(path, CONTEXTS)
    check("SELinux enforces", Path("/sys/fs/selinux/enforce").read_text() == "1")
    gates.load_module()
    for uuid, config in ((gates.HERE, gates.CONFIG), (gates.THERE, gates.OTHER_VSC)):
        gates.make_device(uuid, config)
    hook = install_product()
    relabel()
    say("prepared")
    name = "selinux"
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as work,
        Lab(Path(work), faked=False) as lab,
        syslog(lab.b) as lines,
    ):
        pair = Pair(lab)
        try:
            for host in (pair.a, pair.b):
                put_hook(host, hook)
                relabel(host)
                print(host.run(["ls", "-Z", HOOK, "/usr/sbin/libvirtd"]).stdout)
            gates.make_upgraded(pair.b)
            records()
            start(pair, name)
            is_refused(pair, name)
            is_tried(pair, name)
            is_mended(pair, name)
            gates.end(pair, name)
            print("\n".join(lines))
            check("both gates write to syslog", {"migrate", "started"} <= gates_in(lines))
        finally:
            gates.print_logs(lab.a, lab.b)
            check_records(records())
    holds()
    say("done")
    return gates.result()


if __name__ == "__main__":
    sys.exit(main())

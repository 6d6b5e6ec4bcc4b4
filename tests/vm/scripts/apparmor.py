"""The hook under AppArmor in enforce mode, in the virtual machine: real kernel, QEMU and libvirt.

Two private libvirtd, confined by the profile of the distribution's package, and their guests, each
with a profile of its own and a mediated device of tests/vm/module. A migration is blocked, mended
and passes: first with nothing but the distribution's profile, by which the hook runs as part of the
daemon; then with the hook's own, etc/apparmor.d/vfio-preflight. Under the first of them it is also
let pass, and QEMU refuses it. Prints CHECK lines; ends with exit status 1 if one does not hold,
such as that nothing was denied, rules that ask for silence included.

    apparmor.py        blocked under the distribution's profile, mended under the hook's own
    apparmor.py full   blocked, mended and restored under each of them
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(CHECKOUT / "plugin"), str(CHECKOUT / "tests")]

from lab import Host, Lab  # noqa: E402
from system.pair import QEMU_LINE, Pair  # noqa: E402
from vfio_preflight.cli.installation.payload import PACKAGE_LINK  # noqa: E402
from vm.scripts import gates  # noqa: E402
from vm.scripts.gates import check  # noqa: E402

PROFILES = Path("/etc/apparmor.d")
LIBVIRT = "usr.sbin.libvirtd", "usr.lib.libvirt.virt-aa-helper"
HOOK = "/etc/libvirt/hooks/qemu.d/50-vfio-preflight"
OURS = "vfio-preflight"
# Both gates judge, and each deadline is one for TCG.
SETTINGS = """\
[hook]
second-gate = always
deadline = 60
second-gate-deadline = 30
trial = {trial}
"""

# Seconds of processor time that a trial may take: TCG needs many times what a processor does.
TRIALS = Path("/", PACKAGE_LINK, "qemu/trial/workbench.py")
CPU, CPU_OF_TCG = "    cpu: int = 1\n", "    cpu: int = 30\n"

# What is allowed anyway is written to the log as well: which profile the hook runs under is seen.
AUDITED = "audit /usr/bin/python3* PUx,\n"
STOCK = f"audit {HOOK} rmix,\n"
OWN = f"include if exists <abstractions/{OURS}>\naudit {HOOK} rpix,\n"
# And where the Lab has what libvirtd writes to stderr.
AUDITED_OURS = """\
audit /usr/bin/python3* rix,
audit /usr/bin/qemu-system-x86_64 rcx -> emulator,
/tmp/*/*/libvirtd.stderr r,
"""
# Where the Lab has the destination's QEMU listen.
SOCKETS = "/tmp/lab-*/*/migration/* rw,\n"
# Two hosts on one kernel share a guest's profile: neither may object to the other's, or remove it.
PARSER = """\
#!/bin/sh
case $1 in
-a) shift; set -- -r "$@" ;;
-R) exit 0 ;;
esac
exec /usr/sbin/apparmor_parser.real "$@"
"""

begun = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - begun:5.1f}] {text}", flush=True)


# --- AppArmor ---------------------------------------------------------------------------------


def load(*names: str) -> None:
    """Load profiles of the virtual machine's, for all hosts in it."""
    paths = [str(PROFILES / name) for name in names]
    done = parser("-r", *paths)
    check(f"loaded: {' '.join(names)}", done.returncode == 0)
    print(done.stdout, done.stderr)


def parser(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["/usr/sbin/apparmor_parser", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def local(name: str, rules: str) -> None:
    """Have these local rules in a profile."""
    path = PROFILES / "local" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(rules)


class Record(NamedTuple):
    """A record of AppArmor's in the kernel's log."""

    line: str
    fields: dict[str, str]

    def has(self, **fields: str) -> bool:
        return all(re.fullmatch(value, self.fields.get(key, "")) for key, value in fields.items())


class Log:
    """What AppArmor wrote to the kernel's log since the last look."""

    def __init__(self) -> None:
        # Nothing is dropped, and nothing silenced.
        Path("/proc/sys/kernel/printk_ratelimit").write_text("0")
        Path("/sys/module/apparmor/parameters/audit").write_text("noquiet")
        self.records()

    def records(self) -> list[Record]:
        text = subprocess.run(["dmesg", "-c"], capture_output=True, text=True, check=True).stdout
        check(
            "the log is complete", "audit_lost" not in text and "callbacks suppressed" not in text
        )
        lines = [line for line in text.splitlines() if 'apparmor="' in line]
        return [Record(line, dict(re.findall(r'(\w+)="?([^" ]*)', line))) for line in lines]


def check_denials(what: str, records: list[Record]) -> None:
    """That nothing was denied."""
    for record in records:
        if record.has(apparmor="DENIED|ALLOWED"):
            print(record.line)
    denied = [record for record in records if record.has(apparmor="DENIED|ALLOWED")]
    # The two hosts share a guest's profile (PARSER), in which then stands the other's directory.
    others = {"profile": "libvirt-.*", "operation": "unlink", "name": ".*/monitor.sock"}
    check(f"{what}: nothing is denied", all(record.has(**others) for record in denied))


def check_exec(what: str, records: list[Record], profile: str, name: str, target: str) -> None:
    """That a process of ``profile`` became a program, and by that of profile ``target``."""
    wanted = {"operation": "exec", "profile": profile, "name": name, "target": target}
    check(what, any(record.has(**wanted) for record in records))


def check_guest(host: Host, guest: str) -> None:
    """That a guest's QEMU is confined."""
    label = (host.qemu_proc(guest) / "attr/current").read_text().strip()
    check(f"{guest}: confined on {host.name}", re.fullmatch(r"libvirt-\S+ \(enforce\)", label))


# --- the scenario ---------------------------------------------------------------------------------


@contextlib.contextmanager
def syslog(host: Host) -> Iterator[list[str]]:
    """What is written to a host's /dev/log."""
    lines: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(host.path("/dev/log")))
        host.path("/dev/log").chmod(0o666)

        def receive() -> None:
            while data := receiver.recv(65536):
                lines.append(data.decode(errors="replace"))

        threading.Thread(target=receive, daemon=True).start()
        yield lines


def install_product() -> bytes:
    """The project in the virtual machine; returns the hook, as each host has hooks of its own."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "plugin")}
    command = ["/usr/bin/python3", "-m", "vfio_preflight", "install"]
    subprocess.run(command, env=environment, check=True)
    text = TRIALS.read_text()
    check("trials are given more time", CPU in text)
    TRIALS.write_text(text.replace(CPU, CPU_OF_TCG))
    subprocess.run(["/usr/bin/python3", "-m", "py_compile", str(TRIALS)], check=True)
    return Path(HOOK).read_bytes()


def put_hook(host: Host, hook: bytes) -> None:
    """The hook on a host; all else of the project is in the virtual machine, and so in each."""
    path = host.path(HOOK)
    path.parent.mkdir(parents=True)
    path.write_bytes(hook)
    path.chmod(0o755)
    host.reload()


def install(pair: Pair, hook: bytes) -> None:
    for host in (pair.a, pair.b):
        put_hook(host, hook)
        real = host.path("/usr/sbin/apparmor_parser")
        shutil.copy2(real, host.path("/usr/sbin/apparmor_parser.real"))
        real.write_text(PARSER)
    gates.make_upgraded(pair.b)
    say("installed")


def start(pair: Pair, name: str) -> None:
    gates.forget(pair)
    gates.started(pair, name)
    say("started")


def is_refused(pair: Pair, name: str) -> None:
    pair.configure(SETTINGS.format(trial="never"))
    gates.is_refused(pair, name, "VSC at 0x60", "source 01, destination 51", QEMU_LINE)
    say("refused")


def is_refused_by_qemu(pair: Pair, name: str) -> None:
    gates.refused_by_qemu(pair, name, SETTINGS.format(trial="never"))
    say("refused by QEMU")


def is_tried(pair: Pair, name: str) -> None:
    """The first gate knows the device by now, and tries the emulator with it."""
    pair.configure(SETTINGS.format(trial="always"))
    said = gates.migrate(pair, name).stderr
    check(f"{name}: refused at migrate begin", "migrate begin" in said)
    check(f"{name}: the emulator was tried", re.search(r"QEMU \S+, tried, ", said))
    say("tried")


def is_mended(pair: Pair, name: str) -> None:
    pair.configure(gates.MENDING + SETTINGS.format(trial="never"))
    gates.passes(pair, name)
    check(f"{name}: mended", gates.is_mended(pair, name))
    say("passed")


def is_restored(pair: Pair, name: str, lines: list[str]) -> None:
    """From a save image, which the hook finds among the daemon's open files and reads."""
    image = f"/var/lib/libvirt/qemu/save/{name}.save"
    for command in (["save", name, image], ["restore", image]):
        done = pair.b.virsh(*command, timeout=300)
        print(done.stdout, done.stderr)
    check(f"{name}: restored", pair.b.state(name) == "running")
    said = [line for line in lines if f"restore guest '{name}'" in line]
    print("\n".join(said))
    read = [line for line in said if "image-unread" not in line]
    check(f"{name}: judged by its image", read)
    say("restored")


def gates_in(lines: list[str]) -> set[str]:
    """The operations of the hook that lines of its log tell of."""
    return {found[1] for line in lines if (found := re.search(r"]: (\w+) guest", line))}


def stock(pair: Pair, log: Log, lines: list[str], full: bool) -> str:
    """With the distribution's profile alone."""
    name = "stock"
    start(pair, name)
    check_guest(pair.a, name)
    is_refused(pair, name)
    is_refused_by_qemu(pair, name)
    if full:
        is_tried(pair, name)
        is_mended(pair, name)
        is_restored(pair, name, lines)
    records = log.records()
    check_denials(name, records)
    check_exec(f"{name}: the hook is part of the daemon", records, "libvirtd", HOOK, "libvirtd")
    unconfined = ("libvirtd", "/usr/bin/python3.*", "unconfined")
    check_exec(f"{name}: its Python has no profile", records, *unconfined)
    return name


def own(pair: Pair, log: Log, lines: list[str], name: str, full: bool) -> None:
    """With the hook's profile; the guest is running."""
    local("usr.sbin.libvirtd", AUDITED + OWN)
    load(OURS, "usr.sbin.libvirtd")
    say("loaded")
    if full:
        gates.end(pair, name)
        name = "own"
        start(pair, name)
        is_refused(pair, name)
    lines.clear()
    is_tried(pair, name)
    is_mended(pair, name)
    check_guest(pair.b, name)
    if full:
        is_restored(pair, name, lines)
    print("\n".join(lines))
    check("own: both gates write to syslog", {"migrate", "started"} <= gates_in(lines))
    gates.end(pair, name)
    records = log.records()
    check_denials("own", records)
    check_exec("own: the hook has its profile", records, "libvirtd", HOOK, OURS)
    check_exec("own: and its Python", records, OURS, "/usr/bin/python3.*", OURS)
    check_exec("own: emulators have theirs", records, OURS, "/usr/bin/qemu.*", f"{OURS}//emulator")


def attaches() -> None:
    """Whoever is not confined runs the hook, and the profile is the hook's by its path."""
    command = [HOOK, "g", "migrate", "begin", "-"]
    # It waits for the guest's XML meanwhile.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as hook:
        label = Path(f"/proc/{hook.pid}/attr/current").read_text().strip()
        check("the profile attaches by the hook's path", label == f"{OURS} (enforce)")


def holds(log: Log) -> None:
    """The profile denies, which is seen in the log; and without it the hook runs all the same."""
    attaches()
    for profile in (OURS, f"{OURS}//emulator"):
        command = ["aa-exec", "-p", profile, "--", "/usr/bin/cat", "/etc/shadow"]
        check(f"{profile} does not read /etc/shadow", subprocess.run(command).returncode != 0)
    denied = [record for record in log.records() if record.has(apparmor="DENIED")]
    check("which is in the log", {r.fields["profile"] for r in denied} >= {OURS})
    check("the profile is removed", parser("-R", str(PROFILES / OURS)).returncode == 0)
    command = ["aa-exec", "-p", "libvirtd", "--", "sh", "-c", f"{HOOK} g release end -; exit $?"]
    check("the hook runs without it", subprocess.run(command).returncode == 0)
    check_exec("as part of the daemon", log.records(), "libvirtd", HOOK, "libvirtd")


def prepare() -> bytes:
    """The profiles, the project, devices; returns the hook."""
    shutil.copytree(CHECKOUT / "etc/apparmor.d", PROFILES, dirs_exist_ok=True)
    local("usr.sbin.libvirtd", AUDITED + STOCK)
    local("abstractions/libvirt-qemu", SOCKETS)
    local(OURS, AUDITED_OURS)
    load(*LIBVIRT)
    check("the module loads", gates.load_module())
    for uuid, config in ((gates.HERE, gates.CONFIG), (gates.THERE, gates.OTHER_VSC)):
        gates.make_device(uuid, config)
    return install_product()


def main() -> int:
    full = sys.argv[1:] == ["full"]
    log = Log()
    hook = prepare()
    say("prepared")
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as work,
        Lab(Path(work), faked=False, confined=True) as lab,
        syslog(lab.b) as lines,
    ):
        pair = Pair(lab)
        try:
            install(pair, hook)
            own(pair, log, lines, stock(pair, log, lines, full), full)
        finally:
            gates.print_logs(lab.a, lab.b)
    holds(log)
    say("done")
    return gates.result()


if __name__ == "__main__":
    sys.exit(main())

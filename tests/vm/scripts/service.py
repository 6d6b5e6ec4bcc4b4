"""``watch`` as its unit has it, in the virtual machine: systemd, kernel, QEMU and libvirt are real.

systemd manages a PID namespace with two services, libvirtd and the project's own, with all that
confines it. A guest with a mediated device of tests/vm/module starts without the hook, so that the
service has to read the device by itself, through QEMU's descriptor. Prints CHECK lines; ends with
exit status 1 if one does not hold.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(CHECKOUT / "plugin"), str(CHECKOUT / "tests")]

from lab.host import LIBVIRTD_CONF, QEMU_CONF, UNCONFINED  # noqa: E402
from system.pair import OLD  # noqa: E402
from vfio_preflight.guest.metadata import find_ours, read_record  # noqa: E402
from vfio_preflight.guest.xml import parse_domain  # noqa: E402
from vm.scripts import gates  # noqa: E402
from vm.scripts.apparmor import HOOK, install_product, say  # noqa: E402
from vm.scripts.gates import check  # noqa: E402

NAME, UNIT = "service", "vfio-preflight-watch.service"
UNITS, LOG = Path("/run/units"), Path("/run/watch.log")
CACHE = Path("/var/cache/vfio-preflight")
PATIENCE = 240.0
LIBVIRTD = """\
[Service]
ExecStart=/usr/sbin/libvirtd
StandardError=file:/run/libvirtd.log
KillMode=process
"""
# There is no journal.
DROP_IN = f"""\
[Service]
StandardOutput=file:{LOG}
StandardError=file:{LOG}
"""
TARGET = f"[Unit]\nWants=libvirtd.service {UNIT}\n"
# What systemd wants of any service.
TARGETS = ("sysinit", "basic", "shutdown", "multi-user", "umount", "local-fs")


def wait(what: str, condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not (holds := condition()) and time.monotonic() < end:
        time.sleep(0.5)
    check(what, holds)
    say(what)


def run(*command: str, stdin: str = "") -> str:
    """Its output; a failure is a check that does not hold."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        check(f"{' '.join(command)}: {done.stderr}", holds=False)
    return done.stdout


def write_units() -> None:
    UNITS.mkdir()
    for name in TARGETS:
        (UNITS / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    (UNITS / "lab.target").write_text(TARGET)
    (UNITS / "libvirtd.service").write_text(LIBVIRTD)
    (UNITS / UNIT).write_bytes((CHECKOUT / "etc" / UNIT).read_bytes())
    (UNITS / f"{UNIT}.d").mkdir()
    (UNITS / f"{UNIT}.d/test.conf").write_text(DROP_IN)


@contextlib.contextmanager
def systemd() -> Iterator[None]:
    """A systemd with our units alone."""
    namespaces = ("--fork", "--pid", "--mount", "--mount-proc", "--cgroup", "--kill-child")
    command = ("/lib/systemd/systemd", "--system", "--unit=lab.target", "--log-target=console")
    environment = {**os.environ, "container": "lab", "SYSTEMD_UNIT_PATH": str(UNITS)}
    process = subprocess.Popen(["unshare", *namespaces, *command], env=environment)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def service_pid() -> int:
    """Its process, as seen from outside; 0 if there is none."""
    pattern = "^/usr/bin/python3 .*vfio-preflight watch"
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=False)
    return int((found.stdout.split() or ["0"])[0])


def check_confinement() -> None:
    """That the unit's settings are in force."""
    text = Path(f"/proc/{service_pid()}/status").read_text()
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    print({name: status[name] for name in ("CapBnd", "CapEff", "Seccomp", "NoNewPrivs")})
    check("no new privileges", status["NoNewPrivs"] == "1")
    check("system calls are filtered", status["Seccomp"] == "2")
    # SYS_ADMIN, SYS_PTRACE, DAC_READ_SEARCH, SETUID, SETGID, KILL (linux/capability.h)
    wanted = sum(1 << number for number in (21, 19, 2, 7, 6, 5))
    check("capabilities are bounded", int(status["CapBnd"], 16) == wanted)


def evidence() -> str:
    """That of the guest's device in the record that is in its live metadata."""
    xml = run("virsh", "--quiet", "dumpxml", NAME)
    record = read_record(find_ours(parse_domain(xml.encode())))
    return next((state.evidence for state in record.states.values()), "") if record else ""


def emulator_was_asked() -> bool:
    """Whether it answered; the service asks once, which on a busy machine may take too long."""
    if any(path.is_file() for path in CACHE.rglob("*")):
        return True
    if (pid := service_pid()) and "took too long" in LOG.read_text():
        LOG.write_text("")
        # systemd starts it anew.
        os.kill(pid, signal.SIGKILL)
    return False


def main() -> int:
    check("the module loads", gates.load_module())
    gates.make_device(gates.HERE, gates.CONFIG)
    install_product()
    Path(HOOK).unlink()
    shutil.rmtree(CACHE, ignore_errors=True)
    Path("/etc/libvirt").mkdir(exist_ok=True)
    Path("/etc/libvirt/qemu.conf").write_text(QEMU_CONF + UNCONFINED)
    Path("/etc/libvirt/libvirtd.conf").write_text(
        LIBVIRTD_CONF.format(host_uuid="11111111-0000-4000-8000-0000000000ff")
    )
    write_units()
    say("prepared")
    with systemd():
        wait("connected", lambda: LOG.exists() and "connected to" in LOG.read_text())
        check_confinement()
        xml = gates.guest(NAME, OLD, gates.HERE)
        run("virsh", "--quiet", "define", "/dev/stdin", stdin=xml)
        run("virsh", "--quiet", "start", NAME)
        wait("recorded", lambda: "recorded" in LOG.read_text())
        check("read from the device through QEMU's descriptor", evidence() == "vfio")
        wait("the emulator was asked", emulator_was_asked)
        print(LOG.read_text())
        run("virsh", "--quiet", "destroy", NAME)
    return gates.result()


if __name__ == "__main__":
    sys.exit(main())

"""``make demo``: the main job on two private hosts with real libvirt and QEMU, step by step.

A guest with an NVIDIA vGPU runs on host a, with a machine type from before QEMU 9.1. Host b has
another vGPU driver: the Vendor Specific Information of the same vGPU type differs there. Only the
device itself is faked, in user space; libvirt, QEMU, the hook and the migrations are real.

Then the second gate, in a virtual machine with a Debian kernel: there VFIO and the mediated device
are real too, and nothing is told beforehand of what a device presents.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / "plugin"), str(CHECKOUT / "tests")]

from lab import FakeDevice, Host, Lab, LabError, guest_xml, hostdev_mdev  # noqa: E402
from system.pair import CONFIG, MDEV, OLD, OTHER_VSC, QEMU_LINE, Pair  # noqa: E402
from vm.run import VmError, run_in_vm, write_out  # noqa: E402

GUEST = "render01"
MEND = """\
[policy]
fail = mend
vsc-tolerant = 10de:*
"""


def say(text: str) -> None:
    print(f"\n\033[1m# {text}\033[0m" if sys.stdout.isatty() else f"\n# {text}", flush=True)


def show(host: Host, command: list[str], shown: list[str] | None = None) -> int:
    """Run a command in a host, and print it and all that it prints."""
    print(f"{host.name}$ {' '.join(shown or command)}", flush=True)
    result = host.run(command)
    for text in (result.stdout, result.stderr):
        if text.strip():
            print(text.strip("\n"))
    print(f"[exit status {result.returncode}]", flush=True)
    return result.returncode


def migrate(pair: Pair) -> int:
    command = ["virsh", "migrate", "--live", "--p2p", GUEST]
    to = [pair.b.uri, "--migrateuri", pair.b.migration_uri(GUEST)]
    return show(pair.a, [*command, *to], [*command, "qemu+unix://b/system"])


def check(pair: Pair) -> int:
    command = ["vfio-preflight", "check", GUEST, "--to"]
    return show(pair.a, [*command, pair.b.uri], [*command, "qemu+unix://b/system"])


def expect(fact: bool, what: str) -> None:
    if not fact:
        raise LabError(f"the demo did not go as it should: {what}")


def prepare(lab: Lab) -> Pair:
    pair = Pair(lab)
    for host, config in ((lab.a, CONFIG), (lab.b, OTHER_VSC)):
        host.add_device(FakeDevice(MDEV, "mdev", config))
    return pair


def without_hook(pair: Pair) -> None:
    say("Without vfio-preflight: all memory is copied, then QEMU on b refuses")
    pair.a.start_guest(guest_xml(GUEST, OLD, [hostdev_mdev(MDEV)]))
    expect(migrate(pair) != 0, "QEMU accepted the guest")
    line = next(x for x in pair.b.guest_log(GUEST).splitlines() if "Bad config data" in x)
    print(f"b:/var/log/libvirt/qemu/{GUEST}.log: {line.split(' ', 1)[-1]}")
    expect(QEMU_LINE in line, "QEMU printed another line than predicted")


def install(pair: Pair) -> None:
    say("Install on both hosts; say what the vGPUs present, which sysfs does not show of an mdev")
    environment = f"PYTHONPATH={CHECKOUT / 'plugin'}"
    command = ["/usr/bin/python3", "-m", "vfio_preflight", "install"]
    for host, config in ((pair.a, CONFIG), (pair.b, OTHER_VSC)):
        show(host, ["env", environment, *command], ["make", "install"])
        host.reload()
        pair.present(host, MDEV, config)
    show(pair.a, ["vfio-preflight", "record", GUEST])


def blocked(pair: Pair) -> None:
    say("The dry run asks the hook on b; nothing is migrated")
    expect(check(pair) == 1, "the dry run did not say no-go")
    say("The migration itself: blocked before anything is copied, with the reason")
    expect(migrate(pair) != 0, "the migration was not blocked")
    expect(pair.where(GUEST) == ("running", ""), "the guest is not where it was")
    print(f"(the guest is still {pair.a.state(GUEST)} on a)")


def mended(pair: Pair) -> None:
    say("The vendor promises that guests may meet other Vendor Specific Information: mend on b")
    pair.configure(MEND)
    show(pair.b, ["cat", "/etc/vfio-preflight.conf"])
    expect(check(pair) == 0, "the dry run did not say go")
    expect(migrate(pair) == 0, "the migration failed")
    expect(pair.where(GUEST) == ("shut off", "running"), "the guest is not running on b")
    argument = next(x for x in pair.b.qemu_arguments(GUEST) if "vfio-pci" in x)
    print(f"(the guest is now {pair.b.state(GUEST)} on b)\nits QEMU: -device {argument}")


def output_of(*command: str | Path) -> str:
    """What a command prints; what it says meanwhile is shown."""
    return subprocess.run(list(map(str, command)), check=True, stdout=-1, text=True).stdout.strip()


def second_gate() -> None:
    say("The second gate, on a real kernel in a virtual machine: no state was given by hand")
    here = CHECKOUT / "tests/vm"
    kernel = Path(output_of(here / "kernel", "release"))
    output_of(here / "build-module", kernel)
    script = str(here / "scripts/demo.py")
    result = run_in_vm(kernel, Path(sys.executable), script, timeout=1200, on_output=write_out)
    expect(result.status == 0, "the second gate did not do what it should")


def main() -> int:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="demo-") as logs:
        try:
            with Lab(Path(logs)) as lab:
                pair = prepare(lab)
                for step in (without_hook, install, blocked, mended):
                    step(pair)
            second_gate()
        except (LabError, VmError, subprocess.CalledProcessError) as error:
            print(f"demo: {error}", file=sys.stderr)
            return 1
    say(f"Done in {time.monotonic() - begun:.0f} seconds; all hosts are gone again")
    return 0


if __name__ == "__main__":
    sys.exit(main())

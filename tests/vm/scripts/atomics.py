"""What a real kernel says of AtomicOps: by VFIO, and by what sysfs shows.

The virtual machine's root ports complete those that its QEMU was told by the shim
(``fakevfio.c``), and the devices below them are the shim's too. Each argument is a device, as
ADDRESS=WIDTHS: what both have in common, as a number (``pci.atomics``). Prints CHECK lines, and for
each device::

    ATOMICS kernel | device | device completes | root port completes | VFIO says | sysfs says
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(CHECKOUT / "plugin"), str(CHECKOUT / "tests")]

from vfio_preflight.host.atomics import SINCE, read_atomics  # noqa: E402
from vfio_preflight.host.sources.sysfs import read_pci  # noqa: E402
from vfio_preflight.host.vfio import read_free  # noqa: E402
from vfio_preflight.pci.atomics import PCI_EXP_DEVCAP2, completed, to_text  # noqa: E402
from vfio_preflight.pci.ids import PCI_CAP_ID_EXP  # noqa: E402
from vfio_preflight.pci.space import capabilities, dword  # noqa: E402

PCI = Path("/sys/bus/pci/devices")
failed: list[str] = []


def check(what: str, holds: object) -> None:
    """One line of the result."""
    print(f"CHECK {'ok  ' if holds else 'FAIL'} {what}", flush=True)
    if not holds:
        failed.append(what)


def bind(device: Path) -> None:
    """Give a PCI device to vfio-pci."""
    (device / "driver_override").write_text("vfio-pci")
    if (device / "driver").exists():
        (device / "driver/unbind").write_text(device.name)
    Path("/sys/bus/pci/drivers_probe").write_text(device.name)


def register(directory: Path) -> int:
    """The widths in a function's own Device Capabilities 2."""
    config = (directory / "config").read_bytes()
    (found,) = (each for each in capabilities(config) if each.id == PCI_CAP_ID_EXP)
    return completed(dword(config, found.offset + PCI_EXP_DEVCAP2))


def look(kernel: str, address: str, expected: int) -> None:
    device = (PCI / address).resolve()
    bind(device)
    said, shown = read_free(address).state.atomics, read_atomics(address)
    cells = (register(device), register(device.parent), said, shown)
    words = ("not known" if each is None else to_text(each) for each in cells)
    print("ATOMICS", " | ".join((kernel, address, *words)), flush=True)
    says_it = tuple(int(part) for part in kernel.split(".")[:2]) >= SINCE
    check(f"{address}: VFIO says {to_text(expected if says_it else 0)}", said == expected * says_it)
    check(f"{address}: sysfs shows it", shown == (expected if says_it else None))
    check(f"{address}: the state by sysfs has it", read_pci(address).atomics == shown)


def main() -> int:
    subprocess.run(["modprobe", "vfio-pci"], check=False)
    for argument in sys.argv[1:]:
        address, _, widths = argument.partition("=")
        look(os.uname().release, address, int(widths))
    print(f"{len(failed)} of the checks failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

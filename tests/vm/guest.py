"""A QEMU in the virtual machine with VFIO devices, each below a root port of its own.

The devices can be marked: a number in the interrupt line, which a guest may write, QEMU's own copy
has, and VFIO shows.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vfio_preflight.qemu.model.values import Environment
from vfio_preflight.qemu.model.versions import behaviour

from .scripts.migrate import Qmp

PCI, MDEVS = Path("/sys/bus/pci/devices"), Path("/sys/bus/mdev/devices")
QEMU = ("qemu-system-x86_64", "-accel", "tcg", "-S", "-display", "none", "-nodefaults")
# Without DMA logging QEMU migrates a device only if it is told to.
MIGRATING = ",enable-migration=on,x-device-dirty-page-tracking=off"
SOCKET = "/tmp/guest.qmp"
INTERRUPT_LINE, SECONDARY_BUS, SUBORDINATE_BUS = 0x3C, 0x19, 0x1A


class Case(NamedTuple):
    """A QEMU's devices: their names on the host, all of one kind."""

    label: str
    names: tuple[str, ...]

    @property
    def mdev(self) -> bool:
        return len(self.names[0]) == 36

    def directory(self, name: str) -> Path:
        return Path(os.path.realpath((MDEVS if self.mdev else PCI) / name))


class Guest(NamedTuple):
    """A running QEMU with the devices of a case, each below a root port of its own."""

    case: Case
    pid: int
    qmp: Qmp
    environment: Environment


def arguments(case: Case, iommufd: bool, more: str) -> list[str]:
    """QEMU's command line."""
    result = [*QEMU, "-machine", "q35", "-m", "32", "-qmp", f"unix:{SOCKET},server=on,wait=off"]
    if iommufd:
        result += ["-object", "iommufd,id=iommufd0"]
        more += ",iommufd=iommufd0"
    for index, name in enumerate(case.names):
        result += ["-device", f"pcie-root-port,id=p{index},chassis={index + 1},addr={index + 1}"]
        device = f"vfio-pci,id=v{index},bus=p{index},sysfsdev={case.directory(name)}{more}"
        result += ["-device", device]
    return result


@contextlib.contextmanager
def running(case: Case, iommufd: bool) -> Iterator[Guest]:
    """A guest that was not let run yet. It ends with the block."""
    Path(SOCKET).unlink(missing_ok=True)
    process = subprocess.Popen(arguments(case, iommufd, MIGRATING if case.mdev else ""))
    try:
        qmp = Qmp(SOCKET)
        version = re.sub(r"^.*version ([0-9.]+).*$", r"\1", qemu_version())
        environment = Environment("root-port", behaviour=behaviour(version), mdev=case.mdev)
        yield Guest(case, process.pid, qmp, environment)
    finally:
        process.kill()
        process.wait()


def qemu_version() -> str:
    """The first line that it prints."""
    done = subprocess.run([QEMU[0], "--version"], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()[0]


def write_config(qmp: Qmp, bus: int, slot: int, offset: int, value: int) -> None:
    """Write a byte as a guest would, through the ports of PCI's configuration mechanism."""
    address = 0x80000000 | bus << 16 | slot << 11 | offset & ~3
    for line in (f"o /w 0xcf8 {address:#x}", f"o /b {0xCFC + (offset & 3):#x} {value:#x}"):
        qmp("human-monitor-command", **{"command-line": line})


def mark(guest: Guest, first: int) -> None:
    """Number the devices, from ``first`` on, in their interrupt lines."""
    for index in range(len(guest.case.names)):
        bus = index + 1
        for offset in (SECONDARY_BUS, SUBORDINATE_BUS):
            write_config(guest.qmp, 0, index + 1, offset, bus)
        write_config(guest.qmp, bus, 0, INTERRUPT_LINE, first + index)

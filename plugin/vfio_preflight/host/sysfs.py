"""Config states from sysfs: ``/sys/bus/pci/devices/ADDRESS``.

sysfs shows the physical function, VFIO a view of it. What the kernel documents of the difference is
undone here: a VF's IDs come from ``vendor`` and ``device``, because its own read ffff (SR-IOV 1.1,
3.4.1.1); BAR registers carry the type bits of ``resource`` and no host address, as
``vfio_bar_fixup`` shows them. Capabilities that vfio-pci hides stay visible: evidence ``sysfs``.

Source: Linux ``Documentation/PCI/sysfs-pci.rst``, ``drivers/vfio/pci/vfio_pci_config.c``.
"""

from __future__ import annotations

import os

from ..errors import PreflightError
from ..pci.space import validate
from ..pci.state import Bar, ConfigState

PCI_DEVICES = "sys/bus/pci/devices"
MDEV_DEVICES = "sys/bus/mdev/devices"

IORESOURCE_IO = 0x00000100
IORESOURCE_PREFETCH = 0x00002000
IORESOURCE_MEM_64 = 0x00100000
IORESOURCE_ROM = 6


class HostError(PreflightError):
    """Facts of this host that cannot be read."""


def read_pci(address: str, root: str = "/") -> ConfigState:
    """The state of the PCI device at ``address`` (``0000:06:00.4``). Raises :class:`HostError`."""
    directory = os.path.join(root, PCI_DEVICES, address)
    if not os.path.isdir(directory):
        raise HostError(f"this host has no PCI device {address}")
    path = os.path.join(directory, "config")
    config = bytearray(validate(_read(path), path))
    bars = _bars(directory)
    if os.path.lexists(os.path.join(directory, "physfn")):
        config[0:2] = _hex16(directory, "vendor")
        config[2:4] = _hex16(directory, "device")
    _virtualise_bars(config, bars)
    return ConfigState(bytes(config), bars, "sysfs", path)


def mdev_type(uuid: str, root: str = "/") -> str | None:
    """The type of the mediated device (``nvidia-63``), None if there is no such device here."""
    try:
        link = os.readlink(os.path.join(root, MDEV_DEVICES, uuid, "mdev_type"))
    except OSError:
        return None
    return os.path.basename(link)


def has_mdev(uuid: str, root: str = "/") -> bool:
    """Whether the mediated device exists on this host."""
    return os.path.isdir(os.path.join(root, MDEV_DEVICES, uuid))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(4097)
    except OSError as error:
        raise HostError(f"{path}: cannot be read: {error.strerror}") from error


def _hex16(directory: str, name: str) -> bytes:
    path = os.path.join(directory, name)
    try:
        return int(_read(path), 16).to_bytes(2, "little")
    except (ValueError, OverflowError) as error:
        raise HostError(f"{path}: not a number of 16 bits") from error


def _bars(directory: str) -> tuple[Bar, ...]:
    path = os.path.join(directory, "resource")
    lines = _read(path).decode("ascii", "replace").splitlines()[: IORESOURCE_ROM + 1]
    try:
        rows = [tuple(int(field, 16) for field in line.split()) for line in lines]
        return tuple(
            Bar(index, end - start + 1, _kind(flags), bool(flags & IORESOURCE_PREFETCH))
            for index, (start, end, flags) in enumerate(rows)
            if end > start
        )
    except ValueError as error:
        raise HostError(f"{path}: not a list of start, end and flags") from error


def _kind(flags: int) -> str:
    if flags & IORESOURCE_IO:
        return "io"
    return "mem64" if flags & IORESOURCE_MEM_64 else "mem32"


_TYPE_BITS = {"io": 0x1, "mem32": 0x0, "mem64": 0x4}


def _virtualise_bars(config: bytearray, bars: tuple[Bar, ...]) -> None:
    config[0x10:0x28] = bytes(24)
    for bar in bars:
        if bar.number < IORESOURCE_ROM:
            config[0x10 + 4 * bar.number] = _TYPE_BITS[bar.kind] | (8 if bar.prefetchable else 0)

"""Config states from sysfs: ``/sys/bus/pci/devices/ADDRESS``.

sysfs shows the physical function, VFIO a view of it. What the kernel's VFIO core does to the bytes
is done here: a VF's IDs come from ``vendor`` and ``device``, because its own read ffff (SR-IOV 1.1,
3.4.1.1), and it has no interrupt pin; BAR registers carry the type bits of ``resource`` and no host
address, and nothing if the host gave them none, as ``vfio_bar_fixup`` shows them; what the core
hides is hidden (:mod:`.vfio_view`). What a driver changes beyond that stays unknown, so the
evidence is ``sysfs`` all the same; of the drivers that are known to, the origin says so. A vGPU on
a VF (NVIDIA's vendor-specific framework) has nothing in common with what sysfs shows of the VF: it
is not read.

Source: Linux ``Documentation/PCI/sysfs-pci.rst``, ``drivers/vfio/pci/vfio_pci_config.c`` and the
drivers named in :data:`OWN_VIEW`; NVIDIA vGPU user guide, "current_vgpu_type".
"""

from __future__ import annotations

import os

from ...guest.addresses import is_mdev
from ...osutil.regular import read_start
from ...pci.space import validate
from ...pci.state import Bar, ConfigState
from .. import sysfs
from ..sysfs import PCI_DEVICES, HostError
from .request import Answer, Request

IORESOURCE_IO = 0x00000100
IORESOURCE_PREFETCH = 0x00002000
IORESOURCE_MEM_64 = 0x00100000
IORESOURCE_ROM = 6

PCI_ROM_ADDRESS = 0x30

# What a driver on the core shows otherwise than sysfs.
OWN_VIEW = {
    "hisi_acc_vfio_pci": "half of BAR2",
    "nvgrace_gpu_vfio_pci": "BAR2 and BAR4 of its own",
    "virtio_vfio_pci": "IDs, class and BAR0 of a transitional device",
}
# Of these, those that show other IDs.
OWN_IDS = ("virtio_vfio_pci",)


def read(request: Request) -> Answer:
    """The state of a PCI device whose configuration space sysfs shows. Raises ``HostError``."""
    if not sysfs.shows_config(request.name, request.root):
        return Answer(None, _why_not(request.name, request.root))
    return Answer(read_pci(request.name, request.root))


def _why_not(name: str, root: str) -> str:
    if not is_mdev(name):
        kind = sysfs.vgpu_type(name, root)
        if not kind:
            return f"VF {name} has no vGPU type set (nvidia/current_vgpu_type)"
        return f"the vGPU on VF {name} ({kind}) shows no configuration space in sysfs"
    if not sysfs.has_mdev(name, root):
        return f"this host has no mediated device {name}"
    kind = sysfs.mdev_type(name, root) or "type unknown"
    return f"mediated device {name} ({kind}) shows no configuration space in sysfs"


def read_pci(address: str, root: str = "/") -> ConfigState:
    """The state of the PCI device at ``address`` (``0000:06:00.4``). Raises :class:`HostError`."""
    directory = os.path.join(root, PCI_DEVICES, address)
    if not sysfs.has_pci(address, root):
        raise HostError(f"this host has no PCI device {address}")
    path = os.path.join(directory, "config")
    config = bytearray(validate(_read(path), path))
    # From resource: the registers in config hold the host's addresses, which VFIO never shows.
    bars = _bars(directory)
    # physfn exists for VFs only.
    virtual_function = os.path.lexists(os.path.join(directory, "physfn"))
    # vfio_config_init() does the same with pdev->vendor and pdev->device.
    if virtual_function:
        config[0:2] = _hex16(directory, "vendor")
        config[2:4] = _hex16(directory, "device")
    virtualise_bars(config, bars)
    # Imported late: of an mdev, or beside a file, there is nothing to convert.
    from ..atomics import read_atomics
    from .vfio_view import vfio_view

    view = vfio_view(bytes(config), virtual_function)
    driver = sysfs.driver_of(address, root)
    # Driver names differ from module names in dashes.
    own = OWN_VIEW.get(driver.replace("-", "_"))
    origin = f"{path}; {driver} shows {own}" if own else path
    return ConfigState(view, bars, "sysfs", origin, read_atomics(address, root))


def shows_own_ids(address: str, root: str = "/") -> bool:
    """Whether the driver of the PCI device shows other IDs than sysfs does."""
    return sysfs.driver_of(address, root).replace("-", "_") in OWN_IDS


def _read(path: str) -> bytes:
    try:
        return read_start(path, 4097)
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
    # Lines behind the ROM are bridge windows and SR-IOV BARs, which VFIO does not show.
    lines = _read(path).decode("ascii", "replace").splitlines()[: IORESOURCE_ROM + 1]
    try:
        rows = [tuple(int(field, 16) for field in line.split()) for line in lines]
        return tuple(
            # start 0: the host has not assigned the BAR, so its flags say nothing to VFIO.
            _bar(index, end - start + 1, flags if start else 0)
            for index, (start, end, flags) in enumerate(rows)
            # An unused BAR is a line of zeros.
            if end > start
        )
    except ValueError as error:
        raise HostError(f"{path}: not a list of start, end and flags") from error


def _bar(index: int, size: int, flags: int) -> Bar:
    """A BAR as its register shows it. One without an address on the host reads 0 through VFIO, for
    which QEMU takes it for 32-bit memory; the size of its region stays."""
    return Bar(index, size, _kind(flags), bool(flags & IORESOURCE_PREFETCH))


def _kind(flags: int) -> str:
    if flags & IORESOURCE_IO:
        return "io"
    return "mem64" if flags & IORESOURCE_MEM_64 else "mem32"


_TYPE_BITS = {"io": 0x1, "mem32": 0x0, "mem64": 0x4}


def virtualise_bars(config: bytearray, bars: tuple[Bar, ...]) -> None:
    """Make the BARs' registers in ``config`` those that VFIO shows, but for addresses."""
    # VFIO starts with empty BAR registers; QEMU and the guest program addresses of their own.
    config[0x10:0x28] = bytes(24)
    config[PCI_ROM_ADDRESS : PCI_ROM_ADDRESS + 4] = bytes(4)
    for bar in bars:
        # Bit 3 marks prefetchable memory; the ROM register has only its enable bit, which is 0.
        if bar.number < IORESOURCE_ROM:
            config[0x10 + 4 * bar.number] = _TYPE_BITS[bar.kind] | (8 if bar.prefetchable else 0)

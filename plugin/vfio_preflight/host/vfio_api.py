"""VFIO's user API, as far as it takes to read an open device: its structures, and what they say.

Everything here only asks: nothing changes the state of a device.

Source: Linux ``include/uapi/linux/vfio.h``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from ..osutil.light import NamedTuple
from ..pci.atomics import ALL
from ..pci.space import PCI_CONFIG_SPACE_SIZE, PCIE_CONFIG_SPACE_SIZE, dword
from ..pci.state import NO_MIGRATION, Bar, ConfigState
from .sysfs import HostError


class VfioError(HostError):
    """A device that VFIO cannot open, or whose answers are invalid."""


class NotFreeError(VfioError):
    """A device that is in use, or that no VFIO driver has yet: libvirt binds it for the guest."""


class VfioDevice(NamedTuple):
    """What VFIO reports about a device.

    ``migration`` has the names of what the driver can do, of :data:`MIGRATION_FLAGS`; it is None
    for a driver that cannot migrate the device at all. ``data_size`` is how many bytes of device
    state the driver expects to send while the guest stands still, None where it does not say.
    ``asked`` is False where the driver was not asked about migration: both are None then.
    """

    state: ConfigState
    migration: tuple[str, ...] | None
    data_size: int | None = None
    asked: bool = True

    @property
    def offers(self) -> str:
        """What its driver offers for migration, in words: ``stop-copy p2p``, ``none``, or empty
        where it was not asked.

        Without ``stop-copy`` it is nothing to QEMU (``vfio_migration_init``).
        """
        if not self.asked:
            return ""
        flags = self.migration or ()
        return " ".join(flags) if MIGRATION_FLAGS[0] in flags else NO_MIGRATION


def _io(number: int) -> int:
    """``_IO(VFIO_TYPE, VFIO_BASE + number)``."""
    # _IOC_NONE: VFIO encodes neither direction nor size, so the structures carry argsz.
    return ord(";") << 8 | 100 + number


VFIO_API_VERSION = 0
VFIO_TYPE1v2_IOMMU = 3
VFIO_GET_API_VERSION = _io(0)
VFIO_SET_IOMMU = _io(2)
VFIO_GROUP_GET_STATUS = _io(3)
VFIO_GROUP_SET_CONTAINER = _io(4)
VFIO_GROUP_GET_DEVICE_FD = _io(6)
VFIO_DEVICE_GET_INFO = _io(7)
VFIO_DEVICE_GET_REGION_INFO = _io(8)
VFIO_DEVICE_FEATURE = _io(17)
VFIO_DEVICE_BIND_IOMMUFD = _io(18)

VFIO_GROUP_FLAGS_VIABLE = 1
# VFIO devices on other buses (vfio-ap, vfio-ccw, platform) have no config space.
VFIO_DEVICE_FLAGS_PCI = 2
VFIO_DEVICE_FLAGS_CAPS = 1 << 7
VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP = 5
# Bytes of a device's capabilities: some dozens, on s390x a few hundred.
_MAX_INFO = 1 << 16
VFIO_PCI_BAR5_REGION_INDEX = 5
VFIO_PCI_ROM_REGION_INDEX = 6
VFIO_PCI_CONFIG_REGION_INDEX = 7
VFIO_DEVICE_FEATURE_GET = 1 << 16
VFIO_DEVICE_FEATURE_MIGRATION = 1
VFIO_DEVICE_FEATURE_MIG_DATA_SIZE = 9

# VFIO_MIGRATION_*, bit 0 first.
MIGRATION_FLAGS = ("stop-copy", "p2p", "pre-copy")

GROUP_STATUS = struct.Struct("=II")  # argsz, flags
# argsz, flags, regions, interrupts, offset of the first capability
_DEVICE_INFO = struct.Struct("=IIIII")
_CAPABILITY = struct.Struct("=HHI")  # its number, version, offset of the next one
_ATOMIC_COMP = struct.Struct("=HHIII")  # the same; flags, reserved
_REGION_INFO = struct.Struct("=IIIIQQ")  # argsz, flags, index, capabilities, size, offset
_FEATURE = struct.Struct("=IIQ")  # argsz, feature, and one number: flags, or a length
BIND_IOMMUFD = struct.Struct("=IIiI")  # argsz, flags, iommufd, device


def ask(device: int, request: int, layout: struct.Struct, *values: int) -> tuple[int, ...]:
    """Pass a structure that begins with its size, and return it as the kernel filled it in."""
    # argsz tells the kernel how much of the structure this caller knows.
    padded = (*values, *(0,) * (len(layout.unpack(bytes(layout.size))) - 1 - len(values)))
    buffer = bytearray(layout.pack(layout.size, *padded))
    fcntl.ioctl(device, request, buffer)
    return layout.unpack(buffer)


def read_device(
    device: int, name: str, origin: str, *, rom: bool, migration: bool = True
) -> VfioDevice:
    """What the open device says.

    Asking for a ROM's size makes vfio-pci switch the device's memory on for a moment
    (``vfio_pci_core_ioctl``, VFIO_PCI_ROM_REGION_INDEX): ``rom`` is for free devices. A driver must
    not be asked about ``migration`` while one of this device is under way: mlx5's answer to
    MIG_DATA_SIZE is a command to its firmware. Raises :class:`VfioError`, OSError.
    """
    needed, flags, *_ = ask(device, VFIO_DEVICE_GET_INFO, _DEVICE_INFO)
    if not flags & VFIO_DEVICE_FLAGS_PCI:
        raise VfioError(f"{name}: VFIO knows this device, but not as a PCI device")
    size, offset = _region(device, VFIO_PCI_CONFIG_REGION_INDEX)
    config = seen_by_qemu(os.pread(device, min(size, PCIE_CONFIG_SPACE_SIZE), offset))
    last = VFIO_PCI_ROM_REGION_INDEX if rom else VFIO_PCI_BAR5_REGION_INDEX
    sizes = ((index, _region(device, index)[0]) for index in range(last + 1))
    # The registers show a BAR's type; only the region's size tells how large it is.
    bars = tuple(_bar(config, index, size) for index, size in sizes if size)
    atomics = _atomics(device, needed) if flags & VFIO_DEVICE_FLAGS_CAPS else 0
    state = ConfigState(config, bars, "vfio", origin, atomics)
    if not migration:
        return VfioDevice(state, None, asked=False)
    return VfioDevice(
        state, _migration(device), _feature(device, VFIO_DEVICE_FEATURE_MIG_DATA_SIZE)
    )


def seen_by_qemu(region: bytes) -> bytes:
    """The configuration space that QEMU makes of a config region of any size.

    Only one of exactly 256 bytes makes a device without extended space (``vfio_populate_device``
    takes QEMU_PCI_CAP_EXPRESS from it). Any other has 4096, of which what the region lacks stays
    zero (``vfio_pci_realize`` reads the smaller of the two). The kernel's sample device mtty has
    255, which makes 4096.
    """
    if len(region) == PCI_CONFIG_SPACE_SIZE:
        return region
    return region[:PCIE_CONFIG_SPACE_SIZE].ljust(PCIE_CONFIG_SPACE_SIZE, b"\0")


def _region(device: int, index: int) -> tuple[int, int]:
    """Size and offset of a region; the kernel's answer for a ROM that is not there is EINVAL."""
    try:
        answer = ask(device, VFIO_DEVICE_GET_REGION_INFO, _REGION_INFO, 0, index)
    except OSError as error:
        if error.errno == errno.EINVAL and index == VFIO_PCI_ROM_REGION_INDEX:
            return 0, 0
        raise
    return answer[4], answer[5]


def _atomics(device: int, needed: int) -> int:
    """The AtomicOps to the root (``pci.atomics``) among the device's capabilities; 0 without them.

    ``needed`` is how many bytes the kernel has to say. QEMU goes by the very same answer.
    """
    buffer = bytearray(min(max(needed, _DEVICE_INFO.size), _MAX_INFO))
    _DEVICE_INFO.pack_into(buffer, 0, len(buffer), 0, 0, 0, 0)
    fcntl.ioctl(device, VFIO_DEVICE_GET_INFO, buffer)
    at, seen = _DEVICE_INFO.unpack_from(buffer)[4], set[int]()
    # Offsets are from the structure's start; the last capability's next is 0.
    while at not in seen and _DEVICE_INFO.size <= at <= len(buffer) - _CAPABILITY.size:
        seen.add(at)
        identifier, _, following = _CAPABILITY.unpack_from(buffer, at)
        fits = at + _ATOMIC_COMP.size <= len(buffer)
        if identifier == VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP and fits:
            return int(_ATOMIC_COMP.unpack_from(buffer, at)[3]) & ALL
        at = following
    return 0


def _bar(config: bytes, index: int, size: int) -> Bar:
    if index == VFIO_PCI_ROM_REGION_INDEX:
        # A ROM BAR is always 32 bits wide.
        return Bar(index, size, "mem32")
    register = dword(config, 0x10 + 4 * index)
    if register & 1:
        return Bar(index, size, "io")
    return Bar(index, size, "mem64" if register & 4 else "mem32", bool(register & 8))


def _migration(device: int) -> tuple[str, ...] | None:
    flags = _feature(device, VFIO_DEVICE_FEATURE_MIGRATION)
    if flags is None:
        return None
    return tuple(name for bit, name in enumerate(MIGRATION_FLAGS) if flags >> bit & 1)


def _feature(device: int, feature: int) -> int | None:
    """The number that the driver answers; None for one that lacks the feature."""
    try:
        return ask(device, VFIO_DEVICE_FEATURE, _FEATURE, VFIO_DEVICE_FEATURE_GET | feature)[2]
    except OSError as error:
        # ENOTTY: the driver has no migration operations (drivers/vfio/vfio_main.c).
        if error.errno in (errno.ENOTTY, errno.EINVAL):
            return None
        raise

"""Config states as VFIO itself gives them, and whether a device can migrate.

This is the view that QEMU gets: capabilities hidden, IDs of VFs filled in, BARs virtualised. For a
device that is not in use (``read_free``) it is read as QEMU reads it, by opening the device. The
kernel then resets the device, and NVIDIA's driver wakes its vGPU manager: whether a device may be
opened is the operator's decision, and not made here. For a device in use (``read_in_use``) it is
read through a duplicate of QEMU's own descriptor, and only read::

    device = read_free("0000:06:00.4")
    device.state.config, device.state.bars, device.migration

A duplicate is taken only of a descriptor that certainly is the device's: by what fdinfo says
(Linux 6.18 or newer), by the number of its character device (iommufd), or because the
process has one VFIO device and one group, in which there is no other device.

Source: Linux ``include/uapi/linux/vfio.h``, ``drivers/vfio/``, pidfd_getfd(2).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator

from ..guest.addresses import host_address, uuid
from ..osutil.light import NamedTuple
from ..pci.space import dword, validate
from ..pci.state import NO_MIGRATION, Bar, ConfigState
from .descriptors import descriptor_of, duplicate
from .sysfs import MDEV_DEVICES, PCI_DEVICES, HostError


class VfioError(HostError):
    """A device that VFIO cannot open, or whose answers are invalid."""


class NotFreeError(VfioError):
    """A device that is in use, or that no VFIO driver has yet: libvirt binds it for the guest."""


class VfioDevice(NamedTuple):
    """What VFIO reports about a device.

    ``migration`` has the names of what the driver can do, of :data:`MIGRATION_FLAGS`; it is None
    for a driver that cannot migrate the device at all.
    """

    state: ConfigState
    migration: tuple[str, ...] | None

    @property
    def offers(self) -> str:
        """What its driver offers for migration, in words: ``stop-copy p2p``, or ``none``.

        Without ``stop-copy`` it is nothing to QEMU (``vfio_migration_init``).
        """
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
VFIO_PCI_BAR5_REGION_INDEX = 5
VFIO_PCI_ROM_REGION_INDEX = 6
VFIO_PCI_CONFIG_REGION_INDEX = 7
VFIO_DEVICE_FEATURE_GET = 1 << 16
VFIO_DEVICE_FEATURE_MIGRATION = 1

# VFIO_MIGRATION_*, bit 0 first.
MIGRATION_FLAGS = ("stop-copy", "p2p", "pre-copy")

_GROUP_STATUS = struct.Struct("=II")  # argsz, flags
_DEVICE_INFO = struct.Struct("=IIII")  # argsz, flags, regions, interrupts
_REGION_INFO = struct.Struct("=IIIIQQ")  # argsz, flags, index, capabilities, size, offset
_FEATURE_MIGRATION = struct.Struct("=IIQ")  # argsz, feature, flags
_BIND_IOMMUFD = struct.Struct("=IIiI")  # argsz, flags, iommufd, device

_CAUSES = {
    errno.EBUSY: "it is in use, by a guest or by something else",
    errno.ENOENT: "it is not bound to a VFIO driver, or the vfio modules are not loaded",
    errno.EACCES: "permission denied; this needs root, and no vf-token (a VF has one if its PF"
    " is bound to vfio-pci)",
    errno.EPERM: "permission denied; this needs root",
}


def read_free(name: str, root: str = "/") -> VfioDevice:
    """The device with PCI address or mdev UUID ``name``, which is not in use, by opening it.

    Through iommufd where the kernel offers the device there, or else through its group, for which
    all devices of the group must be unused. Raises VfioError.
    """
    directory = _directory(name, root)
    cdev = _cdev(directory, root)
    with _explained(name), contextlib.ExitStack() as stack:
        opened = (
            _open_cdev(cdev, root, stack) if cdev else _open_group(name, directory, root, stack)
        )
        return _read(opened, name, f"VFIO, {name}", VFIO_PCI_ROM_REGION_INDEX)


def read_in_use(name: str, pid: int, root: str = "/") -> VfioDevice:
    """The device that process ``pid`` has open, read through a duplicate of its descriptor.

    These are the bytes as they are now, not those of when QEMU started. Its ROM is left out of
    ``bars``: asking for it switches the device's memory on for a moment. Raises VfioError, also
    if it is not certain which descriptor is the device's.
    """
    directory = _directory(name, root)
    if not os.path.isdir(os.path.join(root, f"proc/{pid}")):
        raise VfioError(f"{name}: process {pid}, which should be using it, is gone")
    with _explained(name), contextlib.ExitStack() as stack:
        number = descriptor_of(directory, pid, root)
        if number is None:
            raise VfioError(
                f"{name}: it is not certain which open file of process {pid} is the"
                " device; from Linux 6.18 on it can"
            )
        opened = stack.enter_context(_closing(duplicate(pid, number)))
        # QEMU could have closed the descriptor, and the number been reused, before the duplicate
        # was taken: looked up twice, it is the same device.
        if descriptor_of(directory, pid, root) != number:
            raise VfioError(f"{name}: process {pid} closed the device while it was being read")
        return _read(opened, name, f"VFIO, {name} in use", VFIO_PCI_BAR5_REGION_INDEX)


def _directory(name: str, root: str) -> str:
    # Before it becomes part of a path: the name can come from a guest's XML.
    if name not in (host_address(name), uuid(name)):
        raise VfioError(f"{name[:60]!a} is neither a full PCI address nor an mdev UUID")
    place = MDEV_DEVICES if len(name) == 36 else PCI_DEVICES
    directory = os.path.realpath(os.path.join(root, place, name))
    if not os.path.isdir(directory):
        raise VfioError(f"this host has no device {name}")
    return directory


def _cdev(directory: str, root: str) -> str | None:
    """The name of the device's character device; None if iommufd or the device is not offered."""
    try:
        # vfio-dev/vfioN exists for each VFIO device from Linux 6.1 on, its node with iommufd only.
        (name,) = os.listdir(os.path.join(directory, "vfio-dev"))
    except (OSError, ValueError):
        return None
    nodes = (os.path.join(root, "dev/vfio/devices", name), os.path.join(root, "dev/iommu"))
    # The nodes can be missing: in a container, or in a kernel without IOMMUFD (Debian's 6.12).
    return name if all(map(os.path.exists, nodes)) else None


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cause = _CAUSES.get(error.errno or 0, error.strerror)
        where = f" ({error.filename})" if error.filename else ""
        # ENOENT: /dev/vfio/GROUP appears only once a VFIO driver has bound a device of the group.
        kind = NotFreeError if error.errno in (errno.EBUSY, errno.ENOENT) else VfioError
        raise kind(f"{name}: VFIO does not give this device: {cause}{where}") from error


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(stack: contextlib.ExitStack, root: str, *path: str) -> int:
    # O_RDWR, as for QEMU; VFIO's ioctls need it.
    opened = os.open(os.path.join(root, *path), os.O_RDWR | os.O_CLOEXEC)
    return stack.enter_context(_closing(opened))


def _open_cdev(cdev: str, root: str, stack: contextlib.ExitStack) -> int:
    # Held open until the device is read: the bind lasts as long as the device's descriptor.
    device = _open(stack, root, "dev/vfio/devices", cdev)
    iommufd = _open(stack, root, "dev/iommu")
    # Without a bind, a character device answers no other ioctl (drivers/vfio/device_cdev.c).
    _ask(device, VFIO_DEVICE_BIND_IOMMUFD, _BIND_IOMMUFD, 0, iommufd, 0)
    return device


def _open_group(name: str, directory: str, root: str, stack: contextlib.ExitStack) -> int:
    # vfio-noiommu groups have another name (/dev/vfio/noiommu-N): these are not opened.
    number = os.path.basename(os.readlink(os.path.join(directory, "iommu_group")))
    group = _open(stack, root, "dev/vfio", number)
    container = _open(stack, root, "dev/vfio/vfio")
    if fcntl.ioctl(container, VFIO_GET_API_VERSION) != VFIO_API_VERSION:
        raise VfioError(f"{name}: the kernel's VFIO has an API of another version")
    # A group is viable if no device in it has a driver that could do DMA beside VFIO.
    if not _ask(group, VFIO_GROUP_GET_STATUS, _GROUP_STATUS, 0)[1] & VFIO_GROUP_FLAGS_VIABLE:
        raise VfioError(
            f"{name}: IOMMU group {number} has devices that are bound to other drivers than VFIO's"
        )
    # GET_DEVICE_FD needs a container with an IOMMU set, even though no memory is mapped.
    fcntl.ioctl(group, VFIO_GROUP_SET_CONTAINER, struct.pack("=i", container))
    fcntl.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU)
    # With a mutable buffer, fcntl.ioctl() returns the system call's result: here, a descriptor.
    device = fcntl.ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bytearray(name.encode() + b"\0"))
    return stack.enter_context(_closing(device))


def _ask(device: int, request: int, layout: struct.Struct, *values: int) -> tuple[int, ...]:
    """Pass a structure that begins with its size, and return it as the kernel filled it in."""
    # argsz tells the kernel how much of the structure this caller knows.
    padded = (*values, *(0,) * (len(layout.unpack(bytes(layout.size))) - 1 - len(values)))
    buffer = bytearray(layout.pack(layout.size, *padded))
    fcntl.ioctl(device, request, buffer)
    return layout.unpack(buffer)


def _read(device: int, name: str, origin: str, last: int) -> VfioDevice:
    """``last`` is the last region to ask for as a BAR."""
    if not _ask(device, VFIO_DEVICE_GET_INFO, _DEVICE_INFO)[1] & VFIO_DEVICE_FLAGS_PCI:
        raise VfioError(f"{name}: VFIO knows this device, but not as a PCI device")
    size, offset = _region(device, VFIO_PCI_CONFIG_REGION_INDEX)
    # 4097: one byte more than the largest config space, so that validate() sees a larger region.
    config = validate(os.pread(device, min(size, 4097), offset), origin)
    sizes = ((index, _region(device, index)[0]) for index in range(last + 1))
    # The registers show a BAR's type; only the region's size tells how large it is.
    bars = tuple(_bar(config, index, size) for index, size in sizes if size)
    return VfioDevice(ConfigState(config, bars, "vfio", origin), _migration(device))


def _region(device: int, index: int) -> tuple[int, int]:
    """Size and offset of a region; the kernel's answer for a ROM that is not there is EINVAL."""
    try:
        answer = _ask(device, VFIO_DEVICE_GET_REGION_INFO, _REGION_INFO, 0, index)
    except OSError as error:
        if error.errno == errno.EINVAL and index == VFIO_PCI_ROM_REGION_INDEX:
            return 0, 0
        raise
    return answer[4], answer[5]


def _bar(config: bytes, index: int, size: int) -> Bar:
    if index == VFIO_PCI_ROM_REGION_INDEX:
        # A ROM BAR is always 32 bits wide.
        return Bar(index, size, "mem32")
    register = dword(config, 0x10 + 4 * index)
    if register & 1:
        return Bar(index, size, "io")
    return Bar(index, size, "mem64" if register & 4 else "mem32", bool(register & 8))


def _migration(device: int) -> tuple[str, ...] | None:
    feature = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION
    try:
        flags = _ask(device, VFIO_DEVICE_FEATURE, _FEATURE_MIGRATION, feature)[2]
    except OSError as error:
        # ENOTTY: the driver has no migration operations (drivers/vfio/vfio_main.c).
        if error.errno in (errno.ENOTTY, errno.EINVAL):
            return None
        raise
    return tuple(name for bit, name in enumerate(MIGRATION_FLAGS) if flags >> bit & 1)

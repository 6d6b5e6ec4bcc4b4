"""Config states as VFIO itself gives them, and whether a device can migrate.

This is the view that QEMU gets: capabilities hidden, IDs of VFs filled in, BARs virtualised. For a
device that is not in use (``read_free``) it is read as QEMU reads it, by opening the device. The
kernel then resets the device, and NVIDIA's driver wakes its vGPU manager: whether a device may be
opened is the operator's decision, and not made here. For a device in use (``read_in_use``) it is
read through a duplicate of QEMU's own descriptor, and only read::

    device = read_free("0000:06:00.4")
    device.state.config, device.state.bars, device.migration

A duplicate is taken only of a descriptor that certainly is the device's: by what fdinfo says
(Linux 6.18 or newer) or by the number of its character device (iommufd). Otherwise a duplicate of
the descriptor of its IOMMU *group* is asked for the device by name, which works on every kernel:
the VFIO core counts how often a device is open, and calls the driver for the first time alone
(``vfio_df_open``), so that QEMU is not disturbed.

Source: Linux ``drivers/vfio/vfio_main.c``, ``group.c``; pidfd_getfd(2).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator

from ..guest.addresses import host_address, uuid
from ..osutil.regular import read_start
from ..pci.space import identity
from .descriptors import descriptor_of, duplicate, group_of, may_open_again
from .sources.sysfs import shows_own_ids
from .sysfs import MDEV_DEVICES, PCI_DEVICES
from .vfio_api import (
    BIND_IOMMUFD,
    GROUP_STATUS,
    VFIO_API_VERSION,
    VFIO_DEVICE_BIND_IOMMUFD,
    VFIO_GET_API_VERSION,
    VFIO_GROUP_FLAGS_VIABLE,
    VFIO_GROUP_GET_DEVICE_FD,
    VFIO_GROUP_GET_STATUS,
    VFIO_GROUP_SET_CONTAINER,
    VFIO_SET_IOMMU,
    NotFreeError,
    VFIO_TYPE1v2_IOMMU,
    VfioDevice,
    VfioError,
    ask,
    read_device,
)

__all__ = ["NotFreeError", "VfioDevice", "VfioError", "read_free", "read_in_use"]

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
        return read_device(opened, name, f"VFIO, {name}", rom=True)


def read_in_use(name: str, pid: int, root: str = "/", *, migration: bool = True) -> VfioDevice:
    """The device that process ``pid`` has open, read through a duplicate of its descriptor.

    These are the bytes as they are now, not those of when QEMU started. Its ROM is left out of
    ``bars``. ``migration``: ask the driver about that too, which must not be done while a migration
    of the device is under way. Raises VfioError, also if it is not certain which descriptor is the
    device's.
    """
    directory = _directory(name, root)
    if not os.path.isdir(os.path.join(root, f"proc/{pid}")):
        raise VfioError(f"{name}: process {pid}, which should be using it, is gone")
    with _explained(name), contextlib.ExitStack() as stack:
        opened = _duplicate(name, directory, pid, root, stack)
        device = read_device(opened, name, f"VFIO, {name} in use", rom=False, migration=migration)
        _require_identity(name, device, directory, root)
        return device


def _duplicate(name: str, directory: str, pid: int, root: str, stack: contextlib.ExitStack) -> int:
    """The process's own descriptor of the device, or another one through that of its group."""
    number = descriptor_of(directory, pid, root)
    if number is not None:
        opened = stack.enter_context(_closing(duplicate(pid, number)))
        # QEMU could have closed the descriptor, and the number been reused, before the duplicate
        # was taken: looked up twice, it is the same device.
        if descriptor_of(directory, pid, root) != number:
            raise VfioError(f"{name}: process {pid} closed the device while it was being read")
        return opened
    number = group_of(directory, pid, root)
    if number is None:
        raise VfioError(f"{name}: process {pid} has neither the device nor its IOMMU group open")
    if not may_open_again(directory, root):
        raise VfioError(
            f"{name}: this kernel would have the mediated device's driver open it once more;"
            " from Linux 5.15 on it would not"
        )
    group = stack.enter_context(_closing(duplicate(pid, number)))
    if group_of(directory, pid, root) != number:
        raise VfioError(f"{name}: process {pid} closed the group while the device was being read")
    return _device_of_group(group, name, stack)


def _require_identity(name: str, device: VfioDevice, directory: str, root: str) -> None:
    """What was read must be what sysfs says the device is. An mdev has no IDs of its own there."""
    # Drivers that show a guest other IDs than the device has: a transitional virtio device.
    if shows_own_ids(name, root):
        return
    ids = [_id(directory, "vendor"), _id(directory, "device")]
    found = identity(device.state.config)
    if all(ids) and found != ":".join(ids):
        raise VfioError(f"{name}: VFIO gives a device {found}, where sysfs has {':'.join(ids)}")


def _id(directory: str, name: str) -> str:
    try:
        return read_start(os.path.join(directory, name), 16).decode("ascii").strip()[2:]
    except (OSError, ValueError):
        return ""


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
    ask(device, VFIO_DEVICE_BIND_IOMMUFD, BIND_IOMMUFD, 0, iommufd, 0)
    return device


def _open_group(name: str, directory: str, root: str, stack: contextlib.ExitStack) -> int:
    # vfio-noiommu groups have another name (/dev/vfio/noiommu-N): these are not opened.
    number = os.path.basename(os.readlink(os.path.join(directory, "iommu_group")))
    group = _open(stack, root, "dev/vfio", number)
    container = _open(stack, root, "dev/vfio/vfio")
    if fcntl.ioctl(container, VFIO_GET_API_VERSION) != VFIO_API_VERSION:
        raise VfioError(f"{name}: the kernel's VFIO has an API of another version")
    # A group is viable if no device in it has a driver that could do DMA beside VFIO.
    if not ask(group, VFIO_GROUP_GET_STATUS, GROUP_STATUS, 0)[1] & VFIO_GROUP_FLAGS_VIABLE:
        raise VfioError(
            f"{name}: IOMMU group {number} has devices that are bound to other drivers than VFIO's"
        )
    # GET_DEVICE_FD needs a container with an IOMMU set, even though no memory is mapped.
    fcntl.ioctl(group, VFIO_GROUP_SET_CONTAINER, struct.pack("=i", container))
    fcntl.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU)
    return _device_of_group(group, name, stack)


def _device_of_group(group: int, name: str, stack: contextlib.ExitStack) -> int:
    # With a mutable buffer, fcntl.ioctl() returns the system call's result: here, a descriptor.
    device = fcntl.ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bytearray(name.encode() + b"\0"))
    return stack.enter_context(_closing(device))

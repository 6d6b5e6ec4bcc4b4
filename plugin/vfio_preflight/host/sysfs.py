"""What sysfs says about a device of this host: whether it exists, its type, its driver.

What a PCI device presents is read by ``sources.sysfs``.

Source: Linux ``Documentation/ABI/testing/sysfs-bus-pci``, ``sysfs-bus-vfio-mdev``; NVIDIA vGPU user
guide, "current_vgpu_type".
"""

from __future__ import annotations

import os

from ..errors import PreflightError
from ..guest.addresses import is_mdev
from ..osutil.regular import read_start

PCI_DEVICES = "sys/bus/pci/devices"
MDEV_DEVICES = "sys/bus/mdev/devices"


class HostError(PreflightError):
    """Facts of this host that cannot be read."""


def shows_config(name: str, root: str = "/") -> bool:
    """Whether sysfs shows what VFIO presents for ``name``: not for mdevs, nor for vGPUs on VFs."""
    return not is_mdev(name) and vgpu_type(name, root) is None


def exists(name: str, root: str = "/") -> bool:
    """Whether the PCI device or mediated device exists on this host."""
    return has_mdev(name, root) if is_mdev(name) else has_pci(name, root)


def has_pci(address: str, root: str = "/") -> bool:
    """Whether the PCI device exists on this host."""
    return os.path.isdir(os.path.join(root, PCI_DEVICES, address))


def has_mdev(uuid: str, root: str = "/") -> bool:
    """Whether the mediated device exists on this host."""
    return os.path.isdir(os.path.join(root, MDEV_DEVICES, uuid))


def driver_of(name: str, root: str = "/") -> str:
    """The driver that the PCI device is bound to, empty for none."""
    return _link(os.path.join(root, PCI_DEVICES, name, "driver")) or ""


def vgpu_type(address: str, root: str = "/") -> str | None:
    """The type of the vGPU on a VF (``nvidia-1155``), empty if none is set; None if it has none.

    The VF must exist. What sysfs shows as its configuration space is not the vGPU's.
    """
    path = os.path.join(root, PCI_DEVICES, address, "nvidia", "current_vgpu_type")
    try:
        number = read_start(path, 16).strip()
    except OSError:
        return None
    # "0" means that no vGPU type is set on the VF: libvirt would hand out a VF without a vGPU.
    return f"nvidia-{int(number)}" if number.isdigit() and int(number) else ""


def mdev_type(uuid: str, root: str = "/") -> str | None:
    """The type of the mediated device (``nvidia-63``), None if there is no such device here."""
    return _link(os.path.join(root, MDEV_DEVICES, uuid, "mdev_type"))


def _link(path: str) -> str | None:
    try:
        return os.path.basename(os.readlink(path))
    except OSError:
        return None

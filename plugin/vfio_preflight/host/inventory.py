"""The devices of this host that a guest could be given, and what can still be made of them.

    >>> here = read_inventory()
    >>> here.devices["0000:06:00.4"].traits.driver, here.devices["0000:06:00.4"].holder
    ('mlx5_vfio_pci', '')

Reads sysfs and /proc, and opens no device. For dry runs and ``vfio-preflight host``: a migration
does without, because libvirt itself refuses a device that is missing or in use before QEMU sends
any memory.

Source: Linux ``Documentation/ABI/testing/sysfs-bus-pci``, ``sysfs-bus-vfio-mdev``,
``sysfs-kernel-iommu_groups``; NVIDIA vGPU user guide, "creatable_vgpu_types".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from ..guest.traits import Traits, module_of
from ..osutil.light import NamedTuple
from . import devlink
from .holders import Holders, read_holders
from .pools import Pool, read_pools
from .sysfs import MDEV_DEVICES, PCI_DEVICES, vgpu_type
from .text import names_in, number, target, text
from .traits import read_traits

PCI, MDEV = "pci", "mdev"
MDEV_BUS = "sys/class/mdev_bus"
# Base class 06: bridges are no devices that VFIO gives to a guest.
_BRIDGE = "06"
# More devices than any host has: what is read here goes into JSON that others read.
MAX_DEVICES = 4096


class HostDevice(NamedTuple):
    """A PCI function or mediated device of a host.

    ``name`` is a PCI address or mdev UUID, ``kind`` ``pci`` or ``mdev``; ``class_code`` is PCI's,
    six hexadecimal digits. ``parent`` is a VF's physical function or an mdev's parent device.
    ``group`` is its IOMMU group, ``neighbours`` are others in it that are bound to a driver which
    makes the group useless to VFIO. ``numa`` is its NUMA node, empty where the host says none.
    ``bound`` is whether a VFIO driver has it. ``holder`` is who has it open: empty for nobody, None
    where that could not be seen. ``migratable`` is ``enable`` or ``disable`` for a VF of which
    devlink tells, otherwise empty.
    """

    name: str
    kind: str
    class_code: str
    traits: Traits
    parent: str = ""
    group: str = ""
    neighbours: tuple[str, ...] = ()
    numa: str = ""
    bound: bool = False
    holder: str | None = None
    migratable: str = ""

    @property
    def identity(self) -> str:
        """``vendor:device``, with the type of an mdev or vGPU."""
        words = (f"{self.traits.vendor}:{self.traits.device}", self.traits.type)
        return " ".join(filter(None, words))


class MdevType(NamedTuple):
    """A type that mediated devices can be made of below ``parent``; ``name`` is for people.

    ``available`` is how many more, -1 where the driver does not say.
    """

    parent: str
    type: str
    name: str
    available: int


class Inventory(NamedTuple):
    """A host's devices by name, the types of its mediated devices, and libvirt's pools of VFs."""

    devices: Mapping[str, HostDevice]
    types: tuple[MdevType, ...] = ()
    pools: tuple[Pool, ...] = ()

    def pool(self, name: str) -> Pool | None:
        """The network ``name``, None if the host does not have it."""
        return next((pool for pool in self.pools if pool.name == name), None)


def read_inventory(root: str = "/") -> Inventory:
    """What this host has. What cannot be read is left out, or empty."""
    holders = read_holders(root)
    found = {device.name: device for device in _devices(root, holders)}
    told = devlink.migratable(root) if any(map(_is_mlx5, found.values())) else {}
    for name, word in told.items():
        if name in found:
            found[name] = found[name]._replace(migratable=word)
    return Inventory(found, tuple(_types(root)), read_pools(root))


def _devices(root: str, holders: Holders) -> Iterator[HostDevice]:
    for address in names_in(root, PCI_DEVICES)[:MAX_DEVICES]:
        device = _pci(address, root, holders)
        if not device.class_code.startswith(_BRIDGE):
            yield device
    for uuid in names_in(root, MDEV_DEVICES)[:MAX_DEVICES]:
        yield _mdev(uuid, root, holders)


def _is_mlx5(device: HostDevice) -> bool:
    # Of other drivers no port function has the attribute (devlink-port.rst).
    return module_of(device.traits.driver) in ("mlx5_vfio_pci", "mlx5_core") and bool(device.parent)


def _pci(address: str, root: str, holders: Holders) -> HostDevice:
    home = os.path.join(root, PCI_DEVICES, address)
    traits = read_traits(address, root)
    group = target(os.path.join(home, "iommu_group"))
    node = text(os.path.join(home, "numa_node"))
    has_vgpu = vgpu_type(address, root) is not None
    return HostDevice(
        address,
        PCI,
        number(os.path.join(home, "class"), digits=6),
        traits,
        parent=target(os.path.join(home, "physfn")),
        group=group,
        neighbours=_neighbours(address, group, root),
        # -1: the firmware does not say, or the host has one node alone.
        numa="" if node.startswith("-") else node,
        bound="vfio" in traits.driver or has_vgpu,
        holder=holders.of(group, _cdev(home)),
    )


def _mdev(uuid: str, root: str, holders: Holders) -> HostDevice:
    home = os.path.realpath(os.path.join(root, MDEV_DEVICES, uuid))
    group = target(os.path.join(home, "iommu_group"))
    parent = os.path.dirname(home)
    node = text(os.path.join(parent, "numa_node"))
    return HostDevice(
        uuid,
        MDEV,
        number(os.path.join(parent, "class"), digits=6),
        read_traits(uuid, root),
        parent=os.path.basename(parent),
        group=group,
        numa="" if node.startswith("-") else node,
        # Each mdev is bound to a VFIO driver as it is made.
        bound=True,
        holder=holders.of(group, _cdev(home)),
    )


def _cdev(home: str) -> str:
    """The name of the device's character device below /dev/vfio/devices."""
    try:
        return next(iter(os.listdir(os.path.join(home, "vfio-dev"))), "")
    except OSError:
        return ""


def _neighbours(address: str, group: str, root: str) -> tuple[str, ...]:
    """Devices of the group whose driver VFIO does not accept (``vfio_dev_viable()`` and, since
    6.0, the core's DMA ownership): each but VFIO's own, pci-stub and those of bridges."""
    if not group:
        return ()
    members = names_in(root, os.path.join("sys/kernel/iommu_groups", group, "devices"))
    found = []
    for name in members:
        home = os.path.join(root, PCI_DEVICES, name)
        driver = target(os.path.join(home, "driver"))
        bridge = number(os.path.join(home, "class"), digits=6).startswith(_BRIDGE)
        if name != address and driver and not (bridge or "vfio" in driver or driver == "pci-stub"):
            found.append(f"{name} ({driver})")
    return tuple(found)


def _types(root: str) -> Iterator[MdevType]:
    for parent in names_in(root, MDEV_BUS):
        place = os.path.join(MDEV_BUS, parent, "mdev_supported_types")
        for kind in names_in(root, place):
            home = os.path.join(root, place, kind)
            left = text(os.path.join(home, "available_instances"))
            available = int(left) if left.isascii() and left.isdigit() else -1
            yield MdevType(parent, kind, text(os.path.join(home, "name")), available)

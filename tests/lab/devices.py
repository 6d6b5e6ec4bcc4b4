"""Fake devices as a host shows them: for ``fakevfio.c``, and in sysfs for libvirt and the project.

sysfs follows the kernel's layout (Documentation/ABI/testing/sysfs-bus-pci, sysfs-bus-mdev), as far
as libvirt's virpci.c and virmdev.c, QEMU and the project read it. All links are relative, as the
kernel's are, so that they mean the same from outside of the host's mount namespace.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .configs import DEFAULT_BARS

_MDEV_API = "vfio-pci"


@dataclass(frozen=True)
class FakeDevice:
    """A VFIO device to add to a host.

    ``name`` is a PCI address (``0000:06:00.4``) or, for kind ``mdev``, a UUID. ``config`` is what
    VFIO presents; ``sysfs_config`` what the sysfs file ``config`` has, if that differs. ``bars``
    are pairs of index and size in bytes. ``parent`` is the physical function of a ``vf``, by
    default function 0 of its slot, or the device an ``mdev`` belongs to.
    """

    name: str
    kind: str
    config: bytes
    bars: Sequence[tuple[int, int]] = DEFAULT_BARS
    driver: str = "vfio-pci"
    mdev_type: str = "nvidia-63"
    sysfs_config: bytes | None = None
    parent: str = ""

    def parent_address(self) -> str:
        """The PCI address of the device this one is a part of; empty for kind ``pci``."""
        if self.kind == "vf":
            return self.parent or self.name[:-1] + "0"
        return (self.parent or "0000:41:00.0") if self.kind == "mdev" else ""


def write_vfio(directory: Path, device: FakeDevice, group: int) -> None:
    """Describe ``device`` to ``fakevfio.c`` in ``directory``."""
    home = directory / device.name
    home.mkdir()
    (home / "group").write_text(f"{group}\n")
    (home / "regions").write_text("".join(f"{bar[0]} {bar[1]} rwm\n" for bar in device.bars))
    write_config(home / "config", device.config)


def write_config(path: Path, config: bytes) -> None:
    """Replace a config file at once: a QEMU that opens it meanwhile reads the old or the new."""
    new = path.with_name("config.new")
    new.write_bytes(config)
    new.rename(path)


def add_to_sysfs(sys: Path, device: FakeDevice, group: int) -> None:
    """Show ``device`` below ``sys``, and its parent if it is not there yet."""
    if device.kind == "mdev":
        _add_mdev(sys, device, group)
        return
    config = device.sysfs_config or device.config
    if device.kind == "vf":
        _add_parent(sys, device)
    home = _add_pci(sys, device.name, config, device.driver)
    (home / "resource").write_text(_resource(device))
    _join_group(sys, home, group)
    (home / "vfio-dev" / f"vfio{group}").mkdir(parents=True)
    if device.kind == "vf":
        _link_virtual_function(sys, home, pci_directory(sys, device.parent_address()))


def pci_directory(sys: Path, address: str) -> Path:
    """Where the PCI device at ``address`` is, as if it sat on a root bus of its own."""
    link = sys / "bus/pci/devices" / address
    if link.is_symlink():
        return link.parent / os.readlink(link)
    return sys / "devices" / f"pci{address[:7]}" / address


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(target, link.parent))


def _add_parent(sys: Path, device: FakeDevice) -> None:
    """The PF of a VF or the parent of an mdev: a device of the same vendor that stays on the host.

    It is given a network interface by name only. libvirt looks for one where the VF is an
    ``<interface>``; libvirtnet.c answers what libvirt would ask the kernel about it.
    """
    address = device.parent_address()
    if (sys / "bus/pci/devices" / address).exists():
        return
    driver = "nvidia" if device.kind == "mdev" else "mlx5_core"
    home = _add_pci(sys, address, device.config[:256], driver)
    if device.kind == "vf":
        (home / "sriov_totalvfs").write_text("16\n")
        (home / "net" / f"p{int(address[5:7], 16)}s{int(address[8:10], 16)}").mkdir(parents=True)


def _add_pci(sys: Path, address: str, config: bytes, driver: str) -> Path:
    home = pci_directory(sys, address)
    home.mkdir(parents=True)
    vendor, device = struct.unpack_from("<HH", config, 0x00)
    class_and_revision = struct.unpack_from("<I", config, 0x08)[0]
    sub_vendor, sub_device = struct.unpack_from("<HH", config, 0x2C)
    files = {
        "vendor": f"0x{vendor:04x}",
        "device": f"0x{device:04x}",
        "class": f"0x{class_and_revision >> 8:06x}",
        "revision": f"0x{class_and_revision & 0xFF:02x}",
        "subsystem_vendor": f"0x{sub_vendor:04x}",
        "subsystem_device": f"0x{sub_device:04x}",
        "numa_node": "-1",
        "driver_override": "(null)",
        "reset": "",
    }
    for name, text in files.items():
        (home / name).write_text(text + "\n")
    write_config(home / "config", config)
    _link(home / "subsystem", sys / "bus/pci")
    _link(sys / "bus/pci/devices" / address, home)
    _bind(sys / "bus/pci/drivers" / driver, home)
    return home


def _resource(device: FakeDevice) -> str:
    """BARs as lines of start, end and flags (IORESOURCE_MEM), empty ones and the ROM as zeros."""
    rows = [(0, 0, 0)] * 7
    for index, size in device.bars:
        start = 0xE0000000 + index * 0x1000000
        rows[index] = (start, start + size - 1, 0x40200)
    return "".join(f"0x{a:016x} 0x{b:016x} 0x{flags:016x}\n" for a, b, flags in rows)


def _bind(driver: Path, home: Path) -> None:
    """Bind the device to a driver."""
    _link(home / "driver", driver)
    _link(driver / home.name, home)


def _join_group(sys: Path, home: Path, group: int) -> None:
    directory = sys / "kernel/iommu_groups" / str(group)
    _link(home / "iommu_group", directory)
    _link(directory / "devices" / home.name, home)


def _link_virtual_function(sys: Path, home: Path, physical: Path) -> None:
    number = len(list(physical.glob("virtfn*")))
    _link(home / "physfn", physical)
    _link(physical / f"virtfn{number}", home)
    (physical / "sriov_numvfs").write_text(f"{number + 1}\n")


def _add_mdev(sys: Path, device: FakeDevice, group: int) -> None:
    _add_parent(sys, device)
    parent = pci_directory(sys, device.parent_address())
    home = parent / device.name
    home.mkdir()
    mdev_type = parent / "mdev_supported_types" / device.mdev_type
    if not mdev_type.exists():
        mdev_type.mkdir(parents=True)
        (mdev_type / "device_api").write_text(_MDEV_API + "\n")
        (mdev_type / "name").write_text(f"FAKE {device.mdev_type}\n")
        (mdev_type / "available_instances").write_text("4\n")
        _link(sys / "class/mdev_bus" / parent.name, parent)
    _link(home / "mdev_type", mdev_type)
    _link(mdev_type / "devices" / device.name, home)
    _link(home / "subsystem", sys / "bus/mdev")
    _link(sys / "bus/mdev/devices" / device.name, home)
    _bind(sys / "bus/mdev/drivers/vfio_mdev", home)
    _join_group(sys, home, group)

"""Made-up hosts: devices below a root, as the kernel shows them in sysfs."""

from __future__ import annotations

from pathlib import Path

from unit.makers import HOST
from vfio_preflight.guest.traits import Traits

UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"
PARENT = "0000:41:00.0"
SHIPPED_RULES = Path(__file__).parents[3] / "etc/vendor-rules.d"
# What make_mdev() and make_vgpu() come to.
MDEV = Traits("10de", "1e30", "10de:129e", "nvidia-63", "nvidia", "550.54.16")
VGPU = Traits("10de", "26b9", "10de:1851", "nvidia-1155", "nvidia", "550.54.16")
VF = Traits("15b3", "101e", "", "", "mlx5_vfio_pci", "srcversion:A1B2", "22.36.1010")


def write(home: Path, **files: str) -> None:
    """Write small files, one line each."""
    home.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (home / name).write_text(f"{text}\n")


def link(path: Path, target: str) -> None:
    """A link as the kernel makes it; what it leads to need not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def make_driver(root: Path, name: str, module: str = "", **files: str) -> None:
    """A driver and its module, with a ``version`` or the like."""
    home = root / "sys/bus/pci/drivers" / name
    home.mkdir(parents=True, exist_ok=True)
    if module:
        link(home / "module", f"../../../../module/{module}")
    write(root / "sys/module" / (module or name), **files)


def make_pci(root: Path, address: str, driver: str, **files: str) -> Path:
    """A PCI device bound to a driver."""
    home = root / "sys/bus/pci/devices" / address
    write(home, **files)
    link(home / "driver", f"../../drivers/{driver}")
    return home


def make_mdev(root: Path, kind: str = "nvidia-63", version: str = "550.54.16") -> None:
    """A mediated device of an NVIDIA GPU."""
    ids = {"subsystem_vendor": "0x10de", "subsystem_device": "0x129e"}
    parent = make_pci(root, PARENT, "nvidia", vendor="0x10de", device="0x1e30", **ids)
    make_driver(root, "nvidia", "nvidia", version=version)
    (parent / UUID).mkdir()
    link(parent / UUID / "mdev_type", f"../mdev_supported_types/{kind}")
    link(root / "sys/bus/mdev/devices" / UUID, f"../../pci/devices/{PARENT}/{UUID}")


def make_vgpu(root: Path, number: str = "1155", version: str = "550.54.16") -> Path:
    """A VF that an NVIDIA vGPU is on, without an mdev."""
    ids = {"subsystem_vendor": "0x10de", "subsystem_device": "0x1851"}
    home = make_pci(root, HOST, "nvidia", vendor="0x10de", device="0x26b9", **ids)
    make_driver(root, "nvidia", "nvidia", version=version)
    write(home / "nvidia", current_vgpu_type=number)
    (home / "config").write_bytes(bytes(4096))
    return home


def make_rules(root: Path) -> Path:
    """The shipped files of vendors' rules, as install puts them."""
    place = root / "etc/vfio-preflight/vendor-rules.d"
    place.mkdir(parents=True)
    place.chmod(0o755)
    for path in SHIPPED_RULES.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
        (place / path.name).chmod(0o644)
    return place


def make_vf(root: Path) -> Path:
    """A VF of a ConnectX adapter, bound to its VFIO driver."""
    home = make_pci(root, HOST, "mlx5_vfio_pci", vendor="0x15b3", device="0x101e")
    make_driver(root, "mlx5_vfio_pci", "mlx5_vfio_pci", srcversion="A1B2")
    write(root / "sys/bus/pci/devices/0000:06:00.0/infiniband/mlx5_0", fw_ver="22.36.1010")
    link(home / "physfn", "../0000:06:00.0")
    return home

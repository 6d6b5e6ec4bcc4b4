"""What a host has, by a made-up sysfs and /proc."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unit.host.hosts import PARENT, UUID, VF, link, make_mdev, make_vf, make_vgpu, write
from unit.makers import HOST
from vfio_preflight.host import devlink, inventory
from vfio_preflight.host.holders import read_holders
from vfio_preflight.host.inventory import MdevType, read_inventory
from vfio_preflight.host.pools import Pool, read_pools

PHYSICAL = "0000:06:00.0"
GROUP = "17"


def join(root: Path, address: str, group: str = GROUP) -> None:
    home = root / "sys/bus/pci/devices" / address
    link(home / "iommu_group", f"../../../../kernel/iommu_groups/{group}")
    link(root / "sys/kernel/iommu_groups" / group / "devices" / address, str(home))


def make_process(
    root: Path, pid: int, files: list[str], *arguments: str, comm: str = "qemu"
) -> None:
    home = root / "proc" / str(pid)
    write(home, comm=comm)
    (home / "cmdline").write_bytes(b"\0".join([b"", *map(str.encode, arguments), b""]))
    for number, file in enumerate(files):
        link(home / "fd" / str(number), file)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A VF in a group of its own."""
    home = make_vf(tmp_path)
    write(home, **{"class": "0x020000", "numa_node": "1"})
    join(tmp_path, HOST)
    (tmp_path / "proc").mkdir()
    return tmp_path


def test_vf(host: Path) -> None:
    device = read_inventory(str(host)).devices[HOST]
    assert device == inventory.HostDevice(
        HOST, "pci", "020000", VF, PHYSICAL, GROUP, (), "1", True, ""
    )


def test_bridges_are_no_devices(host: Path) -> None:
    write(host / "sys/bus/pci/devices/0000:00:01.0", **{"class": "0x060400"})
    assert "0000:00:01.0" not in read_inventory(str(host)).devices


def test_driver_that_is_not_vfio(host: Path) -> None:
    link(host / "sys/bus/pci/devices" / HOST / "driver", "../../drivers/mlx5_core")
    assert not read_inventory(str(host)).devices[HOST].bound


def test_vgpu_on_a_vf_is_bound(tmp_path: Path) -> None:
    make_vgpu(tmp_path)
    assert read_inventory(str(tmp_path)).devices[HOST].bound


@pytest.mark.parametrize(
    ("driver", "code", "found"),
    [
        ("ixgbe", "0x020000", ("0000:06:00.1 (ixgbe)",)),
        ("vfio-pci", "0x020000", ()),
        ("pci-stub", "0x020000", ()),
        ("pcieport", "0x060400", ()),
        ("", "0x020000", ()),
    ],
)
def test_neighbours(host: Path, driver: str, code: str, found: tuple[str, ...]) -> None:
    other = host / "sys/bus/pci/devices/0000:06:00.1"
    write(other, **{"class": code})
    if driver:
        link(other / "driver", f"../../drivers/{driver}")
    join(host, "0000:06:00.1")
    assert read_inventory(str(host)).devices[HOST].neighbours == found


def test_mdev_and_its_types(tmp_path: Path) -> None:
    make_mdev(tmp_path)
    home = tmp_path / "sys/class/mdev_bus" / PARENT / "mdev_supported_types/nvidia-64"
    write(home, available_instances="3", name="GRID T4-4Q")
    write(home.with_name("nvidia-65"), name="no number")
    here = read_inventory(str(tmp_path))
    device = here.devices[UUID]
    assert (device.kind, device.parent, device.traits.type) == ("mdev", PARENT, "nvidia-63")
    assert here.types == (
        MdevType(PARENT, "nvidia-64", "GRID T4-4Q", 3),
        MdevType(PARENT, "nvidia-65", "no number", -1),
    )


# --- who has it -----------------------------------------------------------------------------------


def holder(root: Path) -> str | None:
    return read_inventory(str(root)).devices[HOST].holder


def test_held_by_a_guest(host: Path) -> None:
    make_process(
        host, 4711, ["/dev/null", f"/dev/vfio/{GROUP}"], "-name", "guest=g2,debug-threads=on"
    )
    assert holder(host) == "guest g2 (process 4711)"


def test_held_by_something_else(host: Path) -> None:
    make_process(host, 12, [f"/dev/vfio/{GROUP}"], comm="dpdk\x1btestpmd")
    assert holder(host) == "dpdk?testpmd (process 12)"


def test_held_by_its_own_node(host: Path) -> None:
    (host / "sys/bus/pci/devices" / HOST / "vfio-dev/vfio3").mkdir(parents=True)
    make_process(host, 12, ["/dev/vfio/devices/vfio3"])
    assert holder(host) == "qemu (process 12)"


@pytest.mark.parametrize("file", ["/dev/vfio/vfio", "/dev/vfio/18", "/dev/vfio/devices/vfio17"])
def test_not_held(host: Path, file: str) -> None:
    make_process(host, 12, [file])
    assert holder(host) == ""


def test_holders_that_cannot_be_seen(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_process(host, 12, [])
    (host / "proc/12/fd").mkdir()
    real = os.listdir

    def refuse(path: str) -> object:
        if path.endswith("/fd"):
            raise PermissionError(path)
        return real(path)

    monkeypatch.setattr("vfio_preflight.host.holders.os.listdir", refuse)
    assert read_holders(str(host)).of(GROUP, "") is None


# --- devlink --------------------------------------------------------------------------------------

PORTS = b"""{"port":{
 "pci/0000:06:00.0/1":{"flavour":"physical"},
 "pci/0000:06:00.0/2":{"flavour":"pcivf","vfnum":0,"function":{"migratable":"disable"}},
 "pci/0000:06:00.0/3":{"flavour":"pcivf","vfnum":1,"function":{"migratable":"enable"}},
 "pci/0000:06:00.0/4":{"flavour":"pcivf","vfnum":2,"function":{}}}}"""


def test_devlink(host: Path) -> None:
    home = host / "sys/bus/pci/devices" / PHYSICAL
    for number in range(3):
        link(home / f"virtfn{number}", f"../0000:06:00.{4 + number}")
    assert devlink.parse(PORTS, str(host)) == {HOST: "disable", "0000:06:00.5": "enable"}


@pytest.mark.parametrize("data", [b"", b"[]", b'{"port":[]}', b'{"port":{"x":3}}', b"\xff"])
def test_devlink_of_another_kind(data: bytes, host: Path) -> None:
    assert devlink.parse(data, str(host)) == {}


def test_devlink_is_asked_where_there_is_mlx5(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devlink, "migratable", lambda _root: {HOST: "disable"})
    assert read_inventory(str(host)).devices[HOST].migratable == "disable"


# --- pools ----------------------------------------------------------------------------------------


def network(root: Path, text: str, place: str = "etc/libvirt/qemu/networks") -> None:
    write(root / place, **{"vfs.xml": text})


def test_pool_of_a_function(host: Path) -> None:
    home = host / "sys/class/net/eth0/device"
    for number in (0, 1, 10, 2):
        link(home / f"virtfn{number}", f"../0000:06:{number:02x}.0")
    forward = "<forward mode='hostdev'><pf dev='eth0'/></forward>"
    network(host, f"<network><name>vfs</name>{forward}</network>")
    names = ("0000:06:00.0", "0000:06:01.0", "0000:06:02.0", "0000:06:0a.0")
    assert read_pools(str(host)) == (Pool("vfs", True, names),)


def test_pool_of_addresses_in_a_running_network(host: Path) -> None:
    network(host, "<network><forward mode='nat'/></network>")
    address = "<address type='pci' domain='0' bus='6' slot='0' function='0x4'/>"
    running = f"<network><forward mode='hostdev'>{address}</forward></network>"
    network(host, f"<networkstatus>{running}</networkstatus>", "run/libvirt/network")
    assert read_pools(str(host)) == (Pool("vfs", True, (HOST,)),)


def test_network_that_is_no_pool(host: Path) -> None:
    network(host, "<network><title>mode='hostdev'</title><forward mode='nat'/></network>")
    assert read_pools(str(host)) == (Pool("vfs", False),)
    network(host, "no XML")
    assert read_pools(str(host)) == ()

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from lab.configs import make_config, patched
from vfio_preflight.host.sources.sysfs import read_pci
from vfio_preflight.host.sysfs import HostError, has_mdev, mdev_type
from vfio_preflight.pci.space import ConfigSpaceError, identity
from vfio_preflight.pci.state import Bar

ADDRESS = "0000:06:00.4"
UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"
UNUSED = (0, 0, 0)
# As the kernel flags them (include/linux/ioport.h): start, end, flags.
MEM32 = (0xF6000000, 0xF6FFFFFF, 0x00040200)
MEM64 = (0xE0000000, 0xEFFFFFFF, 0x0014220C)
IO = (0xE000, 0xE07F, 0x00040101)
ROM = (0xF7000000, 0xF707FFFF, 0x00046200)


def make_pci(
    root: Path,
    config: bytes,
    resources: Sequence[tuple[int, int, int]] = (MEM32,),
    vf: bool = False,
) -> Path:
    home = root / "sys/bus/pci/devices" / ADDRESS
    home.mkdir(parents=True)
    (home / "config").write_bytes(config)
    rows = [*resources, *[UNUSED] * (13 - len(resources))]
    text = "".join(f"0x{s:016x} 0x{e:016x} 0x{f:016x}\n" for s, e, f in rows)
    (home / "resource").write_text(text)
    (home / "vendor").write_text("0x15b3\n")
    (home / "device").write_text("0x101e\n")
    if vf:
        (home / "physfn").symlink_to("../0000:06:00.0")
    return home


@pytest.mark.parametrize("size", [256, 4096])
def test_read_pci(size: int, tmp_path: Path) -> None:
    config = make_config(size)
    home = make_pci(tmp_path, config)
    state = read_pci(ADDRESS, str(tmp_path))
    assert state.config == config
    assert (state.evidence, state.origin) == ("sysfs", str(home / "config"))
    assert state.bars == (Bar(0, 1 << 24, "mem32"),)


def test_read_pci_bars(tmp_path: Path) -> None:
    resources = [MEM32, MEM64, UNUSED, IO, UNUSED, UNUSED, ROM, MEM32]
    make_pci(tmp_path, make_config(), resources)
    assert read_pci(ADDRESS, str(tmp_path)).bars == (
        Bar(0, 1 << 24, "mem32"),
        Bar(1, 1 << 28, "mem64", True),
        Bar(3, 128, "io"),
        Bar(6, 1 << 19, "mem32", True),  # the kernel flags every ROM so
    )


def test_read_pci_hides_the_hosts_addresses(tmp_path: Path) -> None:
    config = patched(patched(make_config(), 0x13, 0xF6), 0x27, 0xEE)
    make_pci(tmp_path, config, [MEM32, MEM64, UNUSED, IO])
    shown = read_pci(ADDRESS, str(tmp_path)).config
    assert shown[0x10:0x28] == bytes([0, 0, 0, 0, 0xC, 0, 0, 0, 0, 0, 0, 0, 1]) + bytes(11)
    assert shown[:0x10] == config[:0x10] and shown[0x28:] == config[0x28:]


def test_read_pci_bar_that_the_host_gave_no_address(tmp_path: Path) -> None:
    """``vfio_bar_fixup``: its register reads 0, without type bits."""
    unset = (0, (1 << 28) - 1, 0x2014220C)
    make_pci(tmp_path, patched(make_config(), 0x14, 0x0C), [MEM32, unset, UNUSED, IO])
    state = read_pci(ADDRESS, str(tmp_path))
    assert state.config[0x14:0x1C] == bytes(8)
    assert state.bars[1] == Bar(1, 1 << 28, "mem32")


def test_read_pci_of_a_vf_has_its_ids(tmp_path: Path) -> None:
    config = b"\xff\xff\xff\xff" + make_config()[4:]
    make_pci(tmp_path, config, vf=True)
    assert identity(read_pci(ADDRESS, str(tmp_path)).config) == "15b3:101e"


def test_read_pci_of_a_pf_has_its_own_ids(tmp_path: Path) -> None:
    make_pci(tmp_path, make_config())
    assert identity(read_pci(ADDRESS, str(tmp_path)).config) == "10de:1eb8"


def test_read_pci_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=f"this host has no PCI device {ADDRESS}"):
        read_pci(ADDRESS, str(tmp_path))


@pytest.mark.parametrize("size", [0, 64, 4097])
def test_read_pci_without_privilege_reads_too_little(size: int, tmp_path: Path) -> None:
    make_pci(tmp_path, bytes(size))
    with pytest.raises(ConfigSpaceError, match="read it as root"):
        read_pci(ADDRESS, str(tmp_path))


@pytest.mark.parametrize("name", ["config", "resource"])
def test_read_pci_unreadable_file(name: str, tmp_path: Path) -> None:
    home = make_pci(tmp_path, make_config())
    (home / name).unlink()
    with pytest.raises(HostError, match=f"/{name}: cannot be read: No such file"):
        read_pci(ADDRESS, str(tmp_path))


@pytest.mark.parametrize("text", ["", "0x0\n", "0 1 2 3\n", "x y z\n", "\xff\n"])
def test_read_pci_damaged_resource(text: str, tmp_path: Path) -> None:
    home = make_pci(tmp_path, make_config())
    (home / "resource").write_text(text)
    if not text:
        assert read_pci(ADDRESS, str(tmp_path)).bars == ()
        return
    with pytest.raises(HostError, match="not a list of start, end and flags"):
        read_pci(ADDRESS, str(tmp_path))


@pytest.mark.parametrize("text", ["", "nvidia\n", "0x10000\n", "-1\n"])
def test_read_pci_damaged_ids_of_a_vf(text: str, tmp_path: Path) -> None:
    home = make_pci(tmp_path, make_config(), vf=True)
    (home / "vendor").write_text(text)
    with pytest.raises(HostError, match="/vendor: not a number of 16 bits"):
        read_pci(ADDRESS, str(tmp_path))


def test_mdev(tmp_path: Path) -> None:
    home = tmp_path / "sys/bus/mdev/devices" / UUID
    home.mkdir(parents=True)
    assert has_mdev(UUID, str(tmp_path))
    assert mdev_type(UUID, str(tmp_path)) is None
    (home / "mdev_type").symlink_to("../mdev_supported_types/nvidia-63")
    assert mdev_type(UUID, str(tmp_path)) == "nvidia-63"


def test_mdev_that_is_not_there(tmp_path: Path) -> None:
    assert not has_mdev(UUID, str(tmp_path))
    assert mdev_type(UUID, str(tmp_path)) is None

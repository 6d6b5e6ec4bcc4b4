from __future__ import annotations

from pathlib import Path

import pytest

from unit.host.hosts import (
    MDEV,
    PARENT,
    UUID,
    VF,
    VGPU,
    make_driver,
    make_mdev,
    make_pci,
    make_vf,
    make_vgpu,
    write,
)
from unit.makers import HOST
from vfio_preflight.guest.traits import NAMES, Traits, from_facts
from vfio_preflight.host.traits import read_traits


def test_mdev_has_its_parents_traits(tmp_path: Path) -> None:
    make_mdev(tmp_path)
    assert read_traits(UUID, str(tmp_path)) == MDEV


def test_vgpu_on_a_vf(tmp_path: Path) -> None:
    make_vgpu(tmp_path)
    assert read_traits(HOST, str(tmp_path)) == VGPU


def test_vf_has_its_physical_functions_firmware(tmp_path: Path) -> None:
    make_vf(tmp_path)
    assert read_traits(HOST, str(tmp_path)) == VF


@pytest.mark.parametrize("name", ["", HOST, UUID])
def test_device_that_is_not_there(name: str, tmp_path: Path) -> None:
    (tmp_path / "sys/bus/pci/devices").mkdir(parents=True)
    assert read_traits(name, str(tmp_path)) == Traits()


def test_physical_function_with_firmware_of_its_own(tmp_path: Path) -> None:
    home = make_pci(tmp_path, HOST, "mlx5_core", vendor="0x15b3", device="0x101d")
    write(home / "infiniband" / "mlx5_1", fw_ver="22.36.1010")
    write(home / "infiniband" / "mlx5_0", board_id="MT_0000000359")
    assert read_traits(HOST, str(tmp_path)).firmware == "22.36.1010"


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({"version": "1.2", "srcversion": "A"}, "1.2"),
        ({"version": "", "srcversion": "A"}, "srcversion:A"),
        ({}, "linux:6.12.48-amd64"),
    ],
)
def test_version_of_a_driver(files: dict[str, str], version: str, tmp_path: Path) -> None:
    make_pci(tmp_path, HOST, "vfio-pci")
    make_driver(tmp_path, "vfio-pci", "vfio_pci", **files)
    write(tmp_path / "proc/sys/kernel", osrelease="6.12.48-amd64")
    traits = read_traits(HOST, str(tmp_path))
    assert (traits.driver, traits.driver_version) == ("vfio-pci", version)


def test_version_that_nobody_tells(tmp_path: Path) -> None:
    make_pci(tmp_path, HOST, "vfio-pci")
    traits = read_traits(HOST, str(tmp_path))
    assert (traits.driver, traits.driver_version, traits.determined) == ("vfio-pci", "", False)


def test_device_without_a_driver(tmp_path: Path) -> None:
    write(tmp_path / "sys/bus/pci/devices" / HOST, vendor="0x15b3", device="0x101e")
    assert read_traits(HOST, str(tmp_path)) == Traits("15b3", "101e")


@pytest.mark.parametrize("text", ["", "x", "\xff", "0x"])
def test_ids_that_are_none(text: str, tmp_path: Path) -> None:
    make_pci(tmp_path, HOST, "vfio-pci", vendor=text)
    assert read_traits(HOST, str(tmp_path)).vendor == ""


def test_text_of_a_driver_is_cut_and_printable(tmp_path: Path) -> None:
    make_pci(tmp_path, HOST, "x")
    make_driver(tmp_path, "x", "x", version="1\x1b[31m" + "9" * 500)
    version = read_traits(HOST, str(tmp_path)).driver_version
    assert version.startswith("1?[31m9") and len(version) <= 128


def test_facts_round_trip() -> None:
    facts = VF.facts()
    assert facts == {
        "vendor": "15b3",
        "device": "101e",
        "driver": "mlx5_vfio_pci",
        "driver-version": "srcversion:A1B2",
        "firmware": "22.36.1010",
    }
    assert set(MDEV.facts()) <= set(NAMES)
    assert from_facts({**facts, "host": PARENT}) == VF
    assert from_facts({}) == Traits()


def test_determined() -> None:
    assert MDEV.determined and VF.determined
    for name in ("vendor", "device", "driver", "driver_version"):
        assert not MDEV._replace(**{name: ""}).determined
    assert MDEV._replace(firmware="", subsystem="").determined

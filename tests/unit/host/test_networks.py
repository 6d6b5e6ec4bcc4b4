from __future__ import annotations

import os
from pathlib import Path

import pytest

from vfio_preflight.host.networks import hands_out_devices

HOSTDEV = "<network><name>vfs</name><forward mode='hostdev' managed='yes'/></network>"
NAT = "<network><name>default</name><forward mode='nat'/></network>"
PERSISTENT = "etc/libvirt/qemu/networks"
RUNNING = "run/libvirt/network"


def define(root: Path, name: str, xml: str, directory: str = PERSISTENT) -> None:
    (root / directory).mkdir(parents=True, exist_ok=True)
    (root / directory / f"{name}.xml").write_text(xml)


@pytest.mark.parametrize("directory", [PERSISTENT, RUNNING])
@pytest.mark.parametrize(
    ("xml", "expected"), [(HOSTDEV, True), (HOSTDEV.replace("'", '"'), True), (NAT, False)]
)
def test_hands_out_devices(xml: str, expected: bool, directory: str, tmp_path: Path) -> None:
    define(tmp_path, "vfs", xml, directory)
    assert hands_out_devices("vfs", str(tmp_path)) is expected


def test_running_network_goes_before_its_definition(tmp_path: Path) -> None:
    define(tmp_path, "vfs", NAT)
    define(tmp_path, "vfs", HOSTDEV, RUNNING)
    assert hands_out_devices("vfs", str(tmp_path)) is True


def test_network_that_is_not_there(tmp_path: Path) -> None:
    define(tmp_path, "default", HOSTDEV)
    assert hands_out_devices("vfs", str(tmp_path)) is None


@pytest.mark.parametrize("name", ["", ".", "..", "../networks/vfs", "a/b", ".hidden", "/etc/x"])
def test_name_that_is_a_path(name: str, tmp_path: Path) -> None:
    define(tmp_path, "vfs", HOSTDEV)
    assert hands_out_devices(name, str(tmp_path)) is None


@pytest.mark.parametrize("name", [".", "..", ".hidden", "a b", "\u00e4"])
def test_odd_name_of_a_network_that_is_there(name: str, tmp_path: Path) -> None:
    define(tmp_path, name, HOSTDEV)
    assert hands_out_devices(name, str(tmp_path)) is True


def test_status_of_a_running_network(tmp_path: Path) -> None:
    """What libvirt keeps of a running network has its definition inside."""
    for xml, expected in ((HOSTDEV, True), (NAT, False)):
        define(tmp_path, "vfs", f"<networkstatus><class_id/>{xml}</networkstatus>", RUNNING)
        assert hands_out_devices("vfs", str(tmp_path)) is expected


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        (NAT.replace("<name>", "<title>as with mode='hostdev'</title><name>"), False),
        (
            NAT.replace("<name>", "<metadata><forward mode='hostdev'/></metadata><name>"),
            False,
        ),
        (HOSTDEV.replace("mode='hostdev'", "mode = '&#104;ostdev'"), True),
        ("<network><name>vfs</name></network>", False),
        ("", None),
        ("<network>", None),
        ("<pool><forward mode='hostdev'/></pool>", None),
    ],
)
def test_it_is_read_not_searched(xml: str, expected: bool | None, tmp_path: Path) -> None:
    define(tmp_path, "vfs", xml)
    assert hands_out_devices("vfs", str(tmp_path)) is expected


@pytest.mark.parametrize("directory", [PERSISTENT, RUNNING])
def test_fifo_is_not_waited_for(directory: str, tmp_path: Path) -> None:
    (tmp_path / directory).mkdir(parents=True)
    os.mkfifo(tmp_path / directory / "vfs.xml")
    assert hands_out_devices("vfs", str(tmp_path)) is None

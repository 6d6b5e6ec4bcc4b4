"""Paths as QEMU 10.0 was seen to give them; tests/system/test_images.py asks it anew."""

from __future__ import annotations

import pytest

from lab.guests import guest_xml, hostdev_pci, vfio_commandline
from vfio_preflight.guest.domain import parse_domain, read_guest
from vfio_preflight.guest.topology import read_topology
from vfio_preflight.guest.xml import QEMU_NS, GuestError


def at(bus: int, slot: int = 0, function: int = 0, domain: int = 0) -> str:
    place = f"domain='{domain}' bus='{bus}' slot='{slot}' function='{function}'"
    return f"<address type='pci' {place}/>"


def controller(index: int, model: str, inner: str = "") -> str:
    return f"<controller type='pci' index='{index}' model='{model}'>{inner}</controller>"


BUSES = "".join(
    (
        controller(0, "pcie-root"),
        controller(1, "pcie-root-port", at(0, 1, 2)),
        controller(2, "pcie-to-pci-bridge", at(1)),
        controller(3, "pci-bridge", at(2, 1)),
        controller(4, "pcie-expander-bus", "<target busNr='200'/>" + at(0, 6)),
        controller(5, "pcie-root-port", at(4)),
        controller(6, "pci-expander-bus", "<target busNr='0x64'/>" + at(0, 7)),
        controller(7, "pci-expander-bus", at(0, 8)),
        controller(8, "pcie-root-port"),
        controller(9, "pcie-root-port", at(9)),
        controller(10, "pcie-root-port", at(0, 9) + "<alias name='ua-port'/>"),
    )
)
PATHS = [
    (at(0, 0x10), "0000:00:10.0"),
    (at(1), "0000:00:01.2:00.0"),
    (at(1, 0, 3), "0000:00:01.2:00.3"),
    (at(2, 31), "0000:00:01.2:00.0:1f.0"),
    (at(3, 5), "0000:00:01.2:00.0:01.0:05.0"),
    (at(4, 1), "0000:c8:06.0:01.0"),
    (at(5), "0000:c8:06.0:00.0:00.0"),
    (at(6, 5), "0000:64:07.0:00.0:05.0"),
    (at(7, 5), None),  # libvirt has yet to choose its number,
    (at(8), None),  # this one's address,
    (at(9), None),  # a port behind itself
    (at(99), None),  # and there is no such bus
    (at(1, 0, 0, 1), None),
    ("", None),
]


def path_of(machine: str, *devices: str, commandline: list[str] | None = None) -> str | None:
    root = parse_domain(guest_xml("g", machine, devices, commandline or []).encode())
    (device,) = read_guest(root).devices
    return read_topology(root).path_of(device)


@pytest.mark.parametrize(("address", "path"), PATHS)
def test_hostdev(address: str, path: str | None) -> None:
    assert path_of("pc-q35-9.0", BUSES, hostdev_pci("0000:06:00.4", address)) == path


@pytest.mark.parametrize(
    ("overrides", "path"),
    [
        ({"bus": "pcie.0"}, "0000:00:00.3"),
        ({"addr": "0x1f.0x1"}, "0000:00:01.2:1f.1"),
        ({"bus": "pci.3", "addr": "0x2"}, "0000:00:01.2:00.0:01.0:02.0"),
        ({"bus": "none"}, None),
        ({"addr": "0x20"}, None),
    ],
)
def test_address_that_is_overridden(overrides: dict[str, str], path: str | None) -> None:
    lines = "".join(
        f"<property name='{name}' type='string' value='{value}'/>"
        for name, value in overrides.items()
    )
    override = (
        f"</devices><override xmlns='{QEMU_NS}'><device alias='hostdev0'><frontend>{lines}"
        "</frontend></device></override><devices>"
    )
    assert path_of("pc-q35-9.0", BUSES, hostdev_pci("0000:06:00.4", at(1, 0, 3)), override) == path


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ("bus=pcie.0,addr=0x10", "0000:00:10.0"),
        ("bus=pci.1,addr=0x0", "0000:00:01.2:00.0"),
        ("bus=pci.1,addr=0.3", "0000:00:01.2:00.3"),
        ("bus=pci.2,addr=0x1f.7", "0000:00:01.2:00.0:1f.7"),
        ("bus=ua-port,addr=0x0", "0000:00:09.0:00.0"),
        ("bus=pci.10,addr=0x0", None),
        ("bus=pci.1,addr=10", "0000:00:01.2:10.0"),  # hexadecimal
        ("bus=pci.2,addr=0x1f.0x7", "0000:00:01.2:00.0:1f.7"),  # as libvirt itself writes it
        ("bus=pci.1,addr=1.", None),
        ("bus=pci.1,addr=-1", None),
        ("bus=pci.1,addr=0x20", None),
        ("bus=pci.1,addr=0x1.8", None),
        ("bus=pci.1", None),
        ("addr=0x5", None),
    ],
)
def test_command_line(options: str, path: str | None) -> None:
    line = ["-device", f"vfio-pci,host=0000:06:00.4,{options}"]
    assert path_of("pc-q35-9.0", BUSES, commandline=line) == path


@pytest.mark.parametrize(
    ("addr", "path"),
    [
        ("10", "0000:00:01.2:01.2"),  # a number is slot and function in one
        ('"10"', "0000:00:01.2:10.0"),
        ("-1", None),
        ("256", None),
        ("1.5", None),
    ],
)
def test_command_line_in_json(addr: str, path: str | None) -> None:
    device = f'{{"driver":"vfio-pci","host":"06:00.4","bus":"pci.1","addr":{addr}}}'
    assert path_of("pc-q35-9.0", BUSES, commandline=["-device", device]) == path


def test_i440fx() -> None:
    assert path_of("pc", hostdev_pci("0000:06:00.4", at(0, 5))) == "0000:00:05.0"
    line = vfio_commandline("0000:06:00.4", bus="pci.0")
    assert path_of("pc", commandline=line) == "0000:00:10.0"


@pytest.mark.parametrize("machine", ["pseries-9.0", "s390-ccw-virtio-9.0"])
def test_machines_whose_root_bus_is_called_otherwise(machine: str) -> None:
    assert path_of(machine, hostdev_pci("0000:06:00.4", at(0, 5))) is None


def test_index_that_is_no_number() -> None:
    root = parse_domain(guest_xml("g", devices=["<controller type='pci' index='x'/>"]).encode())
    with pytest.raises(GuestError, match="not a number"):
        read_topology(root)

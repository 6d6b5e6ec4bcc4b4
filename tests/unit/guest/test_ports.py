"""The root port above a device: its type for QEMU, where the device is its first function."""

from __future__ import annotations

import pytest

from lab.guests import guest_xml, hostdev_pci
from vfio_preflight.guest.domain import parse_domain, read_guest

HOST = "0000:06:00.4"
PORT = "<controller type='pci' index='{}' model='{}'>{}</controller>"
ADDRESS = "<address type='pci' domain='0' bus='{}' slot='{}' function='{}'/>"


def port_of(controllers: str, address: str, machine: str = "pc-q35-9.0") -> str:
    xml = guest_xml("g1", machine, [controllers, hostdev_pci(HOST, address)])
    (device,) = read_guest(parse_domain(xml.encode())).devices
    return device.port


@pytest.mark.parametrize(
    ("model", "named", "expected"),
    [
        ("pcie-root-port", "", "pcie-root-port"),
        ("pcie-root-port", "<model name='pcie-root-port'/>", "pcie-root-port"),
        ("pcie-root-port", "<model name='ioh3420'/>", "ioh3420"),
        ("pcie-switch-downstream-port", "<model name='xio3130-downstream'/>", ""),
        ("pcie-to-pci-bridge", "", ""),
        ("pcie-expander-bus", "", ""),
    ],
)
def test_controllers(model: str, named: str, expected: str) -> None:
    assert port_of(PORT.format(1, model, named), ADDRESS.format(1, 0, 0)) == expected


@pytest.mark.parametrize(
    ("slot", "function", "expected"), [(0, 0, "pcie-root-port"), (0, 1, ""), (1, 0, "")]
)
def test_first_function(slot: int, function: int, expected: str) -> None:
    address = ADDRESS.format(1, slot, function)
    assert port_of(PORT.format(1, "pcie-root-port", ""), address) == expected


def test_where_libvirt_has_yet_to_choose() -> None:
    assert port_of("", "") == "pcie-root-port"
    assert port_of("", "", "pc-i440fx-9.0") == ""
    assert port_of("", ADDRESS.format(0, 5, 0)) == ""


@pytest.mark.parametrize(
    ("port", "device", "expected"),
    [
        ("pcie-root-port,id=rp", "bus=rp", "pcie-root-port"),
        ("ioh3420,id=rp", "bus=rp,addr=0x0", "ioh3420"),
        ("ioh3420,id=rp", "bus=rp.0,addr=0.0", "ioh3420"),
        ("pcie-root-port,id=rp", "bus=rp,addr=0x0.1", ""),
        ("pcie-root-port,id=rp", "bus=rp,addr=0x1", ""),
        ("xio3130-downstream,id=rp", "bus=rp", ""),
        ("pcie-root-port,id=rp", "bus=pcie.0", ""),
        ("pcie-root-port,id=rp", "", ""),
    ],
)
def test_command_line(port: str, device: str, expected: str) -> None:
    values = ("-device", port, "-device", f"vfio-pci,host={HOST},{device}".rstrip(","))
    arguments = "".join(f"<qemu:arg value='{value}'/>" for value in values)
    xml = guest_xml("g1", "pc-q35-9.0", [])
    line = f"<qemu:commandline>{arguments}</qemu:commandline></domain>"
    xml = xml.replace("</domain>", line)
    if "xmlns:qemu" not in xml:
        xml = xml.replace(
            "<domain", "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'", 1
        )
    (found,) = read_guest(parse_domain(xml.encode())).devices
    assert found.port == expected

"""Domain XML -> Guest (guest.domain, with aliases, placement and properties).

What data/q35.xml should become was taken from libvirt 11.3.0: aliases, drivers and properties are
those of ``virsh domxml-to-native qemu-argv``; interfaces, which that command replaces, are those of
its test suite.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from vfio_preflight.guest.domain import (
    Global,
    Guest,
    GuestError,
    Networks,
    parse_domain,
    read_guest,
)

Q35 = Path(__file__).with_name("data") / "q35.xml"
QEMU = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"


def guest_with(
    devices: str = "",
    extra: str = "",
    machine: str = "pc-q35-9.0",
    networks: Networks | None = None,
) -> Guest:
    xml = (
        f"<domain type='kvm' {QEMU}><name>g</name><os><type machine='{machine}'>hvm</type></os>"
        f"<devices>{devices}</devices>{extra}</domain>"
    )
    return read_guest(parse_domain(xml.encode()), networks)


def hostdev(host: str = "function='1'", inner: str = "", kind: str = "pci") -> str:
    source = f"<source><address bus='6' {host}/></source>"
    return f"<hostdev mode='subsystem' type='{kind}'>{source}{inner}</hostdev>"


def at(bus: int, slot: int = 1) -> str:
    return f"<address type='pci' bus='{bus}' slot='{slot}'/>"


def controller(index: int, model: str, alias: str = "") -> str:
    inner = f"<alias name='{alias}'/>" if alias else ""
    return f"<controller type='pci' index='{index}' model='{model}'>{inner}</controller>"


def args(*arguments: str) -> str:
    inner = "".join(f"<qemu:arg value='{argument}'/>" for argument in arguments)
    return f"<qemu:commandline>{inner}</qemu:commandline>"


def test_q35_guest() -> None:
    guest = read_guest(parse_domain(Q35.read_bytes()))
    assert guest.name == "g1"
    assert guest.uuid == "6f1c5a2e-9d1b-4c47-9f61-2f8f1d3d7a10"
    assert (guest.machine, guest.arch, guest.virt_type) == ("pc-q35-9.0", "x86_64", "kvm")
    assert guest.emulator == "/usr/bin/qemu-system-x86_64"
    assert guest.globals == (Global("vfio-pci", "x-no-mmap", "on"),)
    assert guest.express
    assert guest.metadata is None
    assert guest.unresolved == ("vfs",)


def test_q35_devices() -> None:
    guest = read_guest(parse_domain(Q35.read_bytes()), networks=lambda name: name == "vfs")
    assert guest.unresolved == ()
    mdev = "c2177883-f1bb-47f0-914d-32a22e3a880"
    port, bridge, root = "root-port", "conventional", "root-complex"
    assert [device[:6] for device in guest.devices] == [
        ("0000:01:00.0", "interface", "0000:07:02.1", "hostdev0", "vfio-pci", port),
        ("0000:00:03.0", "pci", "0000:06:00.4", "hostdev3", "vfio-pci", root),
        ("0000:02:01.0", "pci", "0000:06:00.5", "ua-mine", "vfio-pci", bridge),
        ("0000:03:00.0", "mdev", f"{mdev}4", "hostdev4", "vfio-pci-nohotplug", port),
        ("hostdev:8", "pci", "0000:06:00.7", "hostdev7", "vfio-pci", port),
        # What a network hands out stands last on QEMU's command line, though it is numbered first.
        ("0000:04:00.0", "network", None, "hostdev1", "vfio-pci", port),
        ("commandline:own", "commandline", "0000:06:01.0", "own", "vfio-pci", root),
        ("commandline:1", "commandline", f"{mdev}6", None, "vfio-pci", root),
    ]
    assert [device.key for device in guest.devices if device.assumption] == ["hostdev:8"]


def test_q35_properties() -> None:
    devices = {
        device.alias: device for device in read_guest(parse_domain(Q35.read_bytes())).devices
    }
    values = {
        alias: {name: each.value for name, each in device.properties.items()}
        for alias, device in devices.items()
    }
    assert values["hostdev0"] == {"rombar": "1", "failover_pair_id": "ua-backup"}
    assert values["ua-mine"] == {"romfile": ""}
    # libvirt has no use for an mdev's <rom>.
    assert values["hostdev3"] == {"display": "on", "ramfb": "on"} | {
        "skip-vsc-check": "on",
        "x-pci-vendor-id": "4660",
    }
    assert values["hostdev2"] == {"multifunction": "on", "rombar": "0", "romfile": "/rom.bin"}
    assert values["own"]["x-pci-device-id"] == "0x1234"
    assert values[None]["rombar"] == "0"
    assert values[None]["ramfb"] == "on"


def test_property_origins() -> None:
    device = guest_with(
        hostdev(inner="<rom bar='off'/>" + at(0)),
        "<qemu:override><qemu:device alias='hostdev0'><qemu:frontend>"
        "<qemu:property name='skip-vsc-check' type='bool' value='false'/>"
        "</qemu:frontend></qemu:device></qemu:override>"
        + args("-set", "device.hostdev0.x-req=off"),
    ).devices[0]
    assert device.properties["rombar"] == ("0", "libvirt: <rom bar='off'>", "number")
    assert device.properties["skip-vsc-check"] == ("off", "qemu:override", "boolean")
    assert device.properties["x-req"] == ("off", "-set", "text")


@pytest.mark.parametrize(
    ("domain", "driver", "expected"),
    [
        ("<iommufd enabled='yes'/>", "", "libvirt: the domain's <iommufd>"),
        ("<iommufd enabled='yes' fdgroup='x'/>", "<driver name='vfio'/>", "libvirt: the domain's"),
        ("<iommufd enabled='yes'/>", "<driver iommufd='no'/>", None),
        ("<iommufd enabled='yes'/>", "<driver iommufd='yes'/>", "libvirt: <driver iommufd='yes'>"),
        ("<iommufd enabled='no'/>", "", None),
        ("<iommufd enabled='no'/>", "<driver iommufd='yes'/>", "libvirt: <driver iommufd='yes'>"),
        ("", "<driver iommufd='yes'/>", "libvirt: <driver iommufd='yes'>"),
    ],
)
def test_iommufd_of_the_domain_and_its_exceptions(
    domain: str, driver: str, expected: str | None
) -> None:
    """As in libvirt 12.2 and newer: for the domain, and otherwise for a device."""
    mdev = "<source><address uuid='c2177883-f1bb-47f0-914d-32a22e3a8804'/></source>"
    interface = "<interface type='hostdev'><source><address type='pci' bus='7'/></source>{}"
    guest = guest_with(
        f"<hostdev type='mdev' model='vfio-pci'>{mdev}{driver}</hostdev>"
        + hostdev(inner=driver)
        + f"{interface.format(driver)}</interface>",
        domain,
    )
    found = {device.kind: device.properties.get("iommufd") for device in guest.devices}
    assert found.pop("mdev") is None
    assert found.keys() == {"pci", "interface"}
    for own in found.values():
        assert (own is None) is (expected is None)
        if own is not None and expected is not None:
            assert own.value == "iommufd0" and own.origin.startswith(expected)


def test_written_aliases_are_those_of_the_xml() -> None:
    guest = guest_with(
        hostdev(inner="<alias name='hostdev4'/>" + at(0))
        + hostdev("function='2'", "<alias name='ua-x'/>" + at(0, 2))
        + hostdev("function='3'", at(0, 3))
        + hostdev("function='4'", "<alias name='hostdev&#x202e;'/>" + at(0, 4))
        + "<interface type='bridge'><alias name='net0'/></interface>"
        + "<hostdev type='usb'><alias name='hostdev1'/></hostdev>"
    )
    assert [(device.written, device.alias) for device in guest.devices] == [
        ("hostdev4", "hostdev0"),
        ("ua-x", "ua-x"),
        (None, "hostdev1"),
        (None, "hostdev2"),
    ]
    assert [device.name for device in guest.devices][:3] == ["hostdev4", "ua-x", "hostdev1"]
    assert guest.others == {"net0", "hostdev1"}


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        ("bool", "true", ("on", "boolean")),
        ("string", "on", ("on", "string")),
        ("string", "0x10", ("0x10", "string")),
        ("unsigned", "1", ("1", "number")),
        ("unsigned", "010", ("10", "number")),
        ("signed", "-1", ("-1", "number")),
    ],
)
def test_override_keeps_its_type(type_: str, value: str, expected: tuple[str, str]) -> None:
    """As ``virsh domxml-to-native`` shows them; libvirt reads numbers in base 10."""
    device = guest_with(
        hostdev(),
        "<qemu:override><qemu:device alias='hostdev0'><qemu:frontend>"
        f"<qemu:property name='x' type='{type_}' value='{value}'/>"
        "</qemu:frontend></qemu:device></qemu:override>",
    ).devices[0]
    assert device.properties["x"] == (expected[0], "qemu:override", expected[1])


def test_types_of_what_libvirt_makes_of_its_own_xml() -> None:
    inner = "<rom bar='off' file='/r'/><acpi index='5'/>"
    address = "<address type='pci' bus='0' slot='5' multifunction='on'/>"
    device = guest_with(hostdev(inner=inner + address)).devices[0]
    assert {name: each.form for name, each in device.properties.items()} == {
        "multifunction": "boolean",
        "acpi-index": "number",
        "rombar": "number",
        "romfile": "string",
    }


def test_ids_that_look_like_numbers() -> None:
    """Only JSON's form takes them: the k=v form wants a letter first."""
    extra = args("-device", "vfio-pci,host=7:0.0", "-device", "vfio-pci,host=7:0.1,id=gpu")
    for name in ("0", "id=0"):
        json = f'{{"driver":"vfio-pci","host":"7:0.2","id":"{name}"}}'.replace('"', "&quot;")
        extra = extra.replace("</qemu:commandline>", args("-device", json)[18:])
    assert [device.key for device in guest_with("", extra).devices] == [
        *("commandline:0", "commandline:gpu", "commandline:id=0", "commandline:id=id=0"),
    ]


def test_override_removes_property_and_may_move_device() -> None:
    device = guest_with(
        hostdev(inner="<rom bar='off'/>" + at(0)) + controller(1, "pcie-root-port"),
        "<qemu:override><qemu:device alias='hostdev0'><qemu:frontend>"
        "<qemu:property name='rombar' type='remove'/>"
        "<qemu:property name='bus' type='string' value='pci.1'/>"
        "<qemu:property name='host' type='string' value='0000:09:00.0'/>"
        "</qemu:frontend></qemu:device></qemu:override>",
    ).devices[0]
    assert "rombar" not in device.properties
    assert (device.placement, device.host) == ("root-port", "0000:09:00.0")


def test_aliases_of_a_running_guest_are_dropped() -> None:
    devices = hostdev("function='1'", "<alias name='hostdev5'/>") + hostdev("function='2'")
    assert [device.alias for device in guest_with(devices).devices] == ["hostdev0", "hostdev1"]


def test_every_hostdev_takes_a_number() -> None:
    others = "".join(hostdev(kind=kind) for kind in ("usb", "scsi", "scsi_host"))
    assert [device.alias for device in guest_with(others + hostdev()).devices] == ["hostdev3"]


def test_actual_hostdev_of_a_network() -> None:
    interface = (
        "<interface type='network'><source network='n'/><actual type='hostdev'>"
        "<source><address type='pci' bus='7' slot='1' function='2'/></source></actual></interface>"
    )
    (device,) = guest_with(interface).devices
    assert (device.kind, device.host, device.alias) == ("network", "0000:07:01.2", "hostdev0")


@pytest.mark.parametrize(
    ("overrides", "host"),
    [
        ((("host", "string", "0000:09:00.3"),), "c2177883-f1bb-47f0-914d-32a22e3a8804"),
        (
            (("host", "string", "0000:09:00.3"), ("sysfsdev", "remove", "")),
            "0000:09:00.3",
        ),
        ((("sysfsdev", "string", "/sys/bus/pci/devices/0000:09:00.4"),), "0000:09:00.4"),
    ],
)
def test_mdev_whose_device_is_overridden(
    overrides: tuple[tuple[str, str, str], ...], host: str
) -> None:
    """libvirt names an mdev by sysfsdev, beside which QEMU does not look at host."""
    source = "<source><address uuid='c2177883-f1bb-47f0-914d-32a22e3a8804'/></source>"
    lines = "".join(
        f"<qemu:property name='{name}' type='{kind}' value='{value}'/>"
        for name, kind, value in overrides
    )
    guest = guest_with(
        f"<hostdev type='mdev' model='vfio-pci'>{source}</hostdev>",
        "<qemu:override><qemu:device alias='hostdev0'><qemu:frontend>"
        f"{lines}</qemu:frontend></qemu:device></qemu:override>",
    )
    assert [device.host for device in guest.devices] == [host]


@pytest.mark.parametrize(
    ("answer", "aliases", "unresolved"),
    [(True, ["hostdev1", "hostdev0"], ()), (False, ["hostdev0"], ()), (None, ["hostdev0"], ("n",))],
)
def test_network(answer: bool | None, aliases: list[str], unresolved: tuple[str, ...]) -> None:
    interface = "<interface type='network'><source network='n'/></interface>"
    guest = guest_with(hostdev() + interface, networks=lambda _: answer)
    assert [device.alias for device in guest.devices] == aliases
    assert guest.unresolved == unresolved


@pytest.mark.parametrize(
    ("model", "placement"),
    [
        ("pcie-root-port", "root-port"),
        ("pcie-switch-downstream-port", "root-port"),
        ("pcie-expander-bus", "root-complex"),
        ("pci-bridge", "conventional"),
        ("dmi-to-pci-bridge", "conventional"),
        ("pcie-to-pci-bridge", "conventional"),
        ("pci-expander-bus", "conventional"),
    ],
)
def test_placement_by_controller(model: str, placement: str) -> None:
    guest = guest_with(controller(5, model) + hostdev(inner=at(5)))
    assert (guest.devices[0].placement, guest.devices[0].assumption) == (placement, "")
    assert guest.devices[0].key == "0000:05:01.0"


@pytest.mark.parametrize(
    ("machine", "root", "usual"),
    [
        ("pc-q35-rhel9.4.0", "root-complex", "root-port"),
        ("q35", "root-complex", "root-port"),
        ("virt-9.1", "root-complex", "root-port"),
        ("pc-i440fx-9.0", "conventional", "conventional"),
        ("pseries-9.0", "conventional", "conventional"),
    ],
)
def test_placement_by_machine(machine: str, root: str, usual: str) -> None:
    devices = hostdev("function='1'", at(0)) + hostdev("function='2'") + hostdev("slot='1'", at(9))
    guest = guest_with(devices, args("-device", "vfio-pci,host=7:0.0"), machine)
    assert [device.placement for device in guest.devices] == [root, usual, usual, root]
    assert [bool(device.assumption) for device in guest.devices] == [False, True, True, False]
    assert guest.express == (root == "root-complex")


@pytest.mark.parametrize(
    ("bus", "placement", "certain"),
    [
        ("pcie.0", "root-complex", True),
        ("pci.1", "root-port", True),
        ("ua-bridge", "conventional", True),
        ("pci.2", "root-port", False),
        ("rp", "root-port", True),
        ("pxb", "root-complex", True),
        ("nonesuch", "root-port", False),
    ],
)
def test_placement_by_bus_name(bus: str, placement: str, certain: bool) -> None:
    device = guest_with(
        controller(1, "pcie-root-port") + controller(2, "pcie-to-pci-bridge", "ua-bridge"),
        args("-device", f"vfio-pci,host=7:0.0,bus={bus}")
        + args("-device", "pcie-root-port,id=rp", "-device", "pxb-pcie,id=pxb,bus_nr=9"),
    ).devices[0]
    assert (device.placement, device.assumption == "") == (placement, certain)


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        ("<os><type machine='q35'/></os>", "no <name>"),
        ("<name>g</name>", "no machine type"),
        ("<name>g</name><os><type machine='q35'/></os><uuid>x</uuid>", "not a UUID"),
    ],
)
def test_guest_must_have(xml: str, says: str) -> None:
    with pytest.raises(GuestError, match=says):
        read_guest(parse_domain(f"<domain type='kvm'>{xml}</domain>".encode()))


@pytest.mark.parametrize(
    ("devices", "says"),
    [
        (hostdev("slot='32'"), "slot='32'"),
        (hostdev(inner="<address type='pci' bus='x'/>"), "bus='x'"),
        (hostdev("function='1'", at(0)) + hostdev("function='2'", at(0)), "two VFIO devices"),
        (
            "<hostdev type='mdev' model='vfio-pci'><source><address uuid='1'/></source></hostdev>",
            "uuid='1'",
        ),
        ("<controller type='pci' index='-1'/>", "index='-1'"),
    ],
)
def test_invalid_xml_is_named(devices: str, says: str) -> None:
    with pytest.raises(GuestError, match=says):
        guest_with(devices)


def test_too_many_devices() -> None:
    with pytest.raises(GuestError, match="more than 1024"):
        guest_with(hostdev() * 1025)


def test_nothing_of_vfio() -> None:
    assert guest_with("<interface type='user'/><hostdev type='usb'/>").devices == ()


TAGS = st.sampled_from(
    ["domain", "devices", "hostdev", "interface", "source", "address", "actual", "controller",
     "alias", "rom", "metadata", "name", "uuid", "os", "type", "x"]
)  # fmt: skip
VALUES = st.sampled_from(
    ["pci", "mdev", "hostdev", "network", "vfio-pci", "subsystem", "0", "1", "0x1f", "-1", ""]
) | st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)  # fmt: skip
NAMES = st.sampled_from(
    [
        "type",
        "mode",
        "model",
        "index",
        "bus",
        "slot",
        "function",
        "domain",
        "uuid",
        "name",
        "machine",
    ]
)
Described = tuple[str, "dict[str, str]", "list[object]"]
ELEMENTS: st.SearchStrategy[Described] = st.recursive(
    st.builds(lambda tag, attributes: (tag, attributes, []), TAGS, st.dictionaries(NAMES, VALUES)),
    lambda children: st.tuples(
        TAGS, st.dictionaries(NAMES, VALUES), st.lists(children, max_size=4)
    ),
    max_leaves=12,
)


def _build(parent: etree._Element, described: Described) -> None:
    element = etree.SubElement(parent, described[0], described[1])
    for child in described[2]:
        _build(element, child)  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(st.lists(ELEMENTS, max_size=6), st.booleans())
def test_any_xml_gives_a_guest_or_a_guest_error(content: list[Described], in_devices: bool) -> None:
    root = parse_domain(b"<domain type='kvm'><name>g</name><os><type machine='q35'/></os></domain>")
    parent = etree.SubElement(root, "devices") if in_devices else root
    for described in content:
        _build(parent, described)
    try:
        guest = read_guest(root, networks=lambda name: len(name) > 3)
    except GuestError:
        return
    assert len({device.key for device in guest.devices}) == len(guest.devices)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 4000), st.binary(min_size=1, max_size=6))
def test_damaged_bytes_give_a_guest_or_a_guest_error(offset: int, garbage: bytes) -> None:
    xml = bytearray(Q35.read_bytes())
    xml[offset : offset + len(garbage)] = garbage
    try:
        guest = read_guest(parse_domain(bytes(xml)))
    except GuestError:
        return
    assert guest.name

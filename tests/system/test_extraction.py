"""What is read from a guest's XML, held against the command line that libvirt makes of it.

``domxml-to-native`` of a private libvirtd says it in 30 ms for guests without interfaces, which it
replaces (and libvirt 11.3 crashes over those of type hostdev); guests with interfaces are started.
More guests, or others:

    EXTRACTION=1000 EXTRACTION_SEED=7 .venv/bin/python -m pytest -s tests/system/test_extraction.py
"""

from __future__ import annotations

import collections
import os
import re
from collections.abc import Iterator
from random import Random

import pytest
from lxml import etree

from lab import FakeDevice, Host, Lab
from vfio_preflight.guest.domain import Guest, GuestDevice, read_guest
from vfio_preflight.guest.mend import Mend, add_override, only_ours_changed
from vfio_preflight.guest.topology import read_topology
from vfio_preflight.guest.xml import parse_domain, to_bytes
from vfio_preflight.host.networks import hands_out_devices

from .argv import Told, arguments_of, told
from .drawn import NETWORK, Drawing
from .pair import CONFIG

GUESTS = int(os.environ.get("EXTRACTION", "40"))
SEED = int(os.environ.get("EXTRACTION_SEED", "1"))
STARTED = max(5, GUESTS // 10)  # of these, guests with interfaces; they take longer

VFS = tuple(f"0000:06:00.{function}" for function in range(1, 7))
POOL = tuple(f"0000:06:01.{function}" for function in range(1, 5))
MDEVS = tuple(f"c0ffee00-1111-4222-8333-44445555666{n}" for n in range(4))
# Nothing has to be there of what libvirt only writes down.
ON = ("on", "boolean")
ANY = (*VFS, *MDEVS, *(f"0000:0a:{slot:02x}.0" for slot in range(8)))
# What the guests must have between them, so that the comparison says something.
COVERED = (
    *("pcie-root-port", "pcie-switch-upstream-port", "pcie-switch-downstream-port", "ioh3420"),
    *("dmi-to-pci-bridge", "pcie-to-pci-bridge", "pci-bridge", "pcie-expander-bus"),
    *("pci-expander-bus", "i440fx", "pc-q35", "type='pci'", "type='mdev'", "type='usb'"),
    *("'ua-", "unassigned", "ramfb='on'", "multifunction='on'", "qemu:commandline"),
    *("qemu:override", "<rom bar=", "<acpi index="),
)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with Lab(tmp_path_factory.mktemp("extraction")) as lab:
        for name in (*VFS, *POOL):
            lab.a.add_device(FakeDevice(name, "vf", CONFIG, parent="0000:06:00.0"))
        for name in MDEVS:
            lab.a.add_device(FakeDevice(name, "mdev", CONFIG))
        addresses = "".join(
            f"<address type='pci' domain='0' bus='6' slot='{name[9]}' function='{name[-1]}'/>"
            for name in POOL
        )
        forward = f"<forward mode='hostdev' managed='no'>{addresses}</forward>"
        network = f"<network><name>{NETWORK}</name>{forward}</network>"
        define = ["/usr/bin/virsh", "net-define", "/dev/stdin"]
        lab.a.run(define, stdin=network).check_returncode()
        lab.a.virsh("net-start", NETWORK).check_returncode()
        yield lab.a


def native(host: Host, xml: str) -> list[Told]:
    """The devices on the command line that libvirt would make of ``xml``."""
    command = ["/usr/bin/virsh", "--quiet", "domxml-to-native", "qemu-argv", "/dev/stdin"]
    result = host.run(command, stdin=xml)
    assert result.returncode == 0, f"{result.stderr}\n{xml}"
    return told(arguments_of(result.stdout))


def completed(host: Host, xml: str, refused: collections.Counter[str]) -> str:
    """``xml`` with all that libvirt adds to it, addresses above all; empty if it refuses it."""
    name = str(etree.fromstring(xml).findtext("name"))
    # One virsh for all three: most of its time is its start.
    batch = f"define /dev/stdin; dumpxml --inactive {name}; undefine {name}"
    result = host.run(["/usr/bin/virsh", "--quiet", batch], stdin=xml)
    if not result.stdout.startswith("<domain"):
        lines = [line for line in result.stderr.splitlines() if "/dev/stdin" not in line]
        refused[re.sub(r"0x[0-9a-f]+|[0-9a-f:.]{5,}|[0-9]+", "N", lines[0])] += 1
        return ""
    return result.stdout


def extracted(host: Host, xml: str) -> list[Told]:
    """What the project makes of ``xml``."""
    root = parse_domain(xml.encode())
    guest = guest_of(host, root)
    topology = read_topology(root)
    return [_as_told(device, topology.path_of(device)) for device in guest.devices]


def guest_of(host: Host, root: etree._Element) -> Guest:
    return read_guest(root, lambda name: hands_out_devices(name, str(host.path("/"))))


def _as_told(device: GuestDevice, path: str | None) -> Told:
    elsewhere = ("host", "sysfsdev", "bus", "addr", "driver", "bootindex")
    return Told(
        device.alias,
        device.driver,
        device.host,
        device.placement,
        path,
        {
            name: (value.value, value.form)
            for name, value in device.properties.items()
            if name not in elsewhere
        },
    )


def without_places(devices: list[Told]) -> list[Told]:
    """What does not depend on the addresses and defaults that libvirt has yet to choose."""
    return [
        each._replace(
            placement="",
            path=None,
            properties={
                name: value
                for name, value in each.properties.items()
                if name != "multifunction" and (name, value) != ("display", ("off", "string"))
            },
        )
        for each in devices
    ]


def with_gaps(xml: str, random: Random) -> str:
    """``xml`` as that of a running guest, some of whose devices were unplugged."""
    root = parse_domain(xml.encode())
    number = 0
    for element in (*root.iterfind("devices/interface"), *root.iterfind("devices/hostdev")):
        number += random.choice((1, 1, 2, 5))
        if element.find("alias") is None:
            etree.SubElement(element, "alias", name=f"hostdev{number}")
    return to_bytes(root).decode()


def mended(xml: str, random: Random, aliases: list[str]) -> tuple[str, set[str]]:
    """``xml`` with skip-vsc-check for some of its devices, as the hook mends them; and which."""
    chosen = {alias for alias in aliases if random.random() < 0.5}
    root = parse_domain(xml.encode())
    mends = [Mend(alias, "skip-vsc-check", True) for alias in sorted(chosen)]
    for mend in mends:
        add_override(root, mend)
    text = to_bytes(root)
    assert only_ours_changed(parse_domain(xml.encode()), parse_domain(text), mends)
    return text.decode(), chosen


def is_mended(device: Told) -> bool:
    return device.properties.get("skip-vsc-check") == ON


def as_mended(devices: list[Told], chosen: set[str]) -> list[Told]:
    value = {"skip-vsc-check": ON}
    return [
        each._replace(properties={**each.properties, **value}) if each.alias in chosen else each
        for each in devices
    ]


def by_alias(devices: list[Told]) -> list[Told]:
    return sorted(devices, key=lambda each: str(each.alias))


def of_libvirt(host: Host, xml: str) -> list[str]:
    """The aliases of the devices that an override reaches."""
    devices = guest_of(host, parse_domain(xml.encode())).devices
    return [d.alias for d in devices if d.kind != "commandline" and d.alias]


def test_extraction_is_what_libvirt_does(host: Host) -> None:
    random, refused = Random(SEED), collections.Counter[str]()
    devices = guests = drawn = 0
    held, seen, expanders = "", set[str](), 0
    while guests < GUESTS:
        drawn += 1
        assert drawn < 3 * GUESTS + 50, f"libvirt refuses too many: {refused.most_common()}"
        xml = Drawing(random, f"x{drawn}", ANY).xml()
        full = completed(host, xml, refused)
        if not full or "<hostdev" not in full:
            continue
        what = f"seed {SEED}, guest {drawn}:\n{full}"
        expected = native(host, full)
        assert extracted(host, full) == expected, what
        assert without_places(extracted(host, xml)) == without_places(expected), what
        live = with_gaps(full, random)
        assert extracted(host, live) == expected, what
        text, chosen = mended(live, random, of_libvirt(host, full))
        assert native(host, text) == as_mended(expected, chosen), f"{chosen}, {what}"
        assert extracted(host, text) == as_mended(expected, chosen), what
        guests, devices = guests + 1, devices + len(expected)
        held += full
        seen.update(each.placement for each in expected)
        expanders += sum(not (each.path or "0000:00").startswith("0000:00") for each in expected)
    assert devices > guests, "most guests have several"
    assert [word for word in COVERED if word not in held] == []
    assert seen == {"root-complex", "root-port", "conventional"}
    assert expanders > 0, "the buses of expanders are named otherwise"
    print(f"{guests} guests, {devices} devices; refused by libvirt: {refused.most_common()}")


def test_extraction_of_guests_with_interfaces(host: Host) -> None:
    """These are started: what libvirt gave QEMU is in the guest's log, and in its live XML."""
    random, refused = Random(SEED), collections.Counter[str]()
    ran = devices = drawn = 0
    while ran < STARTED:
        drawn += 1
        assert drawn < 3 * STARTED + 50, f"libvirt refuses too many: {refused.most_common()}"
        name = f"i{drawn}"
        full = completed(host, Drawing(random, name, (*VFS, *MDEVS), True).xml(), refused)
        if not full or "<interface" not in full:
            continue
        before = {each.alias for each in extracted(host, full) if is_mended(each)}
        text, chosen = mended(full, random, of_libvirt(host, full))
        result = host.run(["/usr/bin/virsh", "create", "--paused", "/dev/stdin"], stdin=text)
        what = f"seed {SEED}, guest {drawn}: {result.stderr}\n{text}"
        if result.returncode != 0:
            refused[result.stderr] += 1
            continue
        try:
            expected = told(host.qemu_arguments(name))
            live = host.virsh("dumpxml", name).stdout
            migratable = host.virsh("dumpxml", "--migratable", name).stdout
        finally:
            host.virsh("destroy", name).check_returncode()
        # Which VF of the pool it is, the live XML alone has.
        anonymous = [each._replace(host=None) for each in expected]
        for seen in (text, migratable):
            assert [each._replace(host=None) for each in extracted(host, seen)] == anonymous, what
        # There they are plain interfaces, so that the order is another.
        assert by_alias(extracted(host, live)) == by_alias(expected), f"{what}\n{live}"
        guest = guest_of(host, parse_domain(live.encode()))
        assert all(device.written == device.alias for device in guest.devices), f"{what}\n{live}"
        got = {each.alias for each in expected if is_mended(each)}
        assert got == chosen | before, what
        ran, devices = ran + 1, devices + len(expected)
    print(f"{ran} guests, {devices} devices; refused: {refused.most_common()}")

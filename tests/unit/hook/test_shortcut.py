"""The hook's shortcut for guests without VFIO devices: it never changes a verdict."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.guests import guest_xml
from vfio_preflight.configuration import Configuration
from vfio_preflight.guest.domain import Guest, read_guest
from vfio_preflight.guest.xml import GuestError, parse_domain
from vfio_preflight.hook.entry import MAX_INPUT, MAX_REFERENCES, may_have_vfio
from vfio_preflight.hook.gate import Gate

NETWORKS = {"default": False, "vfs": True}
QEMU = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"
JSON = '{"driver":"%s","host":"06:00.4"}'
ESCAPED = JSON % "\\u0076fio-pci"


@pytest.fixture(autouse=True)
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks of this host."""
    for module in ("host.networks", "hook.gate"):
        monkeypatch.setattr(f"vfio_preflight.{module}.hands_out_devices", NETWORKS.get)


def interface(kind: str = "network", network: str = "default") -> str:
    return f"<interface type='{kind}'><source network='{network}'/></interface>"


def domain(devices: str = "", head: str = "") -> str:
    return (
        f"<domain type='kvm' {QEMU}><name>g1</name>{head}<os><type arch='x86_64'"
        f" machine='pc-q35-9.0'>hvm</type></os><devices>{devices}</devices></domain>"
    )


def argument(value: str) -> str:
    arguments = f"<qemu:arg value='-device'/><qemu:arg value='{value}'/>"
    return domain().replace(
        "</domain>", f"<qemu:commandline>{arguments}</qemu:commandline></domain>"
    )


def has_something(xml: bytes) -> bool:
    """Whether the guest, read as it is when it is judged, has anything to judge."""
    guest: Guest = read_guest(parse_domain(xml), NETWORKS.get)
    return bool(guest.devices or guest.unresolved)


ORDINARY = [
    domain(),
    domain(interface()),
    domain(interface() + interface("bridge", "vfs")),
    domain(head="<title>line&#10;break, M&#xFC;ller and M&#252;ller</title>"),
    domain(head="<metadata><x network='none'/>a network</metadata>"),
    domain("<graphics type='vnc'><listen type='network' network='none'/></graphics>"),
    argument("e1000,bus=pcie.0"),
    guest_xml("g1"),
]
MATTER = [
    domain("<hostdev type='pci'><source><address bus='6'/></source></hostdev>"),
    domain("<interface type='hostdev'><source><address type='pci' bus='6'/></source></interface>"),
    domain(
        '<interface type = "&#104;ostdev"><source><address type="pci" bus="6"/></source>'
        "</interface>"
    ),
    domain(
        "<interface type='&#x68;&#x0000006F;stdev'><source><address type='pci' bus='6'/></source>"
        "</interface>"
    ),
    argument("vfio-pci,host=06:00.4"),
    argument("v&#102;io-pci,host=06:00.4"),
    argument(JSON % "vfio-pci"),
    argument(ESCAPED),
    argument(ESCAPED.replace("\\", "&#92;")),
    domain(interface(network="vfs")),
    domain(interface(network="unknown")),
    domain(interface(network="&#118;fs")),
    domain(interface(network="")),
    domain("<interface type='network'/>"),
    domain('<interface type="network"><source network="unknown"/></interface>'),
    domain("<interface type = 'n&#101;twork'><source network='unknown'/></interface>"),
    # What a search would take for the interface's own network.
    domain(
        "<interface type='network'><x><source network='default'/></x>"
        "<source network='unknown'/></interface>"
    ),
    domain(
        "<interface type='network'><!-- <source network='default'/> --><source portid='1'"
        " network='unknown'/></interface>"
    ),
    domain(
        "<interface type='network'><interface type='bridge'><source network='default'/>"
        "</interface><source network='unknown'/></interface>"
    ),
    domain(
        "<interface type='network'><source dev='x'/><source network='default'/></interface>"
        + interface()
    ),
]


@pytest.mark.parametrize("xml", ORDINARY)
def test_ordinary_guest_needs_no_parser(xml: str) -> None:
    assert not may_have_vfio(xml.encode())
    assert not has_something(xml.encode())


@pytest.mark.parametrize("xml", MATTER)
def test_guest_that_matters_is_judged(xml: str) -> None:
    assert has_something(xml.encode()), "the reader of the tree sees it"
    assert may_have_vfio(xml.encode())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp037"])
@pytest.mark.parametrize("xml", MATTER[:5])
def test_other_encodings_are_left_to_the_parser(xml: str, encoding: str) -> None:
    """libvirt sends none of them; a hook before this one, which may be anything, could."""
    declared = f"<?xml version='1.0' encoding='{encoding}'?>{xml}"
    assert may_have_vfio(xml.encode(encoding))
    assert may_have_vfio(declared.encode(encoding))


@pytest.mark.parametrize(
    "xml",
    [
        *(b"", b" \n", b"<domain>", b"<domain></domain", b"<domain></domain>x"),
        b"<!-- --><domain></domain>",
        b"<!DOCTYPE d [<!ENTITY h 'hostde'>]><domain></domain>",
        b"<domain>&#nonsense;</domain>",
        b"<domain>" + b"&#10;" * (MAX_REFERENCES + 1) + b"</domain>",
        b"<domain><interface type='network'></domain>",
        b"<domain>" + b" " * MAX_INPUT + b"</domain>",
    ],
)
def test_what_is_odd_is_left_to_the_parser(xml: bytes) -> None:
    assert may_have_vfio(xml)


# What the hook looks for, in places where it means nothing.
WORDS = ["hostdev", "vfio", "'network'", "&#104;i", "mdev", "\\u0066", "type=network"]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("unknown", ["block", "annotate"])
@pytest.mark.parametrize("xml", [*ORDINARY, *MATTER[-3:]])
def test_unrelated_word_changes_no_verdict(
    xml: str, unknown: str, word: str, tmp_path: Path, outcome: Callable[[str, str], int]
) -> None:
    titled = xml.replace("<name>g1</name>", f"<name>g1</name><description>{word}</description>")
    assert titled != xml
    assert outcome(xml, unknown) == outcome(titled, unknown)


@pytest.fixture
def outcome(tmp_path: Path) -> Callable[[str, str], int]:
    """What the hook answers at ``migrate begin``: its exit status, and whether it changes XML."""

    def answer(xml: str, unknown: str) -> int:
        if not may_have_vfio(xml.encode()):
            return 0
        policy = {"fail": "block", "unknown": unknown, "tolerated": "allow", "pass": "allow"}
        settings = Configuration(policy=policy, log="none", runtime=str(tmp_path))
        given = Gate("g1", settings, time.monotonic() + 5).judge("migrate", xml.encode())
        return given.status * 2 + bool(given.out)

    return answer


def test_network_that_is_not_defined_is_told_as_libvirt_will(
    outcome: Callable[[str, str], int],
) -> None:
    plain = domain(interface(network="unknown"))
    assert outcome(plain, "block") == 2
    settings = Configuration(policy={**Configuration().policy, "unknown": "block"}, log="none")
    err = Gate("g1", settings, time.monotonic() + 5).judge("migrate", plain.encode()).err
    assert b"network 'unknown' is not defined on this host: libvirt refuses" in err
    assert b'"Network not found"' in err


PIECES = st.sampled_from(
    [
        *("<interface type='network'>", "</interface>", "<source network='default'/>"),
        *("<source network='unknown'/>", "<interface type='bridge'>", "<x>", "</x>", "<!--"),
        *("-->", "<hostdev type='pci'/>", '<interface type="network">', "<![CDATA[", "]]>"),
        "<interface type='h&#111;stdev'><source><address type='pci'/></source></interface>",
        "<source network='vfs'/>",
    ]
)


@given(st.lists(PIECES, max_size=9))
def test_shortcut_never_hides_anything(pieces: list[str]) -> None:
    xml = domain("".join(pieces)).encode()
    try:
        something = has_something(xml)
    except GuestError:
        return
    assert may_have_vfio(xml) or not something

"""Domain XML in and out (guest.xml)."""

from __future__ import annotations

import pytest

from unit.patience import ends
from vfio_preflight.guest.domain import read_guest
from vfio_preflight.guest.xml import (
    MAX_ATTRIBUTES,
    MAX_XML,
    GuestError,
    LimitError,
    parse_domain,
    to_bytes,
)

LAUGHS = "".join(f"<!ENTITY l{i} '{f'&l{i - 1};' * 10}'>" for i in range(1, 40))
BOMB = f"<!DOCTYPE domain [<!ENTITY l0 'ha'>{LAUGHS}]><domain type='kvm'%s>%s</domain>"


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        (b"", "empty"),
        (b" \n\t", "empty"),
        (b"<domain", "not well-formed.*line 1"),
        (b"not XML", "not well-formed"),
        (b"\xff\xfe\x00", "not well-formed"),
        (b"<domain type='kvm'>\x00</domain>", "not well-formed"),
        (b"<?xml version='1.0' encoding='nonsense'?><domain type='kvm'/>", "not well-formed"),
        (b"<network/>", "root element is <network>"),
        (b"<domain xmlns='urn:x' type='kvm'/>", "root element is <{urn:x}domain>"),
        (b"<domain/>", "type ''"),
        (b"<domain type='xen'/>", "type 'xen'"),
        (b"<!DOCTYPE domain><domain type='kvm'/>", "DOCTYPE"),
        (b"<!DOCTYPE d [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><domain type='kvm'/>", "DOCTYPE"),
        (b" " * (MAX_XML + 1), "more than"),
    ],
)
def test_parse_refuses(xml: bytes, says: str) -> None:
    with pytest.raises(GuestError, match=says):
        parse_domain(xml)


@pytest.mark.parametrize("where", [("", "&l39;"), (" name='&l39;'", "")])
def test_parse_entity_bomb_is_refused_at_once(where: tuple[str, str]) -> None:
    with ends(), pytest.raises(GuestError):
        parse_domain((BOMB % where).encode())


def test_parse_deep_nesting_is_refused() -> None:
    with pytest.raises(LimitError, match="too large: Excessive depth"):
        parse_domain(b"<domain type='kvm'>" + b"<a>" * 100_000)


@pytest.mark.parametrize("count", [MAX_ATTRIBUTES, MAX_ATTRIBUTES + 1, 50_000])
@pytest.mark.parametrize("form", ["%s='>'", '%s\n = "\'"'])
def test_parse_many_attributes(count: int, form: str) -> None:
    """libxml2 takes seconds for 50,000 of one element, and a check has seconds."""
    attributes = " ".join(form % f"a{number}" for number in range(count))
    xml = f"<domain type='kvm'><x>a=''</x><x {attributes}>b=''</x></domain>".encode()
    if count <= MAX_ATTRIBUTES:
        assert len(parse_domain(xml)[1].items()) == count
        return
    with ends(), pytest.raises(LimitError, match="over 512 attributes"):
        parse_domain(xml)


def test_message_is_one_short_line() -> None:
    with pytest.raises(GuestError) as caught:
        parse_domain(("<domain type='" + "x\u2028" * 10_000 + "'/>").encode())
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "xml",
    [
        '<domain type="kvm"><name>h\u00e4</name><!-- c --><?pi x?><![CDATA[a<b]]></domain>',
        '<!-- before --><domain type="qemu">\n  <x a="1&#10;2&amp;"/>\n</domain>',
    ],
)
def test_to_bytes_keeps_everything(xml: str) -> None:
    assert to_bytes(parse_domain(xml.encode())).decode() in (xml, xml.replace("><", ">\n<", 1))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "utf-32"])
@pytest.mark.parametrize("written", ["type='hostdev'", 'type = "&#104;ostdev"'])
def test_one_guest_however_it_is_written(written: str, encoding: str) -> None:
    """libvirt writes UTF-8 and single quotes; a file for ``check`` may be otherwise."""
    declared = "" if encoding == "utf-8" else f"<?xml version='1.0' encoding='{encoding[:10]}'?>"
    xml = (
        f"{declared.replace('utf-8-sig', 'utf-8')}<domain type='kvm'><name>g\u00e4</name>"
        f"<title><![CDATA[<hostdev>]]></title><os><type machine='pc-q35-9.0'>hvm</type></os>"
        f"<devices><interface {written}><source><address type='pci' bus='6'/></source>"
        "</interface></devices></domain>"
    )
    root = parse_domain(xml.encode(encoding))
    guest = read_guest(root)
    assert (guest.name, [device.host for device in guest.devices]) == ("g\u00e4", ["0000:06:00.0"])
    assert parse_domain(to_bytes(root)).findtext("name") == "g\u00e4"

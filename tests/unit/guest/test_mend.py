"""The override that mends, and the proof (guest.mend)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from vfio_preflight.guest import mend
from vfio_preflight.guest.domain import Property, parse_domain, read_guest, to_bytes
from vfio_preflight.guest.mend import Mend, add_override, only_ours_changed
from vfio_preflight.guest.metadata import NAMESPACE, set_report
from vfio_preflight.guest.xml import GuestError

Q35 = (Path(__file__).with_name("data") / "q35.xml").read_bytes()
NS = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"
MEND = Mend("hostdev0", "skip-vsc-check", True)
SET = '<qemu:property name="skip-vsc-check" type="bool" value="true"/>'


def mended(override: str, mend: Mend = MEND, ns: str = NS) -> str:
    root = parse_domain(f"<domain type='kvm' {ns}><name>g</name>{override}</domain>".encode())
    add_override(root, mend)
    text = to_bytes(root).decode()
    return text[text.index("</name>") + 7 : text.index("</domain>")]


def device(alias: str, inner: str) -> str:
    return f'<qemu:device alias="{alias}"><qemu:frontend>{inner}</qemu:frontend></qemu:device>'


def test_override_is_made() -> None:
    assert mended("") == f"<qemu:override>{device('hostdev0', SET)}</qemu:override>"


def test_override_declares_its_namespace() -> None:
    namespace = 'xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0"'
    assert mended("", ns="").startswith(f"<qemu:override {namespace}>")


def test_override_joins_others() -> None:
    before = f"<qemu:override>{device('ua-x', SET)}</qemu:override>"
    assert mended(before) == (
        f"<qemu:override>{device('ua-x', SET)}{device('hostdev0', SET)}</qemu:override>"
    )


def test_override_joins_the_last_entry_and_replaces_its_property() -> None:
    off = SET.replace("true", "false")
    other = '<qemu:property name="x" type="remove"/>'
    before = device("hostdev0", off) + device("hostdev0", other)
    assert mended(f"<qemu:override>{before}</qemu:override>") == (
        "<qemu:override>"
        '<qemu:device alias="hostdev0"><qemu:frontend/></qemu:device>'
        f"{device('hostdev0', other + SET)}</qemu:override>"
    )


@pytest.mark.parametrize("name", ["addr", "x-no-mmap"])
def test_override_leaves_other_properties(name: str) -> None:
    other = SET.replace("skip-vsc-check", name)
    before = f"<qemu:override>{device('hostdev0', other)}</qemu:override>"
    assert mended(before) == f"<qemu:override>{device('hostdev0', other + SET)}</qemu:override>"
    assert name in mended("", Mend("hostdev0", name, True))


def test_override_makes_a_frontend() -> None:
    before = '<qemu:override><qemu:device alias="hostdev0"/></qemu:override>'
    assert mended(before) == f"<qemu:override>{device('hostdev0', SET)}</qemu:override>"


def test_override_of_id_is_refused() -> None:
    with pytest.raises(GuestError, match="'id'"):
        mended("", Mend("hostdev0", "id", True))


def test_override_is_read_back() -> None:
    root = parse_domain(Q35)
    add_override(root, Mend("ua-mine", "skip-vsc-check", False))
    found = {device.alias: device for device in read_guest(parse_domain(to_bytes(root))).devices}
    assert found["ua-mine"].properties["skip-vsc-check"] == Property(
        "off", "qemu:override", "boolean"
    )


def test_proof_of_our_own_changes() -> None:
    before, after = parse_domain(Q35), parse_domain(Q35)
    assert only_ours_changed(before, after)
    set_report(after, etree.Element("report", verdict="pass"))
    assert only_ours_changed(before, after)
    add_override(after, MEND)
    assert not only_ours_changed(before, after)
    assert only_ours_changed(before, parse_domain(to_bytes(after)), [MEND])


@pytest.mark.parametrize(
    "template", ["%s", "<metadata/>%s", "<metadata> \n </metadata>%s", "\n %s \n"]
)
def test_proof_of_elements_made_anew(template: str) -> None:
    xml = f"<domain type='kvm'><name>g</name>{template % ''}</domain>".encode()
    before, after = parse_domain(xml), parse_domain(xml)
    set_report(after, etree.Element("report"))
    add_override(after, MEND)
    assert only_ours_changed(before, after, [MEND])


def test_proof_minds_no_indentation() -> None:
    before, after = parse_domain(Q35), parse_domain(Q35)
    edit("devices", lambda element: setattr(element, "text", "\n\t\t\t"))(after)
    assert only_ours_changed(before, after)


def test_proof_minds_text_beside_elements() -> None:
    before, after = parse_domain(Q35), parse_domain(Q35)
    for root, text in ((before, "one"), (after, "other")):
        (devices,) = root.findall("devices")
        devices.text = text
    assert not only_ours_changed(before, after)


def test_proof_wants_the_mend_itself() -> None:
    before, after = parse_domain(Q35), parse_domain(Q35)
    assert not only_ours_changed(before, after, [MEND])
    add_override(after, MEND._replace(value=False))
    assert not only_ours_changed(before, after, [MEND])


def edit(path: str, change: Callable[[etree._Element], object]) -> Callable[[etree._Element], None]:
    def apply(root: etree._Element) -> None:
        element = root.find(path)
        assert element is not None
        change(element)

    return apply


@pytest.mark.parametrize(
    "change",
    [
        edit("name", lambda element: setattr(element, "text", "other")),
        edit("name", lambda element: setattr(element, "tail", "stray")),
        edit("memory", lambda element: element.set("unit", "GiB")),
        edit("memory", lambda element: element.set("new", "")),
        edit("devices", lambda element: setattr(element, "text", "x")),
        edit("devices", lambda element: etree.SubElement(element, "hostdev")),
        edit("devices", lambda element: element.append(etree.Comment("x"))),
        edit("devices", lambda element: element.remove(element[3])),
        edit("devices", lambda element: element.insert(0, element[3])),
        edit("devices/memballoon", lambda element: setattr(element, "tag", "ballon")),
        edit("devices/memballoon", lambda element: setattr(element, "text", " ")),
        edit("metadata", lambda element: etree.SubElement(element, "x")),
        edit("metadata", lambda element: element.remove(element[0])),
        edit("metadata", lambda element: setattr(element, "text", "x")),
        lambda root: add_override(root, Mend("hostdev9", "skip-vsc-check", True)),
        lambda root: add_override(root, Mend("hostdev0", "x-no-mmap", True)),
    ],
)
def test_proof_fails_for_anything_else(change: Callable[[etree._Element], None]) -> None:
    before, after = parse_domain(Q35), parse_domain(Q35)
    set_report(after, etree.Element("report"))
    add_override(after, MEND)
    change(after)
    assert not only_ours_changed(before, after, [MEND])


@pytest.mark.parametrize("where", ["before ours", "behind ours"])
def test_proof_fails_for_text_in_an_element_made_anew(where: str) -> None:
    """A new ``<metadata>`` may hold ours alone; with text it holds something else as well."""
    xml = b"<domain type='kvm'><name>g</name></domain>"
    before, after = parse_domain(xml), parse_domain(xml)
    set_report(after, etree.Element("report"))
    (metadata,) = after.findall("metadata")
    if where == "before ours":
        metadata.text = "stray"
    else:
        metadata[0].tail = "stray"
    assert not only_ours_changed(before, after)


@pytest.mark.parametrize("place", ["beside", "inside", "ours"])
def test_what_is_not_ours_is_not_walked(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million elements of other applications' metadata cost a restore 8 seconds."""
    many = "<a/>" * 1000
    metadata = {
        "beside": many,
        "inside": f"<o:o xmlns:o='urn:o'>{many}</o:o>",
        "ours": f"<p:preflight xmlns:p='{NAMESPACE}'>{many}</p:preflight>",
    }[place]
    xml = f"<domain type='kvm'><metadata>{metadata}\n</metadata><x b='1' a='2'/></domain>".encode()
    before, after = parse_domain(xml), parse_domain(xml)
    set_report(after, etree.Element("report", new="1"))
    add_override(after, MEND)
    text = to_bytes(after)
    monkeypatch.setattr(mend, "_content", lambda *_: pytest.fail("it was walked"))
    assert only_ours_changed(before, after, [MEND])
    assert to_bytes(after) == text, "what was taken out is back where it was"


def test_text_that_differs_is_walked_and_need_not_matter() -> None:
    one = parse_domain(b"<domain type='kvm'><x b='1' a='2'/></domain>")
    other = parse_domain(b"<domain type='kvm'>\n  <x a='2' b='1'/>\n</domain>")
    assert only_ours_changed(one, other)
    assert not only_ours_changed(one, parse_domain(b"<domain type='kvm'><x a='2'/></domain>"))
    assert not only_ours_changed(parse_domain(b"<domain type='kvm'/>"), one)

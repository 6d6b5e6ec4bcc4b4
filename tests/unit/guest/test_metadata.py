"""Our element in <metadata> (guest.metadata)."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from vfio_preflight.guest.domain import parse_domain, read_guest, to_bytes
from vfio_preflight.guest.metadata import (
    PROBE_NAME_PREFIX,
    Probe,
    Record,
    RecordEntry,
    RecordError,
    find_ours,
    from_get_metadata,
    read_policy,
    read_probe,
    read_record,
    set_record,
    set_report,
    to_set_metadata,
    write_record,
)
from vfio_preflight.pci.state import ConfigState

RECORD = Record({"k": RecordEntry(ConfigState(bytes(256), (), "sysfs", "o"))})
NS = "xmlns:preflight='urn:vfio-preflight:1'"


def domain(metadata: str = "", ns: str = NS) -> etree._Element:
    inner = f"<metadata>{metadata}</metadata>" if metadata else ""
    xml = f"<domain type='kvm' {ns}><name>g</name><uuid/>{inner}<memory/></domain>"
    return parse_domain(xml.encode())


def ours(inner: str) -> etree._Element:
    element = find_ours(domain(f"<preflight:preflight>{inner}</preflight:preflight>"))
    assert element is not None
    return element


def test_find_ours_takes_the_first_of_the_namespace() -> None:
    both = "<x:preflight xmlns:x='urn:other'/><p:preflight xmlns:p='urn:vfio-preflight:1' n='%d'/>"
    element = find_ours(domain(both % 1 + both % 2))
    assert element is not None
    assert element.get("n") == "1"
    assert find_ours(domain("<preflight/>")) is None


def test_read_policy() -> None:
    for policy in ("<policy fail='block'/>", "<preflight:policy fail='block'/><policy fail='x'/>"):
        assert read_policy(ours(policy)) == {"fail": "block"}
    assert read_policy(ours("")) == {}
    assert read_policy(None) == {}


def test_read_record() -> None:
    assert read_record(None) is None
    assert read_record(ours("<policy/>")) is None
    with pytest.raises(RecordError, match="schema '9'"):
        read_record(ours("<record schema='9'/>"))


def test_set_report_makes_what_is_missing() -> None:
    root = domain(ns="")
    set_report(root, etree.Element("report", verdict="pass"))
    assert to_bytes(root).decode() == (
        '<domain type="kvm"><name>g</name><uuid/><metadata>'
        '<preflight:preflight xmlns:preflight="urn:vfio-preflight:1"><report verdict="pass"/>'
        "</preflight:preflight></metadata><memory/></domain>"
    )


def test_set_report_replaces_report_and_keeps_the_rest() -> None:
    root = domain(
        "<o:x xmlns:o='urn:o'/>\n"
        "<preflight:preflight new='1'><policy fail='block'/> <preflight:report old='1'/> <!-- c -->"
        "<report old='2'/><unknown/></preflight:preflight>"
    )
    set_report(root, etree.Element("report", verdict="fail"))
    metadata = root.find("metadata")
    assert metadata is not None
    assert "".join(etree.tostring(each).decode() for each in metadata).replace(
        f" {NS}", ""
    ).replace(' xmlns:preflight="urn:vfio-preflight:1"', "") == (
        '<o:x xmlns:o="urn:o"/>\n<preflight:preflight new="1"><policy fail="block"/> '
        '<report verdict="fail"/> <!-- c --><unknown/></preflight:preflight>'
    )


def test_record_through_the_guest() -> None:
    root = parse_domain((Path(__file__).with_name("data") / "q35.xml").read_bytes())
    set_record(root, write_record(RECORD))
    set_record(root, write_record(RECORD))
    guest = read_guest(parse_domain(to_bytes(root)))
    assert read_record(guest.metadata) == RECORD


def test_set_metadata_has_no_namespace_and_keeps_the_policy() -> None:
    previous = ours("<preflight:policy fail='block'/> <record schema='1' old='1'/>")
    text = to_set_metadata(write_record(RECORD), previous)
    assert text.startswith('<preflight><policy fail="block"/><record schema="1" host=""')
    assert text.count("<record") == 1
    assert "urn:" not in text


def test_get_metadata_is_read() -> None:
    element = from_get_metadata(to_set_metadata(write_record(RECORD)))
    assert read_record(element) == RECORD


def test_read_probe() -> None:
    name = f"{PROBE_NAME_PREFIX}x"
    assert read_probe(name, ours("<probe/>")) == Probe(0)
    assert read_probe(name, ours("<probe part='3' trial='always'/>")) == Probe(3, "always")
    assert read_probe(name, ours("<probe bandwidth='128'/>")) == Probe(0, "", 128)
    assert read_probe("g1", ours("<probe/>")) is None
    assert read_probe(name, ours("<policy/>")) is None
    assert read_probe(name, None) is None


@pytest.mark.parametrize("part", ["-1", "x", "", "9" * 50, "\u0661"])
def test_read_probe_with_a_part_that_is_no_number(part: str) -> None:
    assert read_probe(f"{PROBE_NAME_PREFIX}x", ours(f"<probe part='{part}'/>")) == Probe(0)

"""The record (guest.record)."""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from vfio_preflight.guest.record import (
    MAX_DEVICES,
    Record,
    RecordEntry,
    RecordError,
    parse_record,
    write_record,
)
from vfio_preflight.guest.traits import Traits
from vfio_preflight.pci.space import reads_as_vf
from vfio_preflight.pci.state import EVIDENCE, Bar, ConfigState

KEY = "0000:05:00.0"
STATE = ConfigState(
    bytes(range(256)), (Bar(0, 16384, "mem64", True), Bar(6, 2048, "mem32")), "sysfs", "/sys/x"
)
RECORD = Record(
    {KEY: RecordEntry(STATE, host="0000:06:00.4")},
    host="a",
    time="2026-11-23T12:00:00Z",
    qemu="10.0.2",
)
FULL = RecordEntry(
    STATE,
    host="0000:06:00.4",
    on="a",
    time="2026-11-23T12:00:00Z",
    process="boot:1:2",
    qemu="10.0.2",
    age=3,
    migration="stop-copy p2p",
    traits=Traits("10de", "1eb8", "10de:12a2", "nvidia-63", "nvidia", "550.54.16", "1.2"),
    other={"colour": "green"},
)


def make(states: Mapping[str, ConfigState]) -> Record:
    return Record({key: RecordEntry(state) for key, state in states.items()})


def damaged(**attributes: str) -> Record:
    """Return the record read back with one entry spoilt and a good one behind it."""
    element = write_record(make({KEY: STATE, "good": STATE}))
    for name, value in attributes.items():
        if name == "text":
            element[0].text = value
        else:
            element[0].set(name, value)
    return parse_record(element)


def damage(record: Record) -> dict[str, str]:
    """Return what is wrong with the entries that could not be read."""
    return {key: entry.damage for key, entry in record.entries.items() if entry.damage}


def encoded(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


def test_written_as_documented() -> None:
    element = write_record(RECORD)
    assert dict(element.items()) == {
        "schema": "1",
        "host": "a",
        "time": "2026-11-23T12:00:00Z",
        "qemu": "10.0.2",
    }
    assert dict(element[0].items()) == {
        "key": KEY,
        "id": "0100:0302",
        "host": "0000:06:00.4",
        "evidence": "sysfs",
        "origin": "/sys/x",
        "size": "256",
        "encoding": "zlib+base64",
        "sha256": hashlib.sha256(STATE.config).hexdigest(),
        "bars": "0:16384:mem64:prefetchable 6:2048:mem32",
    }
    assert zlib.decompress(base64.b64decode(element[0].text or "")) == STATE.config


def test_read_back() -> None:
    assert parse_record(write_record(RECORD)) == RECORD


def test_everything_is_read_back() -> None:
    record = RECORD._replace(entries={KEY: FULL}, other={"site": "b"})
    element = write_record(record)
    assert (element[0].get("age"), element[0].get("driver-version")) == ("3", "550.54.16")
    assert parse_record(element) == record


@pytest.mark.parametrize("age", ["", "-100", "1e9", "1" * 13, "\u0666\u0661", "100\n"])
def test_age_that_is_no_number_is_not_known(age: str) -> None:
    element = write_record(RECORD)
    element[0].set("age", age)
    assert parse_record(element).entries[KEY].age is None


@pytest.mark.parametrize(
    ("entry", "recorded"),
    [
        ({"on": "b", "time": "2026-11-24T00:00:00Z"}, " on b at 2026-11-24T00:00:00Z"),
        ({"on": "b"}, " on b at 2026-11-23T12:00:00Z"),
        ({}, " on a at 2026-11-23T12:00:00Z"),
    ],
)
def test_origin_says_where_it_was_recorded(entry: dict[str, str], recorded: str) -> None:
    """A path of the first host looks like one of this host."""
    given = RecordEntry(STATE, on=entry.get("on", ""), time=entry.get("time", ""))
    dated = RECORD._replace(entries={KEY: given}).dated(KEY)
    assert dated is not None and dated.state == STATE._replace(origin=f"/sys/x, recorded{recorded}")


@pytest.mark.parametrize(
    ("entry", "qemu"),
    [
        (RecordEntry(STATE), "10.0.2"),
        (RecordEntry(STATE, qemu="11.1.3"), "11.1.3"),
        (RecordEntry(STATE, on="b", time="2026-11-24T00:00:00Z"), ""),
    ],
)
def test_qemu_of_an_entry_that_was_made_with_the_record(entry: RecordEntry, qemu: str) -> None:
    dated = RECORD._replace(entries={KEY: entry}, qemu="10.0.2").dated(KEY)
    assert dated is not None and dated.qemu == qemu


def test_read_back_when_libvirt_added_namespace_and_indentation() -> None:
    xml = etree.tostring(write_record(RECORD)).decode().replace("><", ">\n  <")
    for name in ("record", "device"):
        xml = xml.replace(f"<{name}", f"<p:{name}").replace(f"</{name}", f"</p:{name}")
    xml = xml.replace("<p:record", "<p:record xmlns:p='urn:vfio-preflight:1'")
    assert parse_record(etree.fromstring(xml)) == RECORD


BARS = st.lists(
    st.builds(
        Bar,
        st.integers(0, 6),
        st.integers(4, 63).map(lambda bits: 1 << bits),
        st.sampled_from(["io", "mem32", "mem64"]),
        st.booleans(),
    ),
    unique_by=lambda bar: bar.number,
).map(tuple)
STATES = st.builds(
    ConfigState,
    (st.binary(min_size=256, max_size=256) | st.binary(min_size=4096, max_size=4096)).filter(
        lambda config: not reads_as_vf(config)
    ),
    BARS,
    st.sampled_from(EVIDENCE),
    st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20),
    st.none() | st.integers(0, 7),
)


def test_atomic_ops() -> None:
    """In an attribute that earlier versions keep as it is; without it they are not known."""
    states = {str(n): STATE._replace(atomics=n) for n in (0, 3, 7)}
    element = write_record(make(states))
    assert [each.get("atomic_ops") for each in element] == ["none", "32 64", "32 64 128"]
    element[1].set("atomic_ops", "32 64 1024")
    del element[2].attrib["atomic_ops"]
    found = parse_record(element).states
    assert [state.atomics for state in found.values()] == [0, None, None]


@settings(deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z0-9:.]{1,12}", fullmatch=True), STATES, max_size=4))
def test_any_states_come_back(states: dict[str, ConfigState]) -> None:
    text = etree.tostring(write_record(make(states)))
    record = parse_record(etree.fromstring(text))
    assert (record.states, damage(record)) == (states, {})


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"text": ""}, "cut short"),
        ({"text": "!!!!"}, "cut short|cannot be decoded"),
        ({"text": "AAAA"}, "cannot be decoded"),
        ({"text": "\u00e4"}, "cannot be decoded"),
        ({"text": encoded(STATE.config)[:-12]}, "cut short|cannot be decoded"),
        ({"text": encoded(STATE.config[:-1])}, "255 bytes"),
        ({"text": encoded(STATE.config[::-1])}, "SHA-256"),
        ({"text": encoded(bytes(5 << 20))}, "more than 4096"),
        ({"text": "A" * 9000}, "the most is 8192"),
        ({"size": "4096"}, "256 bytes where its size says '4096'"),
        ({"size": "x"}, "size says 'x'"),
        ({"sha256": "0" * 64}, "SHA-256"),
        ({"evidence": "hearsay"}, "evidence 'hearsay'"),
        ({"encoding": "rot13"}, "encoding 'rot13'"),
        ({"bars": "7:16:io"}, "bars"),
        ({"bars": "0:17:io"}, "power of two"),
        ({"bars": "0:16:io 0:16:io"}, "twice"),
    ],
)
def test_damage_costs_only_that_device(attributes: dict[str, str], says: str) -> None:
    record = damaged(**attributes)
    assert list(record.states) == ["good"]
    assert list(damage(record)) == [KEY]
    assert re.search(says, damage(record)[KEY])


def test_a_vfs_own_bytes_are_no_state() -> None:
    """As earlier versions recorded them of a dump."""
    config = b"\xff\xff\xff\xff" + STATE.config[4:]
    record = make({"good": STATE, KEY: STATE._replace(config=config)})
    parsed = parse_record(write_record(record))
    assert list(parsed.states) == ["good"]
    assert "its IDs read ffff" in damage(parsed)[KEY]


def test_entry_without_key() -> None:
    assert list(damage(damaged(key=""))) == ["entry 0"]


def test_two_entries_for_one_device() -> None:
    record = damaged(key="good")
    assert (list(record.states), list(damage(record))) == ([], ["good"])


def test_zlib_bomb_is_not_inflated() -> None:
    bomb = encoded(bytes(4 << 20))
    assert len(bomb) < 8192
    assert "more than 4096" in damage(damaged(text=bomb))[KEY]


@pytest.mark.parametrize("schema", [None, "2", ""])
def test_unknown_schema(schema: str | None) -> None:
    element = write_record(RECORD)
    element.attrib.pop("schema")
    if schema is not None:
        element.set("schema", schema)
    with pytest.raises(RecordError, match="schema"):
        parse_record(element)


def test_too_many_devices() -> None:
    element = etree.Element("record", schema="1")
    for _ in range(MAX_DEVICES + 1):
        etree.SubElement(element, "device")
    with pytest.raises(RecordError, match=str(MAX_DEVICES)):
        parse_record(element)
    with pytest.raises(RecordError, match=str(MAX_DEVICES)):
        write_record(make({str(number): STATE for number in range(MAX_DEVICES + 1)}))


def test_write_refuses_other_sizes() -> None:
    with pytest.raises(RecordError, match="64 bytes"):
        write_record(make({KEY: STATE._replace(config=bytes(64))}))


def test_write_replaces_what_xml_cannot_hold() -> None:
    element = write_record(make({KEY: STATE._replace(origin="a\x00b\ud800c")}))
    assert element[0].get("origin") == "a?b?c"


@settings(deadline=None)
@given(
    st.sampled_from(["key", "size", "evidence", "encoding", "sha256", "bars", "text"]),
    st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=100),
)
def test_any_damage_is_survived(name: str, value: str) -> None:
    record = damaged(**{name: value})
    assert "good" in damage(record) or record.states["good"] == STATE

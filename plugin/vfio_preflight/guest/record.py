"""The record: config states of a guest's devices, written into XML and read back.

    <record schema="1" host="a" time="2026-11-23T12:00:00Z" qemu="10.0.2">
      <device key="0000:05:00.0" host="0000:06:00.4" evidence="sysfs" origin="/sys/bus/pci/..."
              size="256" encoding="zlib+base64" sha256="..." bars="0:16384:mem64:prefetchable">
        eJxj...
      </device>
    </record>

It passes through many hands and hosts: everything in it is bounded and checked.
"""

from __future__ import annotations

import binascii
import re
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from lxml import etree

from ..errors import PreflightError
from ..pci.state import EVIDENCE, Bar, ConfigState
from .xml import name_of

SCHEMA = "1"
MAX_DEVICES = 512
MAX_CONFIG = 4096
_MAX_TEXT = 8192  # base64 of 4096 incompressible bytes, with room for line breaks
_SIZES = (256, 4096)
_ENCODING = "zlib+base64"
_BAR = r"([0-6]):([0-9]{1,20}):(io|mem32|mem64)(:prefetchable)?"
# Attributes of <device> that describe the state; all others are facts about the device.
_STATE_ATTRIBUTES = ("key", "evidence", "origin", "size", "encoding", "sha256", "bars")
_NOT_XML = r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]"


class RecordError(PreflightError):
    """A record, or a device's entry in it, that is damaged or of an unknown schema."""


class Record(NamedTuple):
    """The config states of a guest's devices, by the devices' keys.

    ``host`` and ``time`` (ISO 8601, UTC) say where and when the record was begun; ``facts`` holds
    what else is known of that host, such as ``qemu``. ``devices`` holds, by key, what is known of a
    device beside its state: ``host`` is its address or UUID there, ``on`` and ``time`` where and
    when it was recorded, ``process`` for which QEMU, and so on (``recorder``, ``host.traits``).
    ``damaged`` says for each entry that could not be read why not.
    """

    states: Mapping[str, ConfigState]
    host: str = ""
    time: str = ""
    facts: Mapping[str, str] = {}
    devices: Mapping[str, Mapping[str, str]] = {}
    damaged: Mapping[str, str] = {}


def write_record(record: Record) -> etree._Element:
    """Return ``<record>`` for a record; ``damaged`` is not written.

    Characters that XML cannot hold are replaced by "?". Raises RecordError for more than
    :data:`MAX_DEVICES` devices or a state that is not of 256 or 4096 bytes.
    """
    if len(record.states) > MAX_DEVICES:
        raise RecordError(f"a record of {len(record.states)} devices; the most is {MAX_DEVICES}")
    begun = {"schema": SCHEMA, "host": _text(record.host), "time": _text(record.time)}
    element = etree.Element("record", begun)
    _set_facts(element, record.facts, ("schema", "host", "time"))
    for key, state in record.states.items():
        element.append(_write_device(key, state, record.devices.get(key, {})))
    return element


def parse_record(element: etree._Element) -> Record:
    """Return the record in ``<record>``.

    Raises RecordError for an unknown schema or more than :data:`MAX_DEVICES` devices. An entry that
    is damaged, or a key that is there twice, costs only that device.
    """
    schema = element.get("schema")
    if schema != SCHEMA:
        raise RecordError(f"the record has schema {_quoted(schema)}; this version reads {SCHEMA!r}")
    entries = [child for child in element if name_of(child) == "device"]
    if len(entries) > MAX_DEVICES:
        raise RecordError(f"the record has {len(entries)} devices; the most is {MAX_DEVICES}")
    states: dict[str, ConfigState] = {}
    devices: dict[str, dict[str, str]] = {}
    damaged: dict[str, str] = {}
    for number, entry in enumerate(entries):
        key = entry.get("key") or f"entry {number}"
        if key in devices:
            damaged[key] = "there are two entries for this device"
        devices[key] = _facts(entry, _STATE_ATTRIBUTES)
        try:
            states[key] = _read_device(entry)
        except RecordError as error:
            damaged.setdefault(key, str(error))
    return Record(
        states={key: state for key, state in states.items() if key not in damaged},
        host=element.get("host", ""),
        time=element.get("time", ""),
        facts=_facts(element, ("schema", "host", "time")),
        devices=devices,
        damaged=damaged,
    )


def _write_device(key: str, state: ConfigState, facts: Mapping[str, str]) -> etree._Element:
    size = len(state.config)
    if size not in _SIZES:
        raise RecordError(f"the config space of {key} has {size} bytes, not 256 or 4096")
    element = etree.Element("device", key=_text(key))
    _set_facts(element, facts, _STATE_ATTRIBUTES)
    element.set("evidence", _text(state.evidence))
    element.set("origin", _text(state.origin))
    element.set("size", str(size))
    element.set("encoding", _ENCODING)
    element.set("sha256", _sha256(state.config))
    if state.bars:
        element.set("bars", " ".join(_bar_text(bar) for bar in state.bars))
    element.text = binascii.b2a_base64(zlib.compress(state.config, 9), newline=False).decode()
    return element


def _read_device(entry: etree._Element) -> ConfigState:
    """Return the config state of one entry, or raise RecordError with what is wrong in it."""
    if not entry.get("key"):
        raise RecordError("the entry does not say which device it is for")
    evidence = entry.get("evidence", "")
    if evidence not in EVIDENCE:
        raise RecordError(f"unknown evidence {_quoted(evidence)}")
    if entry.get("encoding") != _ENCODING:
        raise RecordError(f"unknown encoding {_quoted(entry.get('encoding'))}")
    config = _decode(entry.text or "")
    if str(len(config)) != entry.get("size") or len(config) not in _SIZES:
        size = _quoted(entry.get("size"))
        raise RecordError(f"{len(config)} bytes where its size says {size}; 256 or 4096 expected")
    if _sha256(config) != entry.get("sha256", "").lower():
        raise RecordError("its bytes do not match their SHA-256 digest")
    return ConfigState(config, _read_bars(entry.get("bars", "")), evidence, entry.get("origin", ""))


def _decode(text: str) -> bytes:
    """Undo zlib+base64, never making more than one byte beyond :data:`MAX_CONFIG`."""
    if len(text) > _MAX_TEXT:
        raise RecordError(f"its text has {len(text)} characters; the most is {_MAX_TEXT}")
    inflate = zlib.decompressobj()
    try:
        config = inflate.decompress(binascii.a2b_base64(text), MAX_CONFIG + 1)
    except (zlib.error, binascii.Error, ValueError) as error:
        raise RecordError(f"its text cannot be decoded: {error}") from error
    if len(config) > MAX_CONFIG:
        raise RecordError(f"it holds more than {MAX_CONFIG} bytes")
    if not inflate.eof:
        raise RecordError("its text is cut short")
    return config


def _read_bars(text: str) -> tuple[Bar, ...]:
    bars = []
    for word in text.split():
        match = re.fullmatch(_BAR, word)
        if match is None:
            raise RecordError(f"its bars cannot be read: {_quoted(word)}")
        size = int(match[2])
        if size == 0 or size & (size - 1) or size > 1 << 63:
            raise RecordError(f"BAR {match[1]} has size {size}, which is not a power of two")
        bars.append(Bar(int(match[1]), size, match[3], bool(match[4])))
    if len({bar.number for bar in bars}) != len(bars):
        raise RecordError("it names a BAR twice")
    return tuple(bars)


def _bar_text(bar: Bar) -> str:
    text = f"{bar.number}:{bar.size}:{bar.kind}"
    return f"{text}:prefetchable" if bar.prefetchable else text


def _facts(element: etree._Element, without: tuple[str, ...]) -> dict[str, str]:
    return {str(k): str(v) for k, v in element.items() if k not in without}


def _set_facts(element: etree._Element, facts: Mapping[str, str], without: tuple[str, ...]) -> None:
    for name, value in facts.items():
        if name not in without:
            element.set(name, _text(value))


def _text(value: str) -> str:
    return re.sub(_NOT_XML, "?", value)


def _quoted(value: str | None) -> str:
    return "none" if value is None else repr(value[:40])


def _sha256(data: bytes) -> str:
    """Return the digest in hex. CPython's own module, where it has one, loads in a hundredth of
    the 3 ms that hashlib takes to bring up OpenSSL; that counts in the hook."""
    try:
        module = __import__("_sha256")
    except ImportError:
        try:
            module = __import__("_sha2")
        except ImportError:
            module = __import__("hashlib")
    digest: str = module.sha256(data).hexdigest()
    return digest

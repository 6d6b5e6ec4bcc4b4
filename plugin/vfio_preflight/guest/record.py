"""The record: config states of a guest's devices, written into XML and read back.

    <record schema="1" host="a" time="2026-11-23T12:00:00Z" qemu="10.0.2">
      <device key="0000:05:00.0" host="0000:06:00.4" evidence="sysfs" origin="/sys/bus/pci/..."
              size="256" encoding="zlib+base64" sha256="..." bars="0:16384:mem64:prefetchable">
        eJxj...
      </device>
    </record>

Any host or operator on the way can change it: everything in it is bounded and checked.
"""

from __future__ import annotations

import binascii
import re
import zlib
from collections.abc import Mapping
from itertools import islice

from lxml import etree

from ..errors import PreflightError
from ..osutil.digest import sha256
from ..osutil.light import NamedTuple
from ..pci import atomics, codec
from ..pci.codec import CodecError
from ..pci.space import identity, reads_as_vf
from ..pci.state import EVIDENCE, ConfigState
from .build import RecordedBuild, read_build, write_build
from .traits import NAMES, Traits, from_facts

SCHEMA = "1"
MAX_DEVICES = 512
MAX_CONFIG = 4096
_MAX_TEXT = 8192  # base64 of 4096 incompressible bytes, with room for line breaks
_SIZES = (256, 4096)
_ENCODING = "zlib+base64"
# Attributes of <record> and of <device> that are read into fields; others are kept as they are.
# Kept so that a newer version's attributes survive a hop over a host with an older one.
_RECORD_ATTRIBUTES = ("schema", "host", "time", "qemu")
_STATE_ATTRIBUTES = (
    "key",
    "evidence",
    "origin",
    "size",
    "encoding",
    "sha256",
    "bars",
    "id",
    "atomic_ops",
)
_ENTRY_ATTRIBUTES = ("host", "on", "time", "process", "qemu", "migration", "stop_copy_length")
_AGE = "[0-9]{1,12}"
# All that is not a Char in XML 1.0 (section 2.2); lxml raises ValueError for most of it.
_NOT_XML = r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]"


class RecordError(PreflightError):
    """A record, or a device's entry in it, that is damaged or of an unknown schema."""


class RecordEntry(NamedTuple):
    """A record's entry for one device.

    ``state`` is None for an entry that cannot be read, and ``damage`` then says why. ``host`` is
    the device's PCI address or mdev UUID on the host that recorded it, ``on`` that host's name,
    ``time`` when it did (ISO 8601, UTC). ``process`` names the QEMU process (``Process.instance``
    of ``host.processes``), ``qemu`` its version, ``age`` how long it had been running, in seconds,
    None where that is not known. ``migration`` is what the device's driver offers for migration
    (``stop-copy p2p``, ``none``), empty where not known; ``stop_copy_length`` how many bytes of
    device state it expects to send while the guest stands still, in decimal. ``other`` holds
    attributes that this version does not know.
    """

    state: ConfigState | None
    host: str = ""
    on: str = ""
    time: str = ""
    process: str = ""
    qemu: str = ""
    age: int | None = None
    migration: str = ""
    stop_copy_length: str = ""
    traits: Traits = Traits()
    damage: str = ""
    other: Mapping[str, str] = {}


class Record(NamedTuple):
    """The entries of a guest's devices, by the devices' keys.

    ``host``, ``time`` (ISO 8601, UTC) and ``qemu`` say where, when and with which QEMU the record
    was begun. ``build`` is what the guest's QEMU makes of its devices. ``other`` as in
    :class:`RecordEntry`.
    """

    entries: Mapping[str, RecordEntry]
    host: str = ""
    time: str = ""
    qemu: str = ""
    other: Mapping[str, str] = {}
    build: RecordedBuild | None = None

    @property
    def states(self) -> dict[str, ConfigState]:
        """The states that could be read."""
        return {k: entry.state for k, entry in self.entries.items() if entry.state is not None}

    def dated(self, key: str) -> RecordEntry | None:
        """The entry for ``key``; the origin of its state says where and when it was recorded.

        An entry that was made with the record has the record's QEMU.
        What the origin names, such as a sysfs path, is not on the host that reads the record.
        """
        entry = self.entries.get(key)
        if entry is None or entry.state is None:
            return entry
        # An entry without a host and time of its own was made with the record.
        on, at = entry.on or self.host, entry.time or self.time
        recorded = f"recorded{f' on {on}' if on else ''}{f' at {at}' if at else ''}"
        made_with_it = not entry.on and not entry.time
        return entry._replace(
            qemu=entry.qemu or (self.qemu if made_with_it else ""),
            state=entry.state._replace(origin=f"{entry.state.origin}, {recorded}"),
        )


def write_record(record: Record) -> etree._Element:
    """Return ``<record>`` for a record; entries without a state are left out.

    Characters that XML cannot hold are replaced by "?". Raises RecordError for more than
    :data:`MAX_DEVICES` devices or a state that is not of 256 or 4096 bytes.
    """
    known = [(key, entry) for key, entry in record.entries.items() if entry.state is not None]
    # Checked when writing too: parse_record() on the next host would refuse the whole record.
    if len(known) > MAX_DEVICES:
        raise RecordError(f"a record of {len(known)} devices; the most is {MAX_DEVICES}")
    element = etree.Element("record", schema=SCHEMA, host=_text(record.host))
    element.set("time", _text(record.time))
    _set(element, {**record.other, "qemu": record.qemu})
    for key, entry in known:
        element.append(_write_device(key, entry))
    if record.build is not None:
        write_build(element, record.build)
    return element


def parse_record(element: etree._Element) -> Record:
    """Return the record in ``<record>``.

    Raises RecordError for an unknown schema or more than :data:`MAX_DEVICES` devices. An entry that
    is damaged, or a key that is there twice, costs only that device.
    """
    schema = element.get("schema")
    if schema != SCHEMA:
        # The schema changes only if older readers would misread the record; so it is not guessed
        # at.
        raise RecordError(f"the record has schema {_quoted(schema)}; this version reads {SCHEMA!r}")
    devices = list(islice(element.iterchildren("{*}device"), MAX_DEVICES + 1))
    if len(devices) > MAX_DEVICES:
        raise RecordError(f"the record has more than {MAX_DEVICES} devices")
    entries: dict[str, RecordEntry] = {}
    for number, device in enumerate(devices):
        key = device.get("key") or f"entry {number}"
        entry = _read_entry(device)
        # Which of the two is right cannot be known, and a wrong one would give a wrong verdict.
        if key in entries:
            entry = entry._replace(state=None, damage="there are two entries for this device")
        entries[key] = entry
    return Record(
        entries,
        host=element.get("host", ""),
        time=element.get("time", ""),
        qemu=element.get("qemu", ""),
        other=_other(element, _RECORD_ATTRIBUTES),
        build=read_build(element),
    )


def _read_entry(device: etree._Element) -> RecordEntry:
    state, damage = None, ""
    try:
        state = _read_device(device)
    # Only this device is then without a state; the guest's other devices can still be judged.
    except RecordError as error:
        damage = str(error)
    age = device.get("age", "")
    attributes = {name: device.get(name, "") for name in _ENTRY_ATTRIBUTES}
    known = (*_STATE_ATTRIBUTES, *_ENTRY_ATTRIBUTES, *NAMES)
    return RecordEntry(
        state,
        # The length is limited: int() raises ValueError for more than 4300 digits (CPython 3.11).
        age=int(age) if re.fullmatch(_AGE, age) else None,
        traits=from_facts({name: device.get(name, "") for name in NAMES}),
        damage=damage,
        # An age that is not a number is kept as it is, like any attribute that is not understood.
        other=_other(device, (*known, "age") if re.fullmatch(_AGE, age) else known),
        **attributes,
    )


def _write_device(key: str, entry: RecordEntry) -> etree._Element:
    state = entry.state
    assert state is not None  # the caller leaves these out
    size = len(state.config)
    if size not in _SIZES:
        raise RecordError(f"the config space of {key} has {size} bytes, not 256 or 4096")
    element = etree.Element("device", key=_text(key), id=identity(state.config))
    _set(element, {name: getattr(entry, name) for name in _ENTRY_ATTRIBUTES})
    _set(element, {} if entry.age is None else {"age": str(entry.age)})
    _set(element, {**entry.traits.facts(), **entry.other})
    element.set("evidence", _text(state.evidence))
    element.set("origin", _text(state.origin))
    element.set("size", str(size))
    element.set("encoding", _ENCODING)
    element.set("sha256", sha256(state.config))
    if state.atomics is not None:
        element.set("atomic_ops", atomics.to_text(state.atomics))
    if state.bars:
        element.set("bars", codec.bars_to_text(state.bars))
    # Most bytes of a config space are zero, and the metadata travels with every migration.
    element.text = binascii.b2a_base64(zlib.compress(state.config, 9), newline=False).decode()
    return element


def _read_device(entry: etree._Element) -> ConfigState:
    """Return the config state of one entry, or raise RecordError with what is wrong in it."""
    if not entry.get("key"):
        raise RecordError("the entry does not say which device it is for")
    evidence = entry.get("evidence", "")
    # An unknown evidence could not be ranked against other sources of the same device.
    if evidence not in EVIDENCE:
        raise RecordError(f"unknown evidence {_quoted(evidence)}")
    if entry.get("encoding") != _ENCODING:
        raise RecordError(f"unknown encoding {_quoted(entry.get('encoding'))}")
    config = _decode(entry.text or "")
    # QEMU's own copy always has one of these two sizes, whatever size the region has.
    if str(len(config)) != entry.get("size") or len(config) not in _SIZES:
        size = _quoted(entry.get("size"))
        raise RecordError(f"{len(config)} bytes where its size says {size}; 256 or 4096 expected")
    # Detects edits by hand and truncation; it is no protection against a deliberate change.
    if sha256(config) != entry.get("sha256", "").lower():
        raise RecordError("its bytes do not match their SHA-256 digest")
    # Made of a dump by an earlier version: compared, it would say that the device is another one.
    if reads_as_vf(config):
        raise RecordError("its IDs read ffff: they are a VF's own bytes, not what VFIO presents")
    try:
        bars = codec.bars_from_text(entry.get("bars", ""))
    except CodecError as error:
        raise RecordError(f"its bars cannot be read: {error}") from error
    widths = atomics.from_text(entry.get("atomic_ops"))
    return ConfigState(config, bars, evidence, entry.get("origin", ""), widths)


def _decode(text: str) -> bytes:
    """Undo zlib+base64, never making more than one byte beyond :data:`MAX_CONFIG`."""
    # Before decoding, so that the cost does not depend on what somebody put into the metadata.
    if len(text) > _MAX_TEXT:
        raise RecordError(f"its text has {len(text)} characters; the most is {_MAX_TEXT}")
    inflate = zlib.decompressobj()
    try:
        # max_length: a few KB of zlib data can expand to megabytes.
        config = inflate.decompress(binascii.a2b_base64(text), MAX_CONFIG + 1)
    except (zlib.error, binascii.Error, ValueError) as error:
        raise RecordError(f"its text cannot be decoded: {error}") from error
    if len(config) > MAX_CONFIG:
        raise RecordError(f"it holds more than {MAX_CONFIG} bytes")
    # zlib's own check value (Adler-32) has been verified only when the end was reached.
    if not inflate.eof:
        raise RecordError("its text is cut short")
    return config


def _other(element: etree._Element, known: tuple[str, ...]) -> dict[str, str]:
    return {str(name): str(value) for name, value in element.items() if name not in known}


def _set(element: etree._Element, attributes: Mapping[str, str]) -> None:
    """Set those attributes that have a value."""
    for name, value in attributes.items():
        if value:
            element.set(name, _text(value))


def _text(value: str) -> str:
    return re.sub(_NOT_XML, "?", value)


def _quoted(value: str | None) -> str:
    return "none" if value is None else repr(value[:40])

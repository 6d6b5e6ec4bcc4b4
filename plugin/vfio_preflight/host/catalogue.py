"""The catalogue: states that devices presented, by the traits that determine them.

It is used for devices that must not be opened. It holds states that were actually read from such a
device through VFIO; what an operator supplied does not become more certain by passing through
here, and the bytes of a stream are what QEMU made of the device at its place in a guest. There is
one file for each set of traits, so that a look-up opens one file. Two states seen for the same
traits are both kept: then the traits do not determine the bytes, and nothing is predicted.

Files are always complete, even with concurrent writers (:mod:`vfio_preflight.osutil.jsondir`); of
two that write the same entry the later wins, and what the earlier wrote will be seen again.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterable

from ..errors import PreflightError
from ..guest.traits import NAMES, Traits
from ..osutil import jsondir
from ..osutil.light import TYPE_CHECKING, NamedTuple
from ..pci import codec
from ..pci.codec import CodecError
from ..pci.space import ConfigSpaceError
from ..pci.state import ConfigState
from .traits import MAX_LENGTH

if TYPE_CHECKING:
    from typing import Any

SCHEMA = 1
MAX_ENTRIES = 256
# Different states of the same traits that are kept: enough to show that they differ.
MAX_STATES = 4
MAX_ORIGIN = 1024
# Evidence that is what the device itself presents. A stream is of QEMU's copy, which depends on the
# device's place in the guest, too; traits do not show that.
SEEN = ("vfio",)

# Are two states the same to QEMU?
Same = Callable[[ConfigState, ConfigState], bool]


class CatalogueError(PreflightError):
    """A catalogue that cannot be written, or an invalid entry."""


class Entry(NamedTuple):
    """What devices with ``traits`` were seen to present: ``states`` with the latest first.

    ``host`` and ``time`` (ISO 8601, UTC) are those of the latest sighting that added anything.
    """

    traits: Traits
    states: tuple[ConfigState, ...]
    host: str
    time: str


def name_of(traits: Traits) -> str:
    """The name of an entry: readable, a file's name, and one for each set of traits."""
    words = (traits.vendor, traits.device, traits.type, traits.driver, traits.driver_version)
    shown = re.sub(r"[^a-z0-9.]+", "-", "-".join(filter(None, words)).lower()).strip("-.")
    # The checksum separates names that the characters above would make equal.
    return f"{shown[:80]}-{zlib.crc32(chr(0).join(traits).encode('utf-8', 'replace')):08x}"


def find(directory: str, traits: Traits) -> Entry | None:
    """The entry for ``traits``; it counts as used."""
    if not traits.determined:
        return None
    name = name_of(traits)
    value = jsondir.load(directory, name)
    if value is None:
        return None
    try:
        entry = from_json(value)
    except CatalogueError:
        return None
    # Different traits can share a file name by a CRC collision.
    if entry.traits != traits:
        return None
    # Keeps the entry from being pruned: jsondir drops those that were used longest ago.
    jsondir.used(directory, name)
    return entry


def entries(directory: str) -> list[tuple[str, Entry]]:
    """All entries that can be read, by name."""
    found = []
    for name in jsondir.names(directory):
        try:
            found.append((name, from_json(jsondir.load(directory, name))))
        except CatalogueError:
            continue
    return found


def add(directory: str, entry: Entry, same: Same) -> bool:
    """Merge ``entry`` into the catalogue; return whether that changed it.

    Raises CatalogueError for an entry whose traits do not determine anything or whose states were
    not seen, and where the catalogue cannot be written.
    """
    _require_use(entry)
    old = find(directory, entry.traits)
    # Read, merge, write: without a lock, as losing a sighting does no harm.
    new = merged(old, entry, same)
    if new == old:
        return False
    if not jsondir.store(directory, name_of(entry.traits), to_json(new), MAX_ENTRIES):
        raise CatalogueError(f"{directory}: cannot be written, or others can write it")
    return True


def merged(old: Entry | None, new: Entry, same: Same) -> Entry:
    """One entry of two for the same traits; of states that are equal to QEMU the older is kept."""
    if old is None:
        return new
    latest = max((old, new), key=lambda entry: entry.time)
    states = list(old.states)
    for state in new.states:
        # The older one is kept, so that equal sightings do not rewrite the file at every start.
        if not any(same(known, state) for known in states):
            states.append(state)
    first = next(state for state in states if same(state, latest.states[0]))
    states.sort(key=lambda state: state is not first)
    # Nothing new: the file keeps its time and origin.
    if tuple(states) == old.states:
        return old
    return Entry(old.traits, tuple(states[:MAX_STATES]), latest.host, latest.time)


def all_names(directory: str) -> list[str]:
    """The names of all entries, those that cannot be read included."""
    return jsondir.names(directory)


def forget(directory: str, names: Iterable[str]) -> list[str]:
    """Remove entries by name; return those that were there."""
    known = set(jsondir.names(directory))
    return [name for name in names if name in known and jsondir.remove(directory, name)]


# --- JSON ---------------------------------------------------------------------------------------


def to_json(entry: Entry) -> dict[str, Any]:
    """``entry`` as :func:`from_json` reads it."""
    return {
        "schema": SCHEMA,
        "traits": entry.traits.facts(),
        "host": entry.host,
        "time": entry.time,
        "states": [_state_to_json(state) for state in entry.states],
    }


def from_json(value: object) -> Entry:
    # An import comes from another host; a file on disk may be from another version.
    """Read an entry, trusting nothing in it. Raises CatalogueError."""
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise CatalogueError(f'not an entry of a catalogue: "schema" is not {SCHEMA}')
    listed = value.get("states")
    if not isinstance(listed, list) or not 0 < len(listed) <= MAX_STATES:
        raise CatalogueError(f'"states" is not a list of 1 to {MAX_STATES} states')
    entry = Entry(
        _traits_from_json(value.get("traits")),
        tuple(_state_from_json(state) for state in listed),
        _string(value.get("host"), "host"),
        _string(value.get("time"), "time"),
    )
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry.time, re.ASCII):
        raise CatalogueError(f'"time" is {entry.time!a}, not such as 2026-11-23T12:00:00Z')
    # Again when reading: an entry with weak evidence must not get in by way of import.
    _require_use(entry)
    return entry


def _require_use(entry: Entry) -> None:
    if not entry.traits.determined:
        raise CatalogueError('"traits" lack one of vendor, device, driver and driver-version')
    for state in entry.states:
        if state.evidence == "stream":
            raise CatalogueError(
                "evidence 'stream' is what QEMU made of a device at its place in a guest, not what"
                f" the device presents; it takes one of: {', '.join(SEEN)}"
            )
        if state.evidence not in SEEN:
            raise CatalogueError(
                f"evidence '{state.evidence[:40]}' was not seen on a device; it takes one of:"
                f" {', '.join(SEEN)}"
            )


def _traits_from_json(value: object) -> Traits:
    if not isinstance(value, dict):
        raise CatalogueError('"traits" is not an object')
    unknown = sorted(str(name)[:40] for name in value if name not in NAMES)
    if unknown:
        raise CatalogueError(f'"traits" has {unknown[0]!a}; known are: {", ".join(NAMES)}')
    traits = Traits(*(_string(value.get(name, ""), name) for name in NAMES))
    for name, text in (("vendor", traits.vendor), ("device", traits.device)):
        if text and not re.fullmatch("[0-9a-f]{4}", text):
            raise CatalogueError(f'"{name}" is {text!a}, not four hexadecimal digits')
    return traits


def _state_to_json(state: ConfigState) -> dict[str, Any]:
    return {
        "evidence": state.evidence,
        "origin": state.origin[:MAX_ORIGIN],
        "bars": [list(bar) for bar in state.bars],
        "config": state.config.hex(),
    }


def _state_from_json(value: object) -> ConfigState:
    if not isinstance(value, dict):
        raise CatalogueError("a state is not an object")
    try:
        config = codec.config_from_hex(value.get("config"), "a state")
        bars = codec.bars_from_lists(value.get("bars"))
        grade = codec.evidence(value.get("evidence"))
    except (CodecError, ConfigSpaceError) as error:
        raise CatalogueError(str(error)) from error
    return ConfigState(config, bars, grade, _string(value.get("origin"), "origin", MAX_ORIGIN))


def _string(value: object, name: str, most: int = MAX_LENGTH) -> str:
    if not isinstance(value, str) or len(value) > most or not value.isprintable():
        raise CatalogueError(f'"{name}" is not a printable string of up to {most} characters')
    return value


def under(root: str, directory: str) -> str:
    """The catalogue's directory below a root that tests can replace."""
    return os.path.join(root, directory.lstrip("/"))

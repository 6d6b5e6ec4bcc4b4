"""The history: what was predicted of guests that migrated to this host, and what QEMU did.

One file for each attempt, below the directory of ``[paths] history``: ``refused/`` for those of
which QEMU refused a device, ``others/`` for the rest, each with a bound of its own, so that many
successes push no refusal out. A refusal is known from then on: its file's name ends with a checksum
of what was refused (machine type, and the traits of the device on both hosts), so that a look-up
costs the listing of a directory. A success with the same overtakes it.

Files are always complete, even with concurrent writers (:mod:`vfio_preflight.osutil.jsondir`).
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping

from ..errors import PreflightError
from ..guest.traits import Traits, from_facts
from ..osutil import jsondir
from ..osutil.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

SCHEMA = 1
MAX_ENTRIES = 256
# What happened: the guest runs here; QEMU refused one of its VFIO devices; it came to nothing for
# another reason, or for one that is not known.
COMPLETED, REFUSED, FAILED = "completed", "refused", "failed"
OUTCOMES = (COMPLETED, REFUSED, FAILED)
_REFUSALS, _OTHERS = "refused", "others"
SUBDIRECTORIES = (_OTHERS, _REFUSALS)


class HistoryError(PreflightError):
    """An entry that is not there, or a history that cannot be read."""


class Pair(NamedTuple):
    """What QEMU's answer is known for: a device's traits on both hosts, and the machine type."""

    machine: str
    source: Traits
    destination: Traits

    @property
    def determined(self) -> bool:
        """Whether enough is known of both devices for the answer to hold for others like them."""
        return bool(self.machine) and self.source.determined and self.destination.determined

    @property
    def key(self) -> str:
        """The end of the name of the files about it."""
        words = (self.machine, *self.source, *self.destination)
        return f"{zlib.crc32(chr(0).join(words).encode('utf-8', 'replace')):08x}"


class Entry(NamedTuple):
    """What was predicted of one attempt, and what happened.

    ``expected`` is what was left at ``migrate begin`` (``hook.prediction``). ``outcome`` is one of
    :data:`OUTCOMES`; ``device`` the key of the device that QEMU refused, ``line`` what it said,
    ``note`` what else is known. ``agrees`` is None where nothing was predicted, or where what
    happened has nothing to do with the prediction. ``time`` (ISO 8601, UTC) and ``host`` are those
    of the end; ``overtaken`` is when the same was accepted after all.
    """

    expected: Mapping[str, Any]
    outcome: str
    agrees: bool | None
    device: str = ""
    line: str = ""
    note: str = ""
    time: str = ""
    host: str = ""
    overtaken: str = ""

    def devices(self) -> list[Mapping[str, Any]]:
        """The devices as they were expected."""
        return list(self.expected["devices"])

    def pair(self, device: Mapping[str, Any]) -> Pair:
        """What an answer on ``device`` is an answer for."""
        source, destination = (from_facts(device["traits"][side]) for side in SIDES)
        return Pair(self.expected["machine"], source, destination)


SIDES = ("source", "destination")


def name_of(entry: Entry) -> str:
    """The name of an entry: by time and guest, and one for each attempt."""
    shown = re.sub(r"[^A-Za-z0-9._]+", "-", entry.expected["guest"])[:60]
    # The token separates attempts of one second, and guests whose names are made equal here.
    words = [re.sub("[-:]", "", entry.time), shown, entry.expected["token"][:12]]
    return "-".join([*words, *(entry.pair(device).key for device in _refused_of(entry))])


def _refused_of(entry: Entry) -> list[Mapping[str, Any]]:
    """The device that QEMU refused, if its traits say enough of it."""
    if entry.outcome != REFUSED:
        return []
    return [d for d in entry.devices() if d["key"] == entry.device and entry.pair(d).determined]


def add(directory: str, entry: Entry) -> str:
    """Add an entry and return its name; empty if it could not be stored."""
    name = name_of(entry)
    where = _REFUSALS if entry.outcome == REFUSED else _OTHERS
    if not jsondir.store(os.path.join(directory, where), name, to_json(entry), MAX_ENTRIES):
        return ""
    if entry.outcome == COMPLETED:
        _overtake(directory, entry)
    return name


def _overtake(directory: str, completed: Entry) -> None:
    """Mark the refusals that ``completed`` shows to hold no more."""
    for device in completed.devices():
        for name, entry in refusals_of(directory, completed.pair(device)):
            (refused,) = _refused_of(entry)
            # A device that was accepted with skip-vsc-check was not accepted without it.
            if refused["mended"] == device["mended"]:
                changed = to_json(entry._replace(overtaken=completed.time))
                jsondir.store(os.path.join(directory, _REFUSALS), name, changed, MAX_ENTRIES)


def refusals_of(directory: str, pair: Pair) -> list[tuple[str, Entry]]:
    """The refusals of ``pair`` that still hold, by name, the latest last."""
    if not pair.determined:
        return []
    place, ending = os.path.join(directory, _REFUSALS), f"-{pair.key}"
    found = []
    for name in jsondir.names(place):
        entry = _load(place, name) if name.endswith(ending) else None
        # Two pairs can have one checksum.
        if entry is None or entry.overtaken:
            continue
        if any(entry.pair(device) == pair for device in _refused_of(entry)):
            # Keeps it from being dropped: those go first that were asked for longest ago.
            jsondir.used(place, name)
            found.append((name, entry))
    return found


def mended(entry: Entry) -> bool:
    """Whether the refused device had ``skip-vsc-check`` set by the hook."""
    return any(device["mended"] for device in _refused_of(entry))


def entries(directory: str) -> list[tuple[str, Entry]]:
    """All entries that can be read, the oldest first."""
    found = ((name, _load(place, name)) for place, name in _files(directory))
    return sorted((name, entry) for name, entry in found if entry is not None)


def forget(directory: str, names: Iterable[str]) -> list[str]:
    """Remove entries by name, those that cannot be read included; return those that were there."""
    wanted = set(names)
    found = [(place, name) for place, name in _files(directory) if name in wanted]
    return sorted(name for place, name in found if jsondir.remove(place, name))


def all_names(directory: str) -> list[str]:
    """The names of all entries, those that cannot be read included."""
    return sorted(name for _, name in _files(directory))


def _files(directory: str) -> Iterator[tuple[str, str]]:
    for subdirectory in SUBDIRECTORIES:
        place = os.path.join(directory, subdirectory)
        yield from ((place, name) for name in jsondir.names(place))


# --- JSON ---------------------------------------------------------------------------------------


def to_json(entry: Entry) -> dict[str, Any]:
    """``entry`` as it is stored."""
    return {"schema": SCHEMA, **entry._asdict()}


def _load(place: str, name: str) -> Entry | None:
    value = jsondir.load(place, name)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        return None
    try:
        entry = Entry(**{field: value[field] for field in Entry._fields})
    except KeyError:
        return None
    texts = (entry.device, entry.line, entry.note, entry.time, entry.host, entry.overtaken)
    sound = all(isinstance(text, str) for text in texts) and entry.agrees in (True, False, None)
    return entry if sound and entry.outcome in OUTCOMES and is_expected(entry.expected) else None


def is_expected(value: object) -> bool:
    """Whether ``value`` is what ``migrate begin`` leaves, as far as anything here relies on it."""
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        return False
    names = ("token", "time", "guest", "uuid", "machine", "emulator", "verdict", "action")
    devices, log = value.get("devices"), value.get("log")
    return (
        all(isinstance(value.get(name), str) for name in names)
        and isinstance(log, list)
        and [type(part) for part in log] == [int, int, str]
        and isinstance(devices, list)
        and all(_is_device(device) for device in devices)
    )


def _is_device(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("mended"), bool):
        return False
    traits = value.get("traits")
    if not isinstance(traits, dict) or not all(_is_texts(traits.get(side)) for side in SIDES):
        return False
    names = ("key", "alias", "host", "path", "verdict", "quote", "predicted", "property")
    return all(isinstance(value.get(name), str) for name in names)


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())

"""Two builds under one machine type: which of a guest's devices are not the same to both.

    >>> changes(sent, there)
    (Change(types=('vfio-pci',), property='x-igd-opregion', source=Value('off'), …),)

A machine type is a promise that all builds make the same machine of it, kept by compat entries for
what a newer release does differently. A build that lacks an entry, has one of its own, or another
default breaks it. Only what both builds tell is compared: a property that one of them lacks has
whatever value that release had in its code, and of some no default is told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from ...osutil.light import NamedTuple
from .sent import Sent, rom_size
from .types import TypeFacts, Value, effective


class Change(NamedTuple):
    """A property that is left alone and has another value there.

    ``types`` are those that it has the same two values on, ``lineages`` these and all their
    ancestors at the destination.
    """

    types: tuple[str, ...]
    property: str
    source: Value
    destination: Value
    lineages: frozenset[str] = frozenset()


class Rom(NamedTuple):
    """An option ROM of another size there; both in bytes."""

    qom_type: str
    source: int
    destination: int


def changes(sent: Sent, there: TypeFacts) -> tuple[Change, ...]:
    """The properties with other values; those of several types that differ in one way, once."""
    found: dict[tuple[str, Value, Value], list[str]] = {}
    for qom_type, values in sent.types.items():
        if not there.has(qom_type):
            continue
        for name, ours, theirs in _differing(values, effective(there, sent.machine, qom_type)):
            found.setdefault((name, ours, theirs), []).append(qom_type)
    return tuple(
        Change(tuple(types), *key, _lineages(there, types)) for key, types in found.items()
    )


def _differing(
    sent: Mapping[str, Value], here: Mapping[str, Value]
) -> Iterator[tuple[str, Value, Value]]:
    for name, ours in sent.items():
        theirs = here.get(name)
        # Who sets a value does not matter: builds have the same one by different ways.
        if theirs is not None and theirs.text != ours.text:
            yield name, ours, theirs


def _lineages(there: TypeFacts, types: Collection[str]) -> frozenset[str]:
    parts = filter(None, map(there.part, types))
    return frozenset(name for each in (*types, *parts) for name in there.lineage(each))


def missing_types(sent: Sent, there: TypeFacts) -> tuple[str, ...]:
    """Types that the guest uses and the other build does not have."""
    return tuple(sorted(name for name in sent.types if not there.has(name)))


def missing_properties(sent: Sent, there: TypeFacts) -> tuple[tuple[str, str], ...]:
    """Type and name of properties that the guest sets and the other build does not have."""
    return tuple(
        (qom_type, name)
        for qom_type, given in sorted(sent.given.items())
        if there.has(qom_type)
        for name in given
        if name not in there.properties(qom_type)
    )


def rom_changes(sent: Sent, there: TypeFacts) -> tuple[Rom, ...]:
    """Option ROMs that take another size at the destination."""
    found = []
    for qom_type, size in sorted(sent.roms.items()):
        # What is missing has a finding of its own, and no ROM.
        if not there.has(qom_type):
            continue
        values = effective(there, sent.machine, qom_type)
        other = rom_size(there, qom_type, (), values)
        if other is not None and other != size:
            found.append(Rom(qom_type, size, other))
    return tuple(found)

"""docs/DEVICES.md: what became of each device type, grouped by QEMU's words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from .hop import BLOCKED, CRASHED, HUNG, PASS, REFUSED, UNMADE, Hop
from .survey import Row

_HEAD = """\
# Emulated devices between two builds of QEMU

Every PCI device type that `-device` can make, and those of a PC's other buses, were put into a
guest of their own, and that guest was migrated for real, both ways, between {builds},
on {machines}: by `make devices`, which wrote this page. {modes}
What stands behind the devices is null, and some have a device on them
(`tests/conformance/emulated/needs.py`). No operating system drove them: a device that one has in
use has more state, which may be refused although the device is listed as migrating.

Of {total} types, {smooth} migrate both ways wherever they can be made, {unmade} could not be made,
and {rest} are refused, or worse, at least once. {twin}
"""
_ONCE = "The guests never ran."
_TWICE = """Each guest went as it was realised,
and once more after its firmware had run; what came of it differs only where that is said below."""
_LOST, _DEAD = "lost", "dead"
_TITLES = {
    REFUSED: "Refused by the destination",
    _DEAD: "The destination's QEMU ends as it loads the guest",
    BLOCKED: "Never sent",
    _LOST: "The source's QEMU ends as it is to send the guest",
    HUNG: "Without an end",
    UNMADE: "Not made here",
}
_NOTES = {
    _DEAD: "The guest runs on where it is, as after a refusal.",
    BLOCKED: "The source does not begin; what blocks it is the device, however alike the two are.",
    _LOST: "The guest is lost: it ends with its QEMU.",
    UNMADE: "What they need of the host was not there, or that QEMU has no such type.",
}


class _Cells(NamedTuple):
    qemu: str
    machines: str
    line: str


def page(rows: Sequence[Row]) -> str:
    """The whole page, for rows of two builds."""
    outcomes = _by_type(rows)
    smooth = [name for name, found in outcomes.items() if found - {UNMADE} == {PASS}]
    modes = _modes(rows)
    sections = [_head(rows, outcomes, len(smooth))]
    for outcome, title in _TITLES.items():
        table = list(_table([row for row in rows if _outcome(row) == outcome], modes))
        if table:
            note = [f"{_NOTES[outcome]}\n"] if outcome in _NOTES else []
            sections.append("\n".join([f"## {title}\n", *note, *table, ""]))
    sections.append(f"## Migrate both ways\n\n{_listed(smooth)}\n")
    return "\n".join(sections)


def _outcome(row: Row) -> str:
    if row.real.outcome != CRASHED:
        return row.real.outcome
    return _LOST if row.real.side == "source" else _DEAD


def _by_type(rows: Iterable[Row]) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row.case.type, set()).add(row.real.outcome)
    return found


def _head(rows: Sequence[Row], outcomes: Mapping[str, set[str]], smooth: int) -> str:
    builds = {row.case.source.path: row.case.source for row in rows}
    machines = dict.fromkeys(row.case.machine for row in rows)
    unmade = sum(found == {UNMADE} for found in outcomes.values())
    return _HEAD.format(
        builds=" and ".join(f"QEMU {build.version} ({build.package})" for build in builds.values()),
        machines=" and ".join(f"`{name}`" for name in machines),
        modes=_ONCE if len(_modes(rows)) == 1 else _TWICE,
        total=len(outcomes),
        smooth=smooth,
        unmade=unmade,
        rest=len(outcomes) - smooth - unmade,
        twin=_of_twin(rows),
    )


def _modes(rows: Sequence[Row]) -> set[bool]:
    return {row.case.firmware for row in rows}


def _of_twin(rows: Sequence[Row]) -> str:
    asked = [row for row in rows if row.twin is not None]
    wrong = sum(not row.agrees for row in asked)
    if not asked:
        return "The twin was not asked."
    begun = [row for row in rows if (row.real.outcome, row.real.side) != (UNMADE, "source")]
    left_out = dict.fromkeys(row.case.type for row in begun if row.twin is None)
    without = f" It leaves out, and says so: {_listed(left_out)}." if left_out else ""
    return (
        f"The twin (`check --to`) was held against the {len(asked)} migrations of {len(rows)} that"
        f" could be begun, outcome and QEMU's line: {wrong} disagreements.{without}"
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(rows: Sequence[Row], modes: set[bool]) -> Iterator[str]:
    entries: dict[str, dict[tuple[str, str], list[Row]]] = {}
    for row in rows:
        where = _of_build(row) if row.real.outcome == UNMADE else row.case.way
        entries.setdefault(row.case.type, {}).setdefault((where, said(row.real)), []).append(row)
    # Types of which the same is to be said share a row.
    shared: dict[tuple[_Cells, ...], list[str]] = {}
    for name, found in entries.items():
        cells = (_Cells(where, _where(some, modes), line) for (where, line), some in found.items())
        shared.setdefault(tuple(_joined(cells)), []).append(name)
    if shared:
        yield "| device | machine | QEMU | says |"
        yield "|---|---|---|---|"
    for found_cells, names in shared.items():
        for each in found_cells:
            yield f"| {_listed(names)} | {each.machines} | {each.qemu} | `{each.line}` |"


def _joined(cells: Iterable[_Cells]) -> Iterator[_Cells]:
    """Both ways in one line where the same is said."""
    ways: dict[tuple[str, str], list[str]] = {}
    for each in cells:
        ways.setdefault((each.machines, each.line), []).append(each.qemu)
    for (machines, line), found in ways.items():
        yield _Cells(", ".join(found), machines, line)


def _where(rows: Sequence[Row], modes: set[bool]) -> str:
    machines = ", ".join(dict.fromkeys(row.case.machine for row in rows))
    if _modes(rows) == modes:
        return machines
    return f"{machines}, {'after its firmware' if rows[0].case.firmware else 'before its firmware'}"


def _of_build(row: Row) -> str:
    build = row.case.source if row.real.side == "source" else row.case.destination
    return build.version


def said(hop: Hop) -> str:
    """QEMU's first line, without the option that it may quote in front."""
    line = hop.line
    if line.startswith("-device "):
        line = line.partition(": ")[2]
    if line.endswith("is not a valid device model name"):
        line = "is not a valid device model name"
    return line.replace("|", "\\|").replace("`", "'")

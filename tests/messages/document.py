"""``docs/MESSAGES.md``: the tables as pages, and what becomes of each of QEMU's lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from messages.coverage import KNOWN, NOT_COVERED, QUOTED, Told, told
from messages.scan import NEWEST, RELEASES, Candidate, load
from vfio_preflight.qemu.messages.message import Line, Message
from vfio_preflight.qemu.messages.table import TABLES

PAGE = Path(__file__).parents[2] / "docs" / "MESSAGES.md"
_OLDEST = next(iter(RELEASES))


def page() -> str:
    """The whole page."""
    candidates = [(candidate, told(candidate)) for candidate in load()]
    return "\n".join([*_introduction(candidates), *_known(), *_rest(candidates)]) + "\n"


def _introduction(candidates: list[tuple[Candidate, Told]]) -> Iterator[str]:
    yield "# What `explain` knows"
    yield ""
    yield (
        "Made by `python -m messages page` (PYTHONPATH=tests:plugin) from the tables in"
        " `plugin/vfio_preflight/qemu/messages/` and from `tests/messages/candidates.tsv`; a test"
        " holds it against both."
    )
    yield ""
    yield (
        f"The candidates are the lines that QEMU {_OLDEST} to {NEWEST} can print while it realises,"
        " saves or loads VFIO and PCI devices, a guest's state (vmstate) and virtio devices: each"
        " literal that a reporting function is given, found in the sources by"
        " `python -m messages candidates` and `print`. A line is *known* (it has an entry below),"
        " *quoted* (`explain` prints it as not known), or *not covered*: quoted too, and it shall"
        " have no entry, for the reason that stands with it. None is left out."
    )
    yield ""
    yield f"| where | known | quoted | not covered | of QEMU {NEWEST}: known | of all |"
    yield "|---|---|---|---|---|---|"
    for name in ("all", *sorted({candidate.file for candidate, _ in candidates})):
        rows = [row for row in candidates if name in ("all", row[0].file)]
        counts = [sum(t.state == state for _, t in rows) for state in (KNOWN, QUOTED, NOT_COVERED)]
        now = [t for candidate, t in rows if not candidate.until]
        known = sum(t.state == KNOWN for t in now)
        yield f"| {name} | {' | '.join(map(str, counts))} | {known} | {len(now)} |"


def _known() -> Iterator[str]:
    for title, table in TABLES.items():
        yield from ("", f"## {title[0].upper()}{title[1:]}")
        for message in table:
            yield from _entry(message)


def _entry(message: Message) -> Iterator[str]:
    yield from ("", f"**{message.what}** ({message.kind}, {message.role})", "")
    yield f"- why: {message.why.strip()}"
    yield f"- to do: {message.remedy}"
    for line in message.lines:
        yield f"- `{_template(line.template)}`{_releases(line)}"


def _template(template: str) -> str:
    return template.replace("`", "'")


def _releases(line: Line) -> str:
    if not line.since:
        return ""
    since = f"to {_OLDEST} and" if line.since == _OLDEST else f"{line.since}"
    if line.until == line.since:
        return f" (QEMU {line.since}{' and older' if line.since == _OLDEST else ''})"
    begin = f"{_OLDEST} or older" if line.since == _OLDEST else since
    return f" (QEMU {begin} to {line.until or NEWEST})"


def _rest(candidates: list[tuple[Candidate, Told]]) -> Iterator[str]:
    yield from ("", "## Deliberately not covered", "")
    reasons = dict.fromkeys(t.detail for _, t in candidates if t.state == NOT_COVERED)
    for reason in reasons:
        rows = [c for c, t in candidates if t.state == NOT_COVERED and t.detail == reason]
        yield from (f"{reason[0].upper()}{reason[1:]}:", "", *_list(rows), "")
    yield from ("## Quoted as not known", "")
    yield from _list(candidate for candidate, t in candidates if t.state == QUOTED)


def _list(candidates: Iterable[Candidate]) -> Iterator[str]:
    for candidate in candidates:
        until = candidate.until or NEWEST
        yield f"- `{_template(candidate.literal)}` ({candidate.file}, {candidate.since}-{until})"

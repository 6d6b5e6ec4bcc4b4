"""The first line of a refusal and of ``check``: what, which device, which byte, what to do.

    vfio-preflight: migration blocked: hostdev0 (0000:06:00.4): PM at 0x40, PMC (D1 support), offset
    0x43: source 02, destination 00; to do: use equal drivers and firmware, or another destination

It is all that Nova, oVirt and a log show, often cut after some 200 characters, behind libvirt's own
words. So it has :data:`LIMIT` bytes at most, in UTF-8: names are shortened, the rest of a sentence
is left to the lines below; the byte and what to do are always whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..judge.remedies import LONGEST, in_short
from ..judge.verdicts import MEND
from ..osutil.text import printable
from .schema import DeviceDict, FindingDict, MismatchDict, ReportDict

LIMIT = 200
# Bytes of a name that someone made up, a guest's or an alias, and of the shortest forms, with which
# the byte and the longest remedy have room.
_GUEST, _ALIAS = 24, 24
_SHORT_ALIAS, _REGISTER = 14, 28
_ELLIPSIS = "..."
# Where a sentence can end before its end.
_CLAUSE = r'; |, "| \('
MENDED = "; the hook mends it"


def first_line(
    opening: str, report: ReportDict, calm: str, remedy: str = "", names_guest: bool = False
) -> str:
    """One line on ``report``: ``opening``, then what leads to its verdict, or ``calm`` if nothing.

    ``remedy`` is for who knows better what to do than the finding; ``names_guest``: the opening
    does.
    """
    reason = next(reasons(report), None)
    if reason is None:
        return compose(opening, ("",), (calm,), "")
    device, finding = reason
    # A mended guest passes, so nothing is left to be done.
    mended = report["action"] == MEND
    tail = MENDED if mended else to_do(remedy or _remedy(report["guest"], device, finding))
    named = "" if names_guest else f"guest {short_guest(report['guest'])}"
    return compose(opening, _subjects(named, device), _statements(finding), tail)


def to_do(remedy: str) -> str:
    """How a first line ends."""
    return f"; to do: {remedy}"


def compose(opening: str, subjects: Sequence[str], statements: Sequence[str], tail: str) -> str:
    """The line with the first of ``statements``, and of ``subjects``, with which it fits.

    Both are in falling order of length. If the shortest do not fit either, the statement is cut.
    """
    tail = printable(tail)
    heads = [printable(f"{opening}: {subject}") for subject in subjects]
    shown = [printable(statement) for statement in statements]
    shown.append(_shortened(shown[-1], LIMIT - size(heads[-1]) - size(tail)))
    lines = [f"{head}{statement}{tail}" for statement in shown for head in heads]
    # The last one fits, unless the opening leaves no room for it.
    return next((line for line in lines if size(line) <= LIMIT), lines[-1])


def _shortened(statement: str, room: int) -> str:
    """``statement`` in ``room`` bytes, to the end of a clause if that leaves half of it or more."""
    ends = [match.start() for match in re.finditer(_CLAUSE, statement)]
    fitting = [end for end in ends if room <= 2 * size(statement[:end]) <= 2 * room]
    return statement[: fitting[-1]] if fitting else cut(statement, room)


def size(text: str) -> int:
    """Bytes of ``text`` in UTF-8."""
    return len(text.encode("utf-8", "replace"))


def cut(text: str, room: int) -> str:
    """``text`` in at most ``room`` bytes, at a space if there is one late enough."""
    if size(text) <= room:
        return text
    kept = text.encode("utf-8", "replace")[: max(0, room - size(_ELLIPSIS))]
    shown = kept.decode("utf-8", "ignore")
    words, space, _ = shown.rpartition(" ")
    return (words if space and len(words) > len(shown) // 2 else shown) + _ELLIPSIS


def short_guest(name: str) -> str:
    """The name of a guest, of any length, for the first line."""
    return cut(name, _GUEST)


def short_name(device: DeviceDict) -> str:
    """What the guest's own XML calls the device, or else its alias or key."""
    return str(device.get("name") or device["alias"] or device["key"])


def reasons(report: ReportDict) -> Iterator[tuple[DeviceDict | None, FindingDict]]:
    """Findings that lead to the report's verdict, with the device concerned."""
    if report["verdict"] == "pass":
        return
    # None first: a finding on the guest as a whole concerns all its devices. Then what cannot be
    # mended: a guest is mended as a whole, so the advice for another device would not help.
    for device in (None, *sorted(report["devices"], key=lambda device: device["mendable"])):
        for finding in (device or report)["findings"]:
            if finding["verdict"] == report["verdict"]:
                yield device, finding


def _remedy(guest: str, device: DeviceDict | None, finding: FindingDict) -> str:
    """The finding's own remedy if it is short, as it may name what the table cannot."""
    own = finding.get("remedy", "")
    if own and size(own) <= LONGEST:
        return own
    if device is None:
        return in_short(finding["code"], guest)
    return in_short(finding["code"], guest, device["identity"] or "", device["mendable"])


def _subjects(guest: str, device: DeviceDict | None) -> list[str]:
    """Names for what a finding is about, the fullest first; ``guest`` may be left out."""
    if device is None:
        return [f"{guest}: ", ""] if guest else [""]
    name = short_name(device)
    alias = cut(name, _ALIAS)
    host = device["host"]
    # An mdev's UUID begins with eight digits, of which hardly two mdevs of a guest have the same.
    hosts = [f" ({host})", *([f" ({host[:8]}...)"] if len(host) == 36 else [])] if host else []
    found = [*(f"{alias}{where}: " for where in (*hosts, "")), f"{cut(name, _SHORT_ALIAS)}: "]
    return [f"{guest}, {found[0]}", *found] if guest else found


def _statements(finding: FindingDict) -> list[str]:
    """What a finding says, the fullest first; each with the byte that it is about, if any."""
    text, mismatches = finding["text"], finding.get("mismatches")
    if not mismatches:
        return [text]
    first, others = mismatches[0], len(mismatches) - 1
    more = f" (and {others} more byte{'s' if others > 1 else ''})" if others else ""
    byte = _byte(first)
    place = f"{first['where']}, {first['register']}"
    return [
        text,
        f"{place}, {byte}{more}",
        f"{first['register']}, {byte}{more}",
        f"{cut(first['register'], _REGISTER)}, {byte}",
    ]


def _byte(mismatch: MismatchDict) -> str:
    offset, source, there = mismatch["offset"], mismatch["source"], mismatch["destination"]
    return f"offset {offset:#x}: source {source:02x}, destination {there:02x}"

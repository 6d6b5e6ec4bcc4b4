"""``explain [FILE|-]``: QEMU's and libvirt's lines about what failed, as a story in plain words."""

from __future__ import annotations

import json
import sys
from argparse import Namespace, _SubParsersAction
from collections.abc import Iterator

from ..configuration import load
from ..errors import PreflightError
from ..osutil.foreign import compression, decoded
from ..osutil.light import TYPE_CHECKING
from ..osutil.text import printable
from ..qemu.messages.entry import Explanation
from ..qemu.messages.story import Attempt, read
from ..qemu.messages.telling import Cause, Quote, Telling
from . import output
from .alone import load_state

if TYPE_CHECKING:
    from typing import Any, BinaryIO

# The end of a log is where a failed migration stands.
MAX_TEXT = 16 << 20
# Attempts that are told, the last ones: a log goes back for years.
MOST_ATTEMPTS = 20
_MAX_QUOTE = 400
_KINDS = {
    "incoming": "incoming migration or restore",
    "start": "start",
    "restore": "restore",
    "migration": "migration",
    "hot-plug": "hot-plug",
    "revert": "revert to a snapshot",
    "save": "save",
    "": "attempt",
}


class TextError(PreflightError):
    """A log that cannot be read."""


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare the command."""
    parser = commands.add_parser("explain", help="explain QEMU's error lines")
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        default="-",
        help="a guest's log, or any text with libvirt's error; - for standard input",
    )
    parser.add_argument(
        "--state",
        metavar="DEVICE",
        help="config state of the VFIO device that the log is about: file, PCI address, mdev UUID",
    )
    output.add_format(parser)
    parser.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Carry the command out: 0 the cause of the last failure is known, 3 it is not."""
    state = load_state(options.state, load()) if options.state else None
    text, skipped = _read(options.file)
    attempts = read(text, state.config if state else None)
    failed = [attempt for attempt in attempts if attempt.has_failed]
    # Of a guest that never failed, what was noteworthy.
    told = failed or [attempt for attempt in attempts if attempt.telling.notes]
    if options.format == "json":
        value = [_json(attempt, skipped) for attempt in told]
        print(json.dumps({"schema": 2, "attempts": value}, indent=2))
    else:
        print(_report(told, len(attempts), skipped))
    return 0 if failed and failed[-1].has_cause else 3


def _read(name: str) -> tuple[str, int]:
    """The end of a text, and the number of lines that are left out before it."""
    try:
        if name == "-":
            return _end_of(sys.stdin.buffer, name)
        with open(name, "rb") as file:
            return _end_of(file, name)
    except OSError as error:
        raise TextError(f"{name}: cannot be read: {error.strerror}") from error


def _end_of(file: BinaryIO, name: str) -> tuple[str, int]:
    kept, skipped = bytearray(), 0
    more = True
    # Logs are appended to: only the end is kept, whatever the size, also of a pipe.
    while more:
        chunk = file.read(MAX_TEXT)
        # Logs that were rotated: logrotate compresses them.
        packed = compression(chunk) if not kept else None
        if packed is not None:
            raise TextError(
                f"{name}: compressed ({packed[0]}); run {packed[1]} {name} | vfio-preflight explain"
            )
        kept += chunk
        more = bool(chunk)
        over = max(0, len(kept) - MAX_TEXT)
        skipped += kept.count(b"\n", 0, over)
        del kept[:over]
    return decoded(bytes(kept)), skipped


# --- as text -------------------------------------------------------------------------------------


def _report(told: list[Attempt], count: int, skipped: int) -> str:
    if not told:
        return "no known error line found, and none that looks like one"
    parts = [
        "\n".join(map(printable, _lines(attempt, count, skipped)))
        for attempt in told[-MOST_ATTEMPTS:]
    ]
    if len(told) > MOST_ATTEMPTS:
        parts.insert(0, f"{len(told) - MOST_ATTEMPTS} earlier failures are left out")
    return "\n\n".join(parts)


def _lines(attempt: Attempt, count: int, skipped: int) -> Iterator[str]:
    telling = attempt.telling
    if count > 1 or attempt.kind or attempt.end:
        yield _heading(attempt, count, skipped)
    for cause in telling.causes:
        yield from _cause(cause, skipped)
    if not attempt.has_failed:
        yield "nothing in it says that anything failed"
    elif not attempt.has_cause:
        yield _no_cause(telling)
        yield from _consequences(telling.consequences, skipped)
        yield from _where_to_look(telling.consequences)
    for quote in telling.unknown:
        yield f"not known: line {quote.line + skipped}: {_shown(quote.text.strip())}"
    if telling.omitted:
        yield f"not known: {telling.omitted} more lines before these"
    for note in telling.notes:
        said = f"{_shown(note.quote)}: {note.what}"
        yield f"note: line {note.line + skipped}: {said}; to do: {note.remedy}"


def _no_cause(telling: Telling) -> str:
    subject = "the cause of what follows here" if telling.causes else "the cause"
    if telling.unknown:
        return f"{subject} is not known: it may be in the lines that are quoted as not known"
    if telling.consequences:
        return f"{subject} is not in this text"
    return "no cause is known"


def _heading(attempt: Attempt, count: int, skipped: int) -> str:
    parts = [_KINDS[attempt.kind]]
    if attempt.guest:
        parts.append(f"of guest '{attempt.guest}'")
    if attempt.time:
        parts.append(f"at {attempt.time}")
    if attempt.end:
        parts.append(f"({attempt.end})")
    which = f"{attempt.number} of {count}, " if count > 1 else ""
    return f"[{which}line {attempt.line + skipped}] {' '.join(parts)}"


def _cause(cause: Cause, skipped: int) -> Iterator[str]:
    entry = cause.cause
    yield f"line {entry.line + skipped}: {_shown(entry.quote)}"
    yield f"  what:  {entry.what}"
    yield f"  why:   {entry.why}"
    yield f"  to do: {entry.remedy}"
    yield from _consequences(cause.consequences, skipped)


def _consequences(entries: tuple[Explanation, ...], skipped: int) -> Iterator[str]:
    for entry in entries:
        quote = _shown(entry.quote.rstrip(" :"))
        yield f"  followed by line {entry.line + skipped}: {quote}: {entry.what}"


def _where_to_look(entries: tuple[Explanation, ...]) -> Iterator[str]:
    for remedy in dict.fromkeys(entry.remedy for entry in entries):
        yield f"  to do: {remedy}"


def _shown(text: str) -> str:
    return text if len(text) <= _MAX_QUOTE else f"{text[:_MAX_QUOTE]}..."


# --- as JSON -------------------------------------------------------------------------------------


def _json(attempt: Attempt, skipped: int) -> dict[str, Any]:
    telling = attempt.telling
    return {
        "number": attempt.number,
        "kind": attempt.kind or "unknown",
        "line": attempt.line + skipped,
        "time": attempt.time,
        "guest": attempt.guest,
        "end": attempt.end,
        "causes": [
            {
                **_entry(cause.cause, skipped),
                "consequences": [_entry(entry, skipped) for entry in cause.consequences],
            }
            for cause in telling.causes
        ],
        "consequences": [_entry(entry, skipped) for entry in telling.consequences],
        "notes": [_entry(entry, skipped) for entry in telling.notes],
        "unknown": [_quote(quote, skipped) for quote in telling.unknown],
    }


def _entry(entry: Explanation, skipped: int) -> dict[str, Any]:
    return {**entry._asdict(), "line": entry.line + skipped}


def _quote(quote: Quote, skipped: int) -> dict[str, Any]:
    return {"line": quote.line + skipped, "quote": _shown(quote.text)}

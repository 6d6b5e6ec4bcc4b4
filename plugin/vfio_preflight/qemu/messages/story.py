"""A log read as a story: one attempt at a time, what caused its end first, what followed under it.

An attempt is a start, an incoming migration, a restore, a hot-plug or an outgoing migration.
libvirt writes to one log of a guest for years; each attempt begins there with "starting up libvirt
version" and the command line. What virsh prints has an attempt for each ``error:``.

Sources: libvirt 9.0 and 11.3, ``qemuDomainLogContextNew``, ``qemuProcessStop``,
``qemuMigrationSrcRun``, ``qemuProcessIncomingDefNew``; ``tools/vsh.c``.
"""

from __future__ import annotations

import re
from bisect import bisect

from ...osutil.light import NamedTuple
from .entry import Explanation
from .find import Found
from .hits import Known, known
from .lines import Piece, pieces
from .message import CAUSE
from .telling import Quote, Telling, tell

# What an attempt is, in words; the first is of a guest that is loaded by whom nothing says.
INCOMING, START, RESTORE, MIGRATION, HOTPLUG, REVERT, SAVE, UNKNOWN = KINDS = (
    *("incoming", "start", "restore", "migration", "hot-plug", "revert", "save", ""),
)
# How the guest comes in; "defer" is libvirt's for a migration and a restore alike.
_COMMAND = (
    ("-incoming tcp:", MIGRATION),
    ("-incoming rdma:", MIGRATION),
    ("-incoming", INCOMING),
    ("-loadvm", REVERT),
)
# What an error's words say of the attempt, in lower case.
_HINTS = (
    ("failed to restore domain", RESTORE),
    ("restore blocked", RESTORE),
    ("failed to revert", REVERT),
    ("failed to attach", HOTPLUG),
    ("'device_add'", HOTPLUG),
    ("failed to save domain", SAVE),
    ("failed to start domain", START),
    ("migration failure", MIGRATION),
    ("migration blocked", MIGRATION),
    ("migration out", MIGRATION),
    ("cannot migrate", MIGRATION),
    ("failed to migrate", MIGRATION),
    ("unable to migrate", MIGRATION),
    ("live migration failure", MIGRATION),
    ("starting online/live migration", MIGRATION),
)
_GUEST = re.compile(r"-name '?(?:guest=)?([^,\s']{1,256})|vm='([^']{1,256})'")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[\d.]{0,10}(?:Z|\+0000)?")
_ARGUMENT = re.compile(r"-\w|/|[A-Z_]{1,64}=")
_REASON = re.compile(r"shutting down, reason=(\w{1,32})")
_TROUBLE = frozenset(
    [
        "error",
        "errors",
        "err",
        "fail",
        "failed",
        "fails",
        "failure",
        "cannot",
        "unable",
        "unsupported",
        "invalid",
        "mismatch",
        "refused",
        "unexpected",
        "unexpectedly",
        "denied",
        "missing",
        "unknown",
        "blocked",
        "lost",
        "bad",
        "warning",
        "aborted",
        "abort",
        "assertion",
        "could",
        "couldn",
        "not",
        "exceeded",
        "killed",
        "terminating",
        "timeout",
        "incompatible",
        "disabled",
        "corrupt",
    ]
)


# Lines of an attempt that are looked at where nothing is known of them: the last, and those near.
_MOST_UNKNOWN, _NEAR = 500, 8


class Attempt(NamedTuple):
    """What became of one attempt: ``kind`` of :data:`KINDS`, first line, its time, whose guest.

    ``end`` is libvirt's reason, as ``failed``, empty where the log does not say. ``number`` is
    which one of the text's attempts it is.
    """

    number: int
    kind: str
    line: int
    time: str
    guest: str
    end: str
    telling: Telling

    @property
    def has_failed(self) -> bool:
        """Whether anything of it has to be told."""
        return self.telling.has_failed or self.end in ("failed", "crashed")

    @property
    def has_cause(self) -> bool:
        """Whether it is known why it failed."""
        return self.telling.has_cause

    def explanations(self) -> list[Explanation]:
        """All that is known of its lines."""
        return self.telling.explanations()


class _Open:
    """An attempt of which the end is not reached."""

    def __init__(self, kind: str, line: Piece) -> None:
        self.kind, self.line, self.time, self.guest, self.end = kind, line.line, "", "", ""
        self.events: list[tuple[int, Found]] = []
        self.unknown: list[int] = []
        self.is_over = False
        self.note(line.text)

    @property
    def is_empty(self) -> bool:
        return not self.events and not self.unknown and not self.end

    def note(self, text: str) -> None:
        """Take the guest's name and the time from a line."""
        if not self.time:
            found = _TIME.search(text, 0, 512)
            self.time = found[0] if found else ""
        if not self.guest:
            found = _GUEST.search(text, 0, 4096)
            self.guest = next((group for group in found.groups() if group), "") if found else ""


def read(text: str, config: bytes | None = None) -> list[Attempt]:
    """The attempts that ``text`` tells of, in order.

    ``config`` is the configuration space of the VFIO device in question (:func:`explain.explain`).
    """
    lines = pieces(text)
    facts = known(lines)
    attempts = [
        attempt for attempt in _attempts(lines, facts) if not attempt.is_empty or attempt.kind
    ]
    told = [
        Attempt(
            number,
            attempt.kind,
            attempt.line,
            attempt.time,
            attempt.guest,
            attempt.end,
            tell(attempt.kind, attempt.events, _quotes(attempt, lines), (lines, facts), config),
        )
        for number, attempt in enumerate(attempts, 1)
    ]
    if any(attempt.has_failed or attempt.telling.notes for attempt in told):
        return told
    # Of a text in which nothing looks like trouble, the last line.
    return [attempt._replace(telling=attempt.telling.with_last()) for attempt in told]


def _attempts(lines: list[Piece], facts: Known) -> list[_Open]:
    done = [_Open(UNKNOWN, lines[facts.begin])]
    in_command = False
    opened_by_virsh = False
    for number in range(facts.begin, len(lines)):
        line, words = lines[number], facts.words[number]
        text = line.text
        current = done[-1]
        if "starting up libvirt version" in text:
            done.append(_Open(START, line))
            in_command = True
            continue
        if _is_command(text, in_command):
            _take_command(current, text)
            in_command = text.endswith("\\")
            continue
        in_command = False
        if "initiating migration" in text:
            done.append(_Open(MIGRATION, line))
        elif text.startswith("error: "):
            if not opened_by_virsh:
                done.append(_Open(UNKNOWN, line))
            opened_by_virsh = text.startswith("error: Failed to ") and not opened_by_virsh
        elif text.strip():
            opened_by_virsh = False
        _add(done, number, line, facts, words)
    return done


def _is_command(text: str, in_command: bool) -> bool:
    """Whether a line is of the command line that libvirt writes to the log."""
    return (
        (_ARGUMENT.match(text) is not None and (in_command or text.endswith(" \\")))
        or text.startswith("LC_ALL=")
        or (" -name " in text and " -machine " in text and text.lstrip().startswith("/"))
    )


def _take_command(attempt: _Open, text: str) -> None:
    attempt.note(text)
    for words, kind in _COMMAND:
        if words in text and attempt.kind in (START, UNKNOWN):
            attempt.kind = kind


def _add(done: list[_Open], number: int, line: Piece, facts: Known, words: str) -> None:
    """Put what a line says to the attempt that it belongs to."""
    found, current = facts.found.get(number, []), done[-1]
    ended = _REASON.search(line.text)
    if ended is not None:
        current.end = ended[1]
        return
    if found and current.is_over and any(hit.message.role == CAUSE for hit in found):
        current = _Open(current.kind, line)
        done.append(current)
    if found or _TROUBLE & {*words.split()}:
        lower = line.text.lower()
        hint = next((kind for words, kind in _HINTS if words in lower), UNKNOWN)
        current.kind = hint if hint and current.kind in (UNKNOWN, INCOMING) else current.kind
        current.note(line.text)
    for hit in found:
        current.events.append((number, hit))
        # QEMU ends here, so that what comes next is another attempt's.
        has_cause = any(event.message.role == CAUSE for _, event in current.events)
        current.is_over |= has_cause and hit.message.kind == "migration-failed"
    if not found and number not in facts.covered and line.text.strip():
        current.unknown.append(number)


def _quotes(attempt: _Open, lines: list[Piece]) -> list[Quote]:
    """Lines of an attempt that nothing is known of, in order."""
    chosen = attempt.unknown[-_MOST_UNKNOWN:]
    if attempt.events:
        # What stands before the first that is known may be its cause.
        first = attempt.events[0][0]
        before = bisect(attempt.unknown, first)
        chosen = sorted({*chosen, *attempt.unknown[max(0, before - _NEAR) : before]})
    return [Quote(lines[number].line, lines[number].text, number) for number in chosen]

r"""Text as it was printed, whatever it came through: JSON, another log, a terminal of 80 columns.

``"message": "… '0000:00:02.0\/vfio'\nqemu-kvm: load of migration failed"`` is two lines again.
"""

from __future__ import annotations

import re

from ...osutil.foreign import plain
from ...osutil.light import NamedTuple

# How many lines a wrapped one may have, and how short the first of them may be.
WRAPPED, NARROWEST = 8, 40
_ESCAPED = re.compile(r'\\(?:u00[0-9a-f]{2}|[nrt"\'/])', re.IGNORECASE)
_PLAIN = {"n": "\n", "r": "\n", "t": " "}
# What begins a line of its own: it continues no other.
_STAMP = (
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d|[A-Z][a-z]{2} {1,2}\d{1,2} \d\d:\d\d|\[ {0,8}\d{1,8}\.\d{1,9}\]"
)
_RECORD = re.compile(
    rf"(?:{_STAMP})|error: |warning: |qemu-|kvm: |libvirt|/\S{{1,200}}qemu|-\w|LC_ALL=|[{{}}]|vfio"
    r"|[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]: |Failed to |get_pci_config_device: |"
    r"Unknown savevm|Missing section|Features 0x|error while loading|load of migration"
)
# What stands before QEMU's own words: time, host and program, of any of several loggers.
_PREFIX = re.compile(
    rf"^\W{{0,4}}(?:(?:{_STAMP})\S{{0,24}} )?(?:[\w.-]{{1,64}} )?"
    r"(?:(?:[\w./-]{0,64}/)?(?:qemu-kvm|qemu-system-\w{1,16}|kvm|qemu)(?:\[\d{1,9}\])?: )?"
)
_PROGRAM = re.compile(r"(?:qemu-kvm|qemu-system-\w{1,16}|\bkvm|\bqemu)(?:\[\d{1,9}\])?: ")


class Piece(NamedTuple):
    """A line, and the number of the text's line that it stands in, from 1."""

    line: int
    text: str


def pieces(text: str) -> list[Piece]:
    """The lines of ``text``; only ``\\n`` ends one, and what stands for it inside a string."""
    found = []
    # Most texts have no such marks, and some a million lines.
    is_plain = plain(text) == text
    for number, line in enumerate(text.split("\n"), 1):
        if "\\" in line and _ESCAPED.search(line):
            shown = _unescaped(line)
        elif is_plain:
            found.append(Piece(number, line.rstrip("\r")))
            continue
        else:
            shown = line
        found += [Piece(number, part.rstrip("\r")) for part in plain(shown).split("\n")]
    return found


def _unescaped(line: str) -> str:
    # Twice: a string in JSON in a string.
    for _ in range(2):
        line = _ESCAPED.sub(_plain, line.replace("\\\\", "\\"))
    return line


def _plain(found: re.Match[str]) -> str:
    text = found[0][1:]
    return _PLAIN.get(text) or (chr(int(text[1:], 16)) if text[0] in "uU" else text)


def starts_record(text: str) -> bool:
    """Whether ``text`` begins a line of a log, and so does not go on with the line before."""
    return not text.strip() or _RECORD.match(text.lstrip(" >|\"'")) is not None


def is_program(text: str) -> bool:
    """Whether QEMU's name stands before what it says."""
    return _PROGRAM.search(text, 0, 200) is not None


def body(text: str) -> str:
    """What a line says, without time and program."""
    return text[_PREFIX.match(text).end() :].strip()  # type: ignore[union-attr]


def joined(found: list[str], separator: str) -> str:
    """Lines that were wrapped, as one: at a fixed column (``""``) or between words (``" "``)."""
    if not separator:
        return "".join(found)
    return separator.join([found[0].rstrip(), *(text.strip(" >|") for text in found[1:])])

"""The one codec for config states and their BARs, in each form in which they are stored.

    state files     {"number": 0, "size": 16384, "kind": "mem64", "prefetchable": true}
    catalogue       [0, 16384, "mem64", true]
    record          0:16384:mem64:prefetchable

Whatever the form, a BAR has number 0-5, or 6 for the expansion ROM, and a size that is a power of
two (PCI Local Bus 3.0, 6.2.5.1 and 6.2.5.2): an operator's typo is an error here, not a device that
QEMU aborts on. A configuration space has 256 or 4096 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from ..errors import PreflightError
from . import atomics
from .space import validate
from .state import BAR_KINDS, EVIDENCE, Bar, ConfigState

# The ROM's number in VFIO (VFIO_PCI_ROM_REGION_INDEX) and in QEMU (PCI_ROM_SLOT).
_ROM = 6
# Twenty digits hold any 64-bit number. Without a bound int() would take time quadratic in the
# length of a text that anybody may have written.
_TEXT = r"([0-9]{1,20}):([0-9]{1,20}):([a-z0-9]{1,8})(:prefetchable)?"
_HEX = "(?:[0-9a-fA-F]{2})*"


class CodecError(PreflightError):
    """A stored config state that cannot be right; the text says which part of it."""


def bar(number: object, size: object, kind: object, prefetchable: object = False) -> Bar:
    """The BAR with these members. Raises :class:`CodecError` unless there can be such a BAR."""
    # bool is an int to Python, and True a BAR number 1.
    if type(number) is not int or not 0 <= number <= _ROM:
        raise CodecError(f"a BAR has number {_shown(number)}, not one from 0 to {_ROM} (ROM)")
    name = "the ROM" if number == _ROM else f"BAR{number}"
    # 6.2.5.1: the size is read back as the address bits that stay 0, so it is a power of two; it
    # must fit the 64 bits of a pair of registers.
    if type(size) is not int or not 0 < size < 1 << 64 or size & (size - 1):
        raise CodecError(f"{name} has size {_shown(size)}, which is not a power of two")
    if kind not in BAR_KINDS:
        raise CodecError(f"{name} is of kind {_shown(kind)}, none of {', '.join(BAR_KINDS)}")
    # Not by truth: the string "false" would pass for true.
    if not isinstance(prefetchable, bool):
        raise CodecError(f"{name}: prefetchable is {_shown(prefetchable)}, not true or false")
    return Bar(number, size, str(kind), prefetchable)


def bars_from_objects(value: object) -> tuple[Bar, ...]:
    """BARs from a list of JSON objects. Raises :class:`CodecError`."""
    return _bars(value, _from_object)


def bars_from_lists(value: object) -> tuple[Bar, ...]:
    """BARs from a list of JSON lists. Raises :class:`CodecError`."""
    return _bars(value, _from_list)


def bars_from_text(text: str) -> tuple[Bar, ...]:
    """BARs from words separated by blanks. Raises :class:`CodecError`."""
    return _bars(text.split(), _from_text)


def bars_to_text(bars: Iterable[Bar]) -> str:
    """What :func:`bars_from_text` reads."""
    texts = (f"{bar.number}:{bar.size}:{bar.kind}" for bar in bars)
    marks = (":prefetchable" if bar.prefetchable else "" for bar in bars)
    return " ".join(text + mark for text, mark in zip(texts, marks))


def config_from_hex(value: object, where: str) -> bytes:
    """A configuration space. Raises :class:`CodecError`, ``ConfigSpaceError`` for its size."""
    # Not left to bytes.fromhex(), which skips white space between digits.
    if not isinstance(value, str) or not re.fullmatch(_HEX, value):
        raise CodecError(f'{where}: "config" is not a string of hexadecimal digits in pairs')
    return validate(bytes.fromhex(value), where)


def evidence(value: object) -> str:
    """A grade of evidence. Raises :class:`CodecError` for any other word."""
    return one_of(EVIDENCE, value, "evidence")


def one_of(words: tuple[str, ...], value: object, what: str) -> str:
    """One of ``words``. Raises :class:`CodecError` for anything else."""
    if value not in words:
        raise CodecError(f"{what} {_shown(value)} is none of: {', '.join(words)}")
    return str(value)


def to_object(state: ConfigState) -> dict[str, object]:
    """A state as a JSON object, its BARs as objects; :mod:`.formats` reads it back."""
    known = {} if state.atomics is None else {"atomic_ops": atomics.to_text(state.atomics)}
    return {
        "evidence": state.evidence,
        "origin": state.origin,
        **known,
        "bars": [bar._asdict() for bar in state.bars],
        "config": state.config.hex(),
    }


def _bars(value: object, read: Callable[[object], Bar]) -> tuple[Bar, ...]:
    if not isinstance(value, list) or len(value) > _ROM + 1:
        raise CodecError(f'"bars" is not a list of up to {_ROM + 1}')
    bars = tuple(read(each) for each in value)
    # With two sizes for one register there is no telling which of them the device has.
    if len({bar.number for bar in bars}) != len(bars):
        raise CodecError("it names a BAR twice")
    return bars


def _from_object(value: object) -> Bar:
    if not isinstance(value, dict):
        raise CodecError(f"a BAR is {_shown(value)}, not an object")
    prefetchable = value.get("prefetchable", False)
    return bar(value.get("number"), value.get("size"), value.get("kind"), prefetchable)


def _from_list(value: object) -> Bar:
    if not isinstance(value, list) or len(value) != 4:
        raise CodecError(f"a BAR is {_shown(value)}, not [number, size, kind, prefetchable]")
    return bar(*value)


def _from_text(value: object) -> Bar:
    match = re.fullmatch(_TEXT, str(value))
    if match is None:
        raise CodecError(f"a BAR is {_shown(value)}, not NUMBER:SIZE:KIND[:prefetchable]")
    return bar(int(match[1]), int(match[2]), match[3], match[4] is not None)


def _shown(value: object) -> str:
    # Escaped and cut: it goes to a terminal or a log, and the file may be anybody's.
    return ascii(value if not isinstance(value, str) else value[:40])[:60]

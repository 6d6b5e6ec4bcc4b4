"""What a look at this host finds: faults with their words filled in, and facts.

A fault's row (:mod:`.faults`) holds its message and the shell command that mends it; a look gives
the values that go into both. In a message they are made printable, in a command they are words for
the shell, whatever characters a file's name has.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import PreflightError
from ...osutil.light import TYPE_CHECKING, NamedTuple
from ...osutil.text import printable
from ..installation.launcher import quoted, summary

if TYPE_CHECKING:
    from typing import Any, Union

    Value = Union[str, "Shell", tuple[str, ...]]

# Longer texts of others (an error, a hook's output) are cut.
_LONGEST = 500


class UnseenError(PreflightError):
    """Something that could not be looked at; the text says what, and why."""


class Shell(NamedTuple):
    """A piece of a command that is shell already; in a message it stands as it is."""

    text: str


class Fault(NamedTuple):
    """A kind of fault: ``message`` and ``command`` are templates with the names of values.

    ``self_test`` is whether only ``--self-test`` finds it.
    """

    code: str
    message: str
    command: str
    self_test: bool = False


class Found(NamedTuple):
    """A fault of this host: the code of its row, and the values for that."""

    code: str
    values: Mapping[str, Value]


def found(code: str, /, **values: Value) -> Found:
    """A fault of this host, with its values by name."""
    return Found(code, values)


class Fact(NamedTuple):
    """What was seen, for JSON."""

    name: str
    value: Any


class Problem(NamedTuple):
    """A fault as it is told: one line of text, one command."""

    code: str
    text: str
    command: str


def problem_of(fault: Fault, values: Mapping[str, Value]) -> Problem:
    """The problem that a fault is with these values."""
    told = {name: _in_text(value) for name, value in values.items()}
    words = {name: _in_command(value) for name, value in values.items()}
    text, command = fault.message.format(**told), fault.command.format(**words)
    # A line each: nothing of others' begins one of its own, where it would be pasted as a command.
    return Problem(fault.code, printable(text), printable(command))


def _in_text(value: Value) -> str:
    if isinstance(value, Shell):
        return value.text
    if isinstance(value, str):
        return printable(value, _LONGEST)
    return printable(summary(list(value)))


def _in_command(value: Value) -> str:
    if isinstance(value, Shell):
        return value.text
    if isinstance(value, str):
        return quoted(value)
    return " ".join(map(quoted, value))

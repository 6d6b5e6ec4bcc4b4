"""Foreign text is made fit for one line."""

from __future__ import annotations

import pytest

from vfio_preflight.osutil.text import printable, printable_values

# What a terminal obeys, what reorders a line, what ends one, what no encoding takes.
OBEYED = ["\x1b[2J", "\u009b2J", "\r", "\n", "\u2028", "\u202e", "\u2066", "\x00", "\x7f", "\ud800"]


@pytest.mark.parametrize("text", OBEYED)
def test_what_is_not_printable_is_replaced(text: str) -> None:
    assert printable(f"a{text}b") == f"a?{text[1:]}b"


def test_printable_text_stays() -> None:
    assert printable("g\u00e4st 1, \U0001f600 \u05d0") == "g\u00e4st 1, \U0001f600 \u05d0"
    assert printable("abcdef\n", 3) == "abc..."


def test_values() -> None:
    value = {"a": ["\u009b", {"b": "\r"}, 1, None, True], "c": "x"}
    assert printable_values(value) == {"a": ["?", {"b": "?"}, 1, None, True], "c": "x"}

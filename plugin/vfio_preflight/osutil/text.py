"""Text from elsewhere (a guest's XML, an emulator's output, a file's name), made fit for one line.

What goes to a terminal, a log or an XML attribute must not carry control characters: escape
sequences, C1 controls (U+009B is CSI to a terminal), bidirectional overrides (U+202E), line breaks,
lone surrogates that no encoding takes.
"""

from __future__ import annotations

from .light import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeVar

    Value = TypeVar("Value")


def printable(text: str, limit: int | None = None) -> str:
    """``text`` with "?" for every character that is not printable (``str.isprintable``).

    With ``limit``, no more than so many characters of it, and "..." where any were cut off.
    """
    # Cut before the search: the text may be megabytes long, a guest's XML for example.
    if limit is not None and len(text) > limit:
        text = f"{text[:limit]}..."
    # Space is the only white space that is printable to Python.
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def printable_values(value: Value) -> Value:
    """A report, or any other JSON value, with every text in it made :func:`printable`."""
    made: object = value
    if isinstance(value, str):
        made = printable(value)
    elif isinstance(value, dict):
        made = {name: printable_values(each) for name, each in value.items()}
    elif isinstance(value, list):
        made = [printable_values(each) for each in value]
    return made  # type: ignore[return-value]

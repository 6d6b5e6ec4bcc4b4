"""Text from elsewhere (a guest's XML, an emulator's output, a file's name), made fit for one line.

What goes to a terminal, a log or an XML attribute must not carry control characters: escape
sequences, C1 controls (U+009B is CSI to a terminal), bidirectional overrides (U+202E), line breaks,
lone surrogates that no encoding takes.
"""

from __future__ import annotations


def printable(text: str, limit: int | None = None) -> str:
    """``text`` with "?" for every character that is not printable (``str.isprintable``).

    With ``limit``, no more than so many characters of it, and "..." where any were cut off.
    """
    # Cut before the search: the text may be megabytes long, a guest's XML for example.
    if limit is not None and len(text) > limit:
        text = f"{text[:limit]}..."
    # Space is the only white space that is printable to Python.
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)

"""Text as other systems keep it: UTF-16 (a redirection on Windows), with marks of HTML (a web page,
a bug tracker's mail) or of a terminal (``script``, ``journalctl``); and what is compressed.

Bytes and text in, text out; nothing is read here.
"""

from __future__ import annotations

import codecs
import re

# What files begin with, and what undoes it.
_COMPRESSED = (
    (b"\x1f\x8b", "gzip", "zcat"),
    (b"\xfd7zXZ\0", "xz", "xzcat"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstdcat"),
    (b"BZh", "bzip2", "bzcat"),
    (b"PK\x03\x04", "zip", "unzip -p"),
)
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Characters by which UTF-16 is told that has no mark: of ASCII, every other byte is 0.
_SAMPLE = 64
_ENTITY = re.compile(
    r"&(?:(quot|apos|lt|gt|amp|nbsp)|#(\d{1,4})|#x([0-9a-f]{1,4}));", re.IGNORECASE
)
_ENTITIES = {"quot": '"', "apos": "'", "lt": "<", "gt": ">", "amp": "&", "nbsp": " "}
_TAG = re.compile(r"</?(?:pre|code|br|p|tt|span|div)(?: [^<>]{0,200})?/?>", re.IGNORECASE)
# ECMA-48: control sequences, and what sets a window's title.
_TERMINAL = re.compile(
    "\x1b\\[[0-?]{0,16}[ -/]{0,4}[@-~]|\x1b\\][^\x07\x1b]{0,200}(?:\x07|\x1b\\\\)"
)
# Zero width space, joiners, and the mark that begins a file.
_INVISIBLE = dict.fromkeys((0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF))


def compression(data: bytes) -> tuple[str, str] | None:
    """What ``data`` is compressed with, and the program that undoes it; None if it is not."""
    found = (row[1:] for row in _COMPRESSED if data.startswith(row[0]))
    return next(found, None)


def encoding(data: bytes) -> str:
    """The encoding of text: by its mark, by its zeros, or else UTF-8."""
    marked = next((name for mark, name in _BOMS if data.startswith(mark)), "")
    sample = data[: 2 * _SAMPLE]
    if marked or len(sample) < 8:
        return marked or "utf-8"
    for name, zeros, others in (
        ("utf-16-le", sample[1::2], sample[::2]),
        ("utf-16-be", sample[::2], sample[1::2]),
    ):
        if not any(zeros) and all(others):
            return name
    return "utf-8"


def decoded(data: bytes) -> str:
    """``data`` as text, whatever its encoding; what cannot be decoded is replaced."""
    return data.decode(encoding(data), "replace").lstrip("\ufeff")


def plain(text: str) -> str:
    """``text`` without the marks of HTML and terminals; ``&#10;`` becomes a line break."""
    if "\x1b" in text:
        text = _TERMINAL.sub("", text)
    if "<" in text:
        text = _TAG.sub("", text)
    if "&" in text:
        text = _ENTITY.sub(_character, text)
    return text if text.isascii() else text.translate(_INVISIBLE)


def _character(found: re.Match[str]) -> str:
    name, decimal, digits = found.groups()
    if name:
        return _ENTITIES[name.lower()]
    code = int(decimal) if decimal else int(digits, 16)
    # A surrogate could not be printed later.
    return "\ufffd" if 0xD800 <= code < 0xE000 else chr(code)

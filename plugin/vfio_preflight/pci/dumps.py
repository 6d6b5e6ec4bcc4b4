"""Configuration space as text: ``lspci -xxx`` and ``-xxxx``, ``xxd``, ``hexdump -C``, ``od``.

A line is an offset and up to 16 bytes; lines of other shapes are passed over. ``lspci -v`` gives
the sizes of BARs as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..errors import PreflightError
from .space import PCIE_CONFIG_SPACE_SIZE
from .state import Bar


class DumpError(PreflightError):
    """Text that is not the dump of one configuration space."""


# Offsets have 2 or 3 digits (lspci), 6 (od -Ax) or 8 (xxd, hexdump).
_ROW = re.compile(r"^\s*(?:0x)?([0-9a-f]{2,8})(:|\s)\s*(.*)$", re.IGNORECASE)
# Two bytes at once only after a colon, as xxd has it: hexdump and od print them swapped.
_HEX = {
    ":": re.compile(r"(?:[0-9a-f]{2}){1,2}", re.IGNORECASE),
    " ": re.compile(r"[0-9a-f]{2}", re.IGNORECASE),
}
# A PCI domain has more than 4 digits behind an Intel VMD, whose domains begin at 10000.
_DEVICE = re.compile(r"^(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7] ", re.IGNORECASE)


def hexdump(text: str) -> bytes:
    """The bytes of a dump. Raises :class:`DumpError`, naming the line."""
    found = bytearray()
    repeat = False
    devices = sum(1 for line in text.splitlines() if _DEVICE.match(line))
    # Said before the offsets, which begin anew, lead to an error that does not name the cause.
    if devices > 1:
        raise DumpError(f"holds {devices} devices; give one (lspci -s ADDRESS)")
    for number, line in enumerate(text.splitlines(), 1):
        # hexdump and od print it in place of rows that equal the one before.
        if line.strip() == "*":
            repeat = True
            continue
        row = _row(line)
        if row is None:
            continue
        offset, values = row
        # Bounded by the space's size: an offset from the text must not decide how much is
        # allocated.
        if repeat and len(found) >= 16 and len(found) < offset <= PCIE_CONFIG_SPACE_SIZE:
            found += (bytes(found[-16:]) * PCIE_CONFIG_SPACE_SIZE)[: offset - len(found)]
        repeat = False
        # A gap would give every register behind it another place, and the verdict with them.
        if values and offset != len(found):
            raise DumpError(f"line {number} is at {offset:#x}, where {len(found):#x} is expected")
        found += values
        if len(found) > PCIE_CONFIG_SPACE_SIZE:
            raise DumpError(f"line {number} goes beyond 4096 bytes")
    if not found:
        raise DumpError("no bytes found")
    return bytes(found)


def _row(line: str) -> tuple[int, bytes] | None:
    """Offset and up to 16 bytes of a dump's line; no bytes for the closing line of ``hexdump``."""
    if _DEVICE.match(line):
        return None
    match = _ROW.match(line + " ")
    if match is None:
        return None
    values = bytearray()
    unit = _HEX[":" if match[2] == ":" else " "]
    # Behind "|" hexdump -C repeats the bytes as characters, which may look like hexadecimal digits.
    # xxd's column of characters has no such mark, but comes after 16 bytes.
    for token in match[3].partition("|")[0].split():
        if len(values) >= 16 or not unit.fullmatch(token):
            break
        values += bytes.fromhex(token)
    if not values and match[3].strip():
        return None
    return int(match[1], 16), bytes(values[:16])


# An address can be "<unassigned>" or "<ignored>": the size does not depend on it.
_REGION = re.compile(
    r"^[ \t]+Region (?P<index>[0-5]): (?P<space>Memory|I/O ports) at [^(\[\n]*"
    r"(?P<attributes>\([^)\n]*\))?[^\n]*\[size=(?P<size>\d+)(?P<unit>[KMGT]?)\]",
    re.MULTILINE,
)
_ROM = re.compile(
    r"^[ \t]+(?:\[virtual\] )?Expansion ROM at [^\n]*\[size=(?P<size>\d+)(?P<unit>[KMGT]?)\]",
    re.MULTILINE,
)
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def regions(text: str) -> Iterator[Bar]:
    """BARs from the lines that ``lspci -v`` prints."""
    for match in _REGION.finditer(text):
        attributes = match["attributes"] or ""
        memory = "mem64" if "64-bit" in attributes else "mem32"
        kind = "io" if match["space"] == "I/O ports" else memory
        prefetchable = "non-prefetchable" not in attributes and "prefetchable" in attributes
        yield Bar(int(match["index"]), _size(match), kind, prefetchable)
    rom = _ROM.search(text)
    if rom:
        # 6.2.5.2: the expansion ROM's register has 32 bits.
        yield Bar(6, _size(rom), "mem32")


def _size(match: re.Match[str]) -> int:
    return int(match["size"]) << _UNITS[match["unit"]]

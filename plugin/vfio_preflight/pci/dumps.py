"""Configuration space as text: ``lspci -xxx`` and ``-xxxx``, ``xxd``, ``hexdump``, ``od``, the
kernel's own dumps (``pci=earlydump``), and what ``setpci`` prints.

A line is an offset and up to 16 bytes; lines of other shapes are passed over, and what mail, logs
and terminals put before a line is taken off. ``lspci -v`` gives the sizes of BARs as well, and
``-n`` and ``-nn`` the IDs by which the kernel knows a VF, whose own read ffff.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence

from ..errors import PreflightError
from ..osutil.foreign import plain
from ..osutil.light import NamedTuple
from .space import PCI_CAPABILITY_LIST, PCI_CONFIG_SPACE_SIZE, PCIE_CONFIG_SPACE_SIZE
from .state import Bar


class DumpError(PreflightError):
    """Text that is not the dump of one configuration space."""


class Dump(NamedTuple):
    """A dump: its bytes, and what else its text says of the device.

    ``ids`` are vendor and device as lspci prints them, None without; ``virtual_function`` is
    whether lspci names the device one.
    """

    config: bytes
    bars: tuple[Bar, ...]
    ids: tuple[int, int] | None
    virtual_function: bool


class _Row(NamedTuple):
    """A line's values; ``offset`` as it is written, ``bases`` the bases that it may be in.

    ``group`` is how many bytes are written as one, if the line does not tell in what order.
    """

    line: int
    offset: str
    values: bytes
    bases: tuple[int, ...]
    group: int = 1


def read(text: str) -> Dump:
    """Read a dump of one device. Raises :class:`DumpError`, naming the line."""
    lines = [bare(line) for line in plain(text).splitlines()]
    headings = [line for line in lines if _DEVICE.match(line) and not _REGISTER.match(line)]
    # pci=earlydump has a line of its own before each device's bytes.
    devices = max(len(headings), sum(1 for line in lines if _EARLY.match(line)))
    # Said before the offsets, which begin anew, lead to an error that does not name the cause.
    if devices > 1:
        raise DumpError(f"holds {devices} devices; give one (lspci -s ADDRESS)")
    return Dump(
        _bytes(lines),
        tuple(_regions("\n".join(lines))),
        _ids(headings[0]) if headings else None,
        bool(headings) and "Virtual Function" in headings[0],
    )


# --- what stands before a line --------------------------------------------------------------------

_ADDRESS = r"(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"
_CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_PREFIXES = (
    # A quotation in mail, of whatever depth.
    r"(?:[>|][ \t]{0,8})+",
    # The kernel's: level; time since boot, or of day (dmesg -T), and the task or processor.
    r"<\d{1,3}>",
    r"\[[^\[\]\n]{1,40}\][ \t]*",
    # What journalctl, syslog and terminals add.
    rf"\d{{4}}-\d\d-\d\d[T ]{_CLOCK}(?:Z|[+-]\d\d:?\d\d)?[ \t]+",
    rf"[A-Z][a-z]{{2}} [ \d]\d {_CLOCK}[ \t]+",
    rf"{_CLOCK}[ \t]+",
    r"[\w.-]{1,255} kernel:[ \t]",
    # The driver's name and the device (dev_printk).
    rf"[\w-]{{1,64}} {_ADDRESS}:[ \t]",
)
_PREFIX = re.compile("|".join(_PREFIXES), re.IGNORECASE)


def bare(line: str) -> str:
    """A line without what mail, logs and terminals put before it."""
    at = 0
    # By position, not by cutting: a line may be as long as the file.
    while (match := _PREFIX.match(line, at)) is not None:
        at = match.end()
    return line[at:]


# A PCI domain has more than 4 digits behind an Intel VMD, whose domains begin at 10000.
_DEVICE = re.compile(rf"^{_ADDRESS} ", re.IGNORECASE)
_EARLY = re.compile(r"^\s*config space:\s*$", re.IGNORECASE)
# "15b3:101a" of -n, "[15b3:101a]" of -nn, and what lspci prints where it knows no name.
_IDS = re.compile(
    rf"^{_ADDRESS} (?:[0-9a-f]{{4}}: |.*\[|.*Device )([0-9a-f]{{4}}):([0-9a-f]{{4}})\b",
    re.IGNORECASE,
)


def _ids(heading: str) -> tuple[int, int] | None:
    match = _IDS.match(heading)
    return None if match is None else (int(match[1], 16), int(match[2], 16))


# --- rows -----------------------------------------------------------------------------------------

# Offsets have 2 or 3 digits (lspci), 6 (od -Ax), 7 (od, hexdump) or 8 (xxd, hexdump -C, the
# kernel).
_ROW = re.compile(r"^\s*(?:0x)?([0-9a-f]{2,8})(:|\s)\s*(.*)$", re.IGNORECASE)
# hexdump and od have no colon and print numbers: on the machines that have PCI, lowest byte first.
# After a colon, several bytes are in their order if xxd printed them, and a number if xxd -e or the
# kernel did.
_BYTE = re.compile(r"[0-9a-f]{2}", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9a-f]{2}|[0-9a-f]{4}|[0-9a-f]{8}|[01][0-7]{5}", re.IGNORECASE)
# What od prints if not told otherwise: words of two bytes, in octal.
_OCTAL = 6
# From this many digits on an offset is hexdump's or od's, and no word of a sentence.
_LONG = 6
# setpci's "00.w", and "@00" of its -v, with the value behind it.
_REGISTER = re.compile(
    rf"^\s*(?:{_ADDRESS} )?(?:@([0-9a-f]{{1,3}})|([0-9a-f]{{1,3}})\.[bwl])[ \t:=]+"
    r"([0-9a-f]{2}|[0-9a-f]{4}|[0-9a-f]{8})\s*$",
    re.IGNORECASE,
)
_SIZES = (PCI_CONFIG_SPACE_SIZE, PCIE_CONFIG_SPACE_SIZE)


def _bytes(lines: Sequence[str]) -> bytes:
    # None stands for the "*" that hexdump and od print in place of rows that equal the one before.
    rows = list(_rows(lines))
    if not any(row is not None and row.values for row in rows):
        return _unnumbered(lines)
    # od counts in octal, or in decimal if asked to: seen by what the offsets come to.
    bases = next((row.bases for row in rows if row is not None), (16,))
    for base in bases[1:]:
        try:
            found = _assembled(rows, base)
        except (DumpError, ValueError):
            continue
        if len(found) in _SIZES:
            return found
    groups = max(row.group for row in rows if row is not None)
    try:
        return _ordered(_assembled(rows, 16), groups)
    except DumpError:
        # The first value of a line without an offset was taken for one.
        with contextlib.suppress(DumpError):
            found = _unnumbered(lines)
            if len(found) in _SIZES:
                return found
        raise


def _ordered(found: bytes, group: int) -> bytes:
    """The bytes, whichever way groups of them were written."""
    pointer = found[PCI_CAPABILITY_LIST : PCI_CAPABILITY_LIST + 4]
    # 6.1: what follows the capabilities pointer is reserved and reads 0; so it tells.
    if group == 1 or pointer[:1] > b"\0" or (group == 2 and not any(pointer)):
        return found
    if not any(pointer):
        raise DumpError("the order of bytes in their groups cannot be told; print single bytes")
    return b"".join(found[at : at + group][::-1] for at in range(0, len(found), group))


def _rows(lines: Sequence[str]) -> Iterator[_Row | None]:
    for number, line in enumerate(lines, 1):
        if line.strip() == "*":
            yield None
            continue
        row = _row(number, line)
        if row is not None:
            yield row


def _assembled(rows: Sequence[_Row | None], base: int) -> bytes:
    found = bytearray()
    repeat = False
    for row in rows:
        if row is None:
            repeat = True
            continue
        offset = int(row.offset, base)
        # Bounded by the space's size: an offset from the text must not decide how much is
        # allocated.
        if repeat and len(found) >= 16 and len(found) < offset <= PCIE_CONFIG_SPACE_SIZE:
            found += (bytes(found[-16:]) * PCIE_CONFIG_SPACE_SIZE)[: offset - len(found)]
        repeat = False
        # A gap would give every register behind it another place, and the verdict with them.
        if row.values and offset != len(found):
            raise DumpError(f"line {row.line} is at {offset:#x}, where {len(found):#x} is expected")
        found += row.values
        if len(found) > PCIE_CONFIG_SPACE_SIZE:
            raise DumpError(f"line {row.line} goes beyond 4096 bytes")
    return bytes(found)


def _row(number: int, line: str) -> _Row | None:
    """A dump's line; it has no bytes if it is the closing line of ``hexdump``."""
    register = _REGISTER.match(line)
    if register is not None:
        return _Row(number, register[1] or register[2], _swapped(register[3]), (16,))
    if _DEVICE.match(line):
        return None
    match = _ROW.match(line + " ")
    if match is None:
        return None
    offset, colon, rest = match[1], match[2] == ":", match[3]
    long = not colon and len(offset) >= _LONG
    values = _values(rest, _NUMBER if colon or long else _BYTE, long)
    if not values and rest.strip():
        return None
    group = len(rest.split(maxsplit=1)[0]) // 2 if colon and values else 1
    return _Row(number, offset, values, (16, 8, 10) if long else (16,), group)


def _values(text: str, unit: re.Pattern[str], numbers: bool) -> bytes:
    """Up to 16 bytes at the text's start."""
    values = bytearray()
    # Behind "|" hexdump -C repeats the bytes as characters, which may look like hexadecimal digits.
    # xxd's column of characters has no such mark, but comes after 16 bytes.
    for token in text.partition("|")[0].split():
        if len(values) >= 16 or not unit.fullmatch(token):
            break
        values += _number(token) if numbers else bytes.fromhex(token)
    return bytes(values[:16])


def _number(digits: str) -> bytes:
    return int(digits, 8).to_bytes(2, "little") if len(digits) == _OCTAL else _swapped(digits)


def _swapped(digits: str) -> bytes:
    return bytes.fromhex(digits)[::-1]


def _unnumbered(lines: Sequence[str]) -> bytes:
    """Values without offsets: setpci's, one a line; ``od -An``; and ``xxd -p``."""
    # A command that was copied with its output begins with a prompt or its own name.
    tokens = [token for line in lines if "setpci" not in line for token in line.split()]
    widths = {len(token) for token in tokens}
    if not tokens or not all(re.fullmatch("(?:[0-9a-fA-F]{2})+", token) for token in tokens):
        raise DumpError("no bytes found")
    # xxd -p prints lines of 60 digits, in the order of the bytes, and a shorter one at the end.
    if len(widths) == 1 and max(widths) <= 8:
        return b"".join(_swapped(token) for token in tokens)
    if max(widths) <= 8:
        raise DumpError("no bytes found: values of several widths, without offsets")
    return bytes.fromhex("".join(tokens))


# --- BARs -----------------------------------------------------------------------------------------

_REGION = re.compile(
    r"^[ \t]*Region (?P<index>[0-5]): (?:\[(?:virtual|enhanced)\] ){0,2}"
    r"(?P<space>Memory|I/O ports) at (?P<rest>[^\n]*)$",
    re.MULTILINE,
)
_ROM = re.compile(r"^[ \t]*(?:\[virtual\] )?Expansion ROM at (?P<rest>[^\n]*)$", re.MULTILINE)
_SIZE = re.compile(r"\[size=(\d{1,6})([KMGT]?)\]")
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
# What lspci prints for a BAR that the host gave no address. VFIO shows it without its type, until
# the host does.
_NO_ADDRESS = ("<unassigned>", "<ignored>")


def _regions(text: str) -> Iterator[Bar]:
    """BARs from the lines that ``lspci -vv`` prints; none at all if it does not tell of one."""
    bars = []
    for match in _REGION.finditer(text):
        rest, size = match["rest"], _size(match["rest"])
        if not size or rest.startswith(_NO_ADDRESS):
            return
        kind = "io" if match["space"] == "I/O ports" else _memory(rest)
        prefetchable = "non-prefetchable" not in rest and "prefetchable" in rest
        bars.append(Bar(int(match["index"]), size, kind, prefetchable))
    yield from bars
    rom = _ROM.search(text)
    if rom and _size(rom["rest"]):
        # 6.2.5.2: the expansion ROM's register has 32 bits.
        yield Bar(6, _size(rom["rest"]), "mem32")


def _memory(attributes: str) -> str:
    return "mem64" if "64-bit" in attributes else "mem32"


def _size(text: str) -> int:
    """Bytes, 0 if the text does not say."""
    match = _SIZE.search(text)
    return int(match[1]) << _UNITS[match[2]] if match else 0

"""What config spaces are put together from: capabilities, and a layout to put them into.

A layout is a value, so that a pair can be derived from it by moving, dropping or resizing a
capability. What stands in a vendor's own registers is noise.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import NamedTuple

from vfio_preflight.pci.state import Bar

from .cases import Device

PM, VPD, MSI, PCIX, VSC, EXP, MSIX, AF = 0x01, 0x03, 0x05, 0x07, 0x09, 0x10, 0x11, 0x13
AER, VC, DSN, VSEC, ACS, ARI, ATS, SRIOV, REBAR, LTR, SECPCI, DVSEC, DLF, PL16G = (
    *(0x01, 0x02, 0x03, 0x0B, 0x0D, 0x0E, 0x0F, 0x10, 0x15, 0x18, 0x19, 0x23, 0x25, 0x26),
)
POWER, L1PM, TPH, LANES = 0x04, 0x1E, 0x17, 0x27

MEM32, MEM64, PREFETCH64, IO = 0x0, 0x4, 0xC, 0x1


class Cap(NamedTuple):
    """A capability: ``body`` follows the identifier and the pointer. ``linked``: is in the list."""

    id: int
    offset: int
    body: bytes = b""
    linked: bool = True


class Ext(NamedTuple):
    """An extended capability: ``body`` follows the header."""

    id: int
    offset: int
    body: bytes = b""
    version: int = 1


class Layout(NamedTuple):
    """A device's configuration space: ``caps`` and ``ext`` in the order of their lists.

    ``bars`` are of (number, register's low bits, size in bytes).
    """

    vendor: int
    device: int
    class_code: int
    caps: tuple[Cap, ...]
    ext: tuple[Ext, ...] = ()
    bars: tuple[tuple[int, int, int], ...] = ((0, MEM32, 0x100000),)
    size: int = 256
    pin: int = 0
    rom: int = 0
    revision: int = 0xA1


def noise(seed: int, size: int) -> bytes:
    """``size`` bytes that look like nothing, always the same for a seed; zeros for seed 0."""
    if not seed:
        return bytes(size)
    return hashlib.shake_128(b"%d" % seed).digest(size)


def build(layout: Layout) -> Device:
    """The device that presents ``layout``."""
    config = bytearray(layout.size)
    linked = [cap for cap in layout.caps if cap.linked]
    status = 0x0010 if linked else 0
    struct.pack_into("<HHHH", config, 0, layout.vendor, layout.device, 0, status)
    struct.pack_into("<I", config, 8, layout.class_code << 8 | layout.revision)
    struct.pack_into("<HH", config, 0x2C, layout.vendor, layout.device ^ 0x0F0F)
    config[0x3D] = layout.pin
    for number, kind, _ in layout.bars:
        struct.pack_into("<I", config, 0x10 + 4 * number, kind)
    for cap in layout.caps:
        _put(config, cap.offset, bytes((cap.id, 0)) + cap.body)
    for link, cap in zip([0x34, *(cap.offset + 1 for cap in linked)], linked):
        config[link] = cap.offset
    for ext, following in zip(layout.ext, [*layout.ext[1:], None]):
        pointer = following.offset if following else 0
        header = ext.id | ext.version << 16 | pointer << 20
        _put(config, ext.offset, struct.pack("<I", header) + ext.body)
    return Device(bytes(config), _bars(layout))


def _put(config: bytearray, offset: int, content: bytes) -> None:
    room = config[offset : offset + len(content)]
    config[offset : offset + len(content)] = content[: len(room)]


def _bars(layout: Layout) -> tuple[Bar, ...]:
    kinds = {MEM32: "mem32", MEM64: "mem64", PREFETCH64: "mem64", IO: "io"}
    bars = [Bar(n, size, kinds.get(kind, "mem32"), kind == 0xC) for n, kind, size in layout.bars]
    return (*bars, Bar(6, layout.rom, "mem32")) if layout.rom else tuple(bars)


# --- capabilities ---------------------------------------------------------------------------------


def pm(offset: int, seed: int = 0) -> Cap:
    """Power management, version 3."""
    return Cap(
        PM, offset, struct.pack("<HH", 0x0003 | seed % 2 << 9, 0x0008 * (seed % 3)) + b"\0\0"
    )


def msi(offset: int, seed: int = 0, control: int = 0x0080) -> Cap:
    """MSI; ``control`` has the number of vectors, 64 bits (0x80) and masking (0x100)."""
    size = 8 + 4 * bool(control & 0x80) + 10 * bool(control & 0x100)
    return Cap(MSI, offset, struct.pack("<H", control) + noise(seed, size - 2))


def msix(offset: int, vectors: int, table: int = 0x2000, pba: int = 0x3000) -> Cap:
    """MSI-X; offset and BAR number of table and pending bits in one, as in the register."""
    return Cap(MSIX, offset, struct.pack("<HII", vectors - 1, table, pba))


def vsc(offset: int, length: int, seed: int = 0) -> Cap:
    """Vendor Specific Information."""
    return Cap(VSC, offset, bytes((length,)) + noise(seed, max(0, length - 3)))


def pcie(offset: int, seed: int = 0, kind: int = 0, version: int = 2, size: int = 0x3C) -> Cap:
    """PCI Express: ``kind`` 0 endpoint, 1 legacy endpoint, 9 root complex integrated endpoint."""
    return Cap(EXP, offset, struct.pack("<H", kind << 4 | version) + noise(seed, size - 4))


def rebar(offset: int, seed: int = 0, sizes: Sequence[int] = (8,)) -> Ext:
    """Resizable BARs, of 1 MiB << size each."""
    body = b""
    for number, size in enumerate(sizes):
        control = size << 8 | len(sizes) << 5 | number
        body += noise(seed, 4) + struct.pack("<I", control)
    return Ext(REBAR, offset, body)


def ext(cap_id: int, offset: int, size: int, seed: int = 0, version: int = 1) -> Ext:
    """Any extended capability of ``size`` bytes with its header."""
    return Ext(cap_id, offset, noise(seed, size - 4), version)

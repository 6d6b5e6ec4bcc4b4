"""Config states that QEMU does not survive, or might not."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

from vfio_preflight.pci.state import Bar

from . import kit
from .cases import Device
from .kit import Layout, build


@st.composite
def hostile(draw: st.DrawFn, layout: Layout) -> Device:
    """A device with something in it that QEMU does not survive, or might not."""
    device = build(layout)
    config = bytearray(device.config)
    for _ in range(draw(st.integers(1, 2))):
        kind = draw(st.integers(0, len(_HOSTILITIES) - 1))
        device = draw(_HOSTILITIES[kind](layout, config, device))
    return device._replace(config=bytes(config[: len(device.config)]))


def _set(config: bytearray, offset: int, value: bytes) -> None:
    config[offset : offset + len(value)] = value[: len(config) - offset]


@st.composite
def _pointer(draw: st.DrawFn, layout: Layout, config: bytearray, device: Device) -> Device:
    """A pointer of the list leads somewhere."""
    links = [0x34, *(cap.offset + 1 for cap in layout.caps)]
    known = st.sampled_from([cap.offset for cap in layout.caps] or [0x40])
    near = known.map(lambda at: at + 2 & 0xFF)
    anywhere = st.integers(0, 255)
    # A loop costs a second: not too often.
    target = draw(st.one_of(*[anywhere] * 6, near, near, known))
    config[draw(st.sampled_from(links))] = target
    return device


@st.composite
def _ext_pointer(draw: st.DrawFn, layout: Layout, config: bytearray, device: Device) -> Device:
    if len(config) < 4096:
        return device
    offsets = [one.offset for one in layout.ext] or [0x100]
    where = draw(st.sampled_from(offsets))
    anywhere = st.integers(0, 0x3FF).map(lambda at: at * 4)
    target = draw(st.one_of(anywhere, anywhere, anywhere, st.sampled_from(offsets)))
    header = struct.unpack_from("<I", config, where)[0] & 0xFFFFF or 0x10003
    _set(config, where, struct.pack("<I", header | target << 20))
    return device


@st.composite
def _ext_overlap(draw: st.DrawFn, layout: Layout, config: bytearray, device: Device) -> Device:
    if len(config) < 4096 or not layout.ext:
        return device
    first = layout.ext[0].offset
    near = first + draw(st.sampled_from((4, 4, 8)))
    _set(config, first, struct.pack("<I", 0x10001 | near << 20))
    _set(config, near, struct.pack("<I", draw(st.sampled_from((0x10003, 0x10000, 0x1FFFF)))))
    return device


@st.composite
def _capability_field(draw: st.DrawFn, layout: Layout, config: bytearray, device: Device) -> Device:
    """The flags of a capability whose type QEMU reads: PCIe type, MSI order, MSI-X BARs."""
    special = [cap for cap in layout.caps if cap.id in (kit.EXP, kit.MSI, kit.MSIX)]
    if not special:
        return device
    cap = draw(st.sampled_from(special))
    where = cap.offset + draw(st.sampled_from((2, 3, 4, 8)))
    _set(config, where, draw(st.binary(min_size=1, max_size=2)))
    return device


@st.composite
def _msix_place(draw: st.DrawFn, layout: Layout, config: bytearray, device: Device) -> Device:
    special = [cap for cap in layout.caps if cap.id == kit.MSIX]
    if not special:
        return device
    bar = draw(st.integers(0, 7))
    table, pba = draw(st.integers(0, 40)) * 0x200, draw(st.integers(0, 40)) * 0x200
    vectors = draw(st.sampled_from((0, 63, 255, 2047)))
    content = struct.pack("<HII", vectors, table | bar, pba | draw(st.sampled_from((bar, 0))))
    _set(config, special[0].offset + 2, content)
    return device


@st.composite
def _header_field(draw: st.DrawFn, _layout: Layout, config: bytearray, device: Device) -> Device:
    where = draw(st.sampled_from((0x0E, 0x3D, 0x06, 0x34, 0x10, 0x14, 0x00)))
    config[where] = draw(st.integers(0, 255))
    return device


@st.composite
def _bar_size(draw: st.DrawFn, _layout: Layout, config: bytearray, device: Device) -> Device:
    number = draw(st.integers(0, 5))
    size = draw(st.sampled_from((0x1000, 0x10, 4, 0x3000, 0x1001, 1)))
    kept = tuple(bar for bar in device.bars if bar.number != number)
    config[0x10 + 4 * number] = draw(st.sampled_from((0, 1, 4, 0xC)))
    return device._replace(bars=(*kept, Bar(number, size, "mem32")))


@st.composite
def _no_bars(draw: st.DrawFn, _layout: Layout, config: bytearray, device: Device) -> Device:
    return device._replace(bars=device.bars[draw(st.integers(1, 3)) :] or (Bar(5, 16, "mem32"),))


@st.composite
def _all_ones(draw: st.DrawFn, _layout: Layout, config: bytearray, device: Device) -> Device:
    start = draw(st.sampled_from((0, 0x40, 0x100)))
    config[start:] = b"\xff" * (len(config) - start)
    return device


_HOSTILITIES = (
    *(_pointer, _ext_pointer, _ext_overlap, _capability_field, _msix_place, _header_field),
    *(_pointer, _ext_pointer, _ext_overlap, _capability_field, _msix_place, _header_field),
    *(_bar_size, _no_bars, _bar_size, _no_bars, _all_ones),
)

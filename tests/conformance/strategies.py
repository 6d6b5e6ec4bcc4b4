"""Pairs of config states, realistic and hostile, for hypothesis to draw and to shrink.

Everything is drawn as small numbers: a pair is a layout, noise by seed, and a few changes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

from vfio_preflight.pci.state import Bar

from . import layouts as kit
from .cases import PLACEMENTS, Case, Device
from .layouts import LAYOUTS, Cap, Ext, Layout, build, noise

MACHINES = ("9.0", "10.0", "8.0", "8.1", "8.2", "9.1", "9.2", "10.1", "10.2", "11.0", "11.1")
SEEDS = st.integers(0, 50)

# --- layouts --------------------------------------------------------------------------------------

real = st.builds(lambda name, seed: LAYOUTS[name](seed), st.sampled_from(sorted(LAYOUTS)), SEEDS)


@st.composite
def mixed(draw: st.DrawFn) -> Layout:
    """Capabilities of any kind, in any order and with any gaps, that do not overlap."""
    makers: Sequence[Callable[[int], Cap]] = draw(st.lists(_capability(), max_size=7))
    offset = 0x40 + 4 * draw(st.integers(0, 8))
    placed: list[Cap] = []
    for make in makers:
        cap = make(offset)
        size = max(4, len(cap.body) + 2)
        if offset + size > 0x100:
            break
        placed.append(cap)
        offset = (offset + size + 3 & ~3) + draw(st.sampled_from((0, 0, 4, 8, 20)))
    caps = tuple(draw(st.permutations(placed)))
    big = draw(st.booleans())
    more = tuple(draw(_extended())) if big else ()
    size = 4096 if big else 256
    bars = ((0, draw(st.sampled_from((0, 4, 0xC))), 0x10000),)
    return Layout(0x1234, 0x5678, 0x028000, caps, more, bars, size, pin=draw(st.integers(0, 4)))


@st.composite
def _capability(draw: st.DrawFn) -> Callable[[int], Cap]:
    seed, kind = draw(SEEDS), draw(st.integers(0, 9))
    length = draw(st.integers(2, 60))
    control = draw(st.sampled_from((0x80, 0, 0x100, 0x180, 0x18A, 0x84)))
    port = draw(st.sampled_from((0, 0, 0, 1, 9)))
    size = draw(st.sampled_from((0x3C, 0x14, 0x2C, 0x30, 0x3C)))
    version, vectors = draw(st.integers(0, 2)), draw(st.sampled_from((1, 4, 33, 64, 128)))
    makers: Sequence[Callable[[int], Cap]] = (
        lambda at: kit.vsc(at, length, seed),
        lambda at: kit.pcie(at, seed, port, version, size),
        lambda at: kit.msix(at, vectors),
        lambda at: kit.pm(at, seed),
        lambda at: kit.msi(at, seed, control),
        lambda at: Cap(kit.VPD, at, noise(seed, 6)),
        lambda at: Cap(kit.AF, at, noise(seed, 4)),
        lambda at: Cap(0, at, noise(seed, length)),
        lambda at: Cap(0x14, at, noise(seed, length)),
        lambda at: Cap(0x09, at, bytes((255,)) + noise(seed, length)),
    )
    return makers[kind]


@st.composite
def _extended(draw: st.DrawFn) -> list[Ext]:
    ids = (1, 3, 0xB, 0xE, 0x10, 0x15, 0x19, 0x23, 0, 2, 0xF, 0x1234)
    offset = 0x100
    found: list[Ext] = []
    for cap_id in draw(st.lists(st.sampled_from(ids), max_size=6)):
        size = draw(st.sampled_from((8, 0xC, 0x10, 0x2C, 0x48)))
        seed = draw(SEEDS)
        if cap_id == 0x15:
            found.append(kit.rebar(offset, seed, draw(st.lists(st.integers(0, 31), max_size=3))))
            size = 0x20
        else:
            found.append(kit.ext(cap_id, offset, size, seed, draw(st.integers(0, 3))))
        offset += size + draw(st.sampled_from((0, 4, 0x40)))
    shuffled = draw(st.booleans())
    return found[:1] + (draw(st.permutations(found[1:])) if shuffled else found[1:])


any_layout = st.one_of(real, real, mixed())

# --- what differs between two hosts ---------------------------------------------------------------


@st.composite
def relaid(draw: st.DrawFn, layout: Layout) -> Layout:
    """A capability moved, dropped, resized or refilled; another size of space, other BARs."""
    kind = draw(st.integers(0, 7))
    if kind < 4 and layout.caps:
        at = draw(st.integers(0, len(layout.caps) - 1))
        return layout._replace(caps=draw(_changed(layout.caps, at, kind)))
    if kind == 4 and layout.ext:
        at = draw(st.integers(0, len(layout.ext) - 1))
        changed = draw(_changed_ext(layout.ext, at))
        return layout._replace(ext=changed)
    if kind == 5:
        return layout._replace(size=4096 if layout.size == 256 else 256, ext=())
    if kind == 6 and layout.bars:
        number, low, size = layout.bars[-1]
        other = (
            number,
            draw(st.sampled_from((low, 0, 4, 0xC, 1))),
            size << draw(st.integers(0, 2)),
        )
        return layout._replace(bars=(*layout.bars[:-1], other))
    return layout._replace(rom=draw(st.sampled_from((0, 0x800, 0x10000))))


@st.composite
def _changed(draw: st.DrawFn, caps: tuple[Cap, ...], at: int, kind: int) -> tuple[Cap, ...]:
    cap = caps[at]
    rest = (caps[:at], caps[at + 1 :])
    if kind == 0:
        return (*rest[0], *rest[1])
    if kind == 1:
        moved = cap._replace(offset=cap.offset + draw(st.sampled_from((4, -4, 8))) & 0xFC)
        return (*rest[0], moved, *rest[1])
    if kind == 2:
        other = cap.body[: draw(st.integers(0, len(cap.body)))]
        return (*rest[0], cap._replace(body=other), *rest[1])
    return (*rest[0], cap._replace(linked=not cap.linked), *rest[1])


@st.composite
def _changed_ext(draw: st.DrawFn, exts: tuple[Ext, ...], at: int) -> tuple[Ext, ...]:
    one = exts[at]
    rest = (exts[:at], exts[at + 1 :])
    kind = draw(st.integers(0, 2))
    if kind == 0 and (at or len(exts) == 1):
        return (*rest[0], *rest[1])
    if kind == 1 and at:
        return (*rest[0], one._replace(offset=one.offset + 4), *rest[1])
    return (*rest[0], one._replace(id=draw(st.sampled_from((0, 3, 0xE, 0x23)))), *rest[1])


# Where one looks first: registers that QEMU treats specially.
_HOT = (
    *(0x00, 0x02, 0x04, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0C, 0x0E, 0x10, 0x14, 0x2C, 0x2E, 0x30),
    *(0x34, 0x3C, 0x3D),
)


@st.composite
def bytes_changed(draw: st.DrawFn, device: Device) -> Device:
    """One bit, one byte, a word, a dword or several bytes of a device's space changed."""
    config = bytearray(device.config)
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 5)))):
        offset = draw(_offsets(device))
        width = draw(st.sampled_from((1, 1, 1, 2, 4)))
        if draw(st.booleans()):
            config[offset] ^= 1 << draw(st.integers(0, 7))
        else:
            for at in range(offset, min(offset + width, len(config))):
                config[at] = draw(st.integers(0, 255))
    return device._replace(config=bytes(config))


def _offsets(device: Device) -> st.SearchStrategy[int]:
    filled = [at for at in range(0x40, len(device.config)) if device.config[at]] or [0x40]
    anywhere = st.integers(0, len(device.config) - 1)
    return st.one_of(
        st.sampled_from(filled),
        st.sampled_from(filled),
        st.sampled_from(_HOT),
        st.integers(0x40, 0xFF),
        anywhere,
    )


# --- hostile --------------------------------------------------------------------------------------


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

# --- properties -----------------------------------------------------------------------------------

_PROPERTIES = {
    "skip-vsc-check": ("on", "off"),
    "x-pci-vendor-id": ("0x10de", "4660", "0xffff", "0x10000"),
    "x-pci-device-id": ("0x1eb9", "0x10000"),
    "x-pci-sub-vendor-id": ("0x1af4",),
    "x-pci-sub-device-id": ("010",),
    "x-pci-class-code": ("0x030000", "0x1000000"),
    "x-nv-gpudirect-clique": ("0", "7", "15"),
    "rombar": ("0", "1", "-1"),
    "romfile": ("", "some.rom"),
    "multifunction": ("on", "off"),
    "x-no-kvm-msix": ("on",),
    "x-no-kvm-intx": ("on",),
    "x-no-mmap": ("on",),
    "x-req": ("off",),
    "x-msix-relocation": ("off", "auto", "bar0", "bar2", "bar5"),
}


@st.composite
def properties(draw: st.DrawFn) -> tuple[tuple[str, str], ...]:
    """Some properties, seldom many."""
    names = draw(st.lists(st.sampled_from(sorted(_PROPERTIES)), max_size=3, unique=True))
    return tuple((name, draw(st.sampled_from(_PROPERTIES[name]))) for name in names)


# --- cases ----------------------------------------------------------------------------------------


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A pair, and all that surrounds it."""
    layout = draw(any_layout)
    source, destination = draw(_pair(layout))
    source, destination = draw(_dressed(source, destination))
    placement = draw(st.sampled_from(sorted(PLACEMENTS)))
    lifted = (("vfio-pci", "skip-vsc-check", draw(st.sampled_from(("on", "off")))),)
    wanted = lifted if draw(st.integers(0, 15)) == 15 else ()
    return Case(source, destination, draw(st.sampled_from(MACHINES)), placement, wanted)


@st.composite
def _pair(draw: st.DrawFn, layout: Layout) -> tuple[Device, Device]:
    kind = draw(st.integers(0, 19))
    source = build(layout)
    if kind < 9:
        return source, draw(bytes_changed(source))
    if kind < 13:
        return source, build(draw(relaid(layout)))
    if kind < 14:
        return source, source
    if kind < 16:
        other = draw(hostile(layout))
        return other, draw(bytes_changed(other))
    wicked = draw(hostile(layout))
    return draw(st.sampled_from(((source, wicked), (wicked, source), (wicked, wicked))))


@st.composite
def _dressed(draw: st.DrawFn, source: Device, destination: Device) -> tuple[Device, Device]:
    """Properties on both sides, the same or not; now and then without BAR sizes."""
    kind = draw(st.integers(0, 9))
    if kind == 1:
        return source._replace(bars=()), destination._replace(bars=())
    if kind in (2, 3, 4):
        both = draw(properties())
        return source._replace(properties=both), destination._replace(properties=both)
    if kind == 5:
        one, other = draw(properties()), draw(properties())
        return source._replace(properties=one), destination._replace(properties=other)
    if kind == 6:
        driver = "vfio-pci-nohotplug"
        return source._replace(driver=driver), destination._replace(driver=driver)
    if kind == 7:
        return source._replace(mdev=True), destination._replace(mdev=True)
    return source, destination

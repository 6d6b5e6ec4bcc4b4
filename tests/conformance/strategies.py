"""Pairs of config states, realistic and hostile, for hypothesis to draw and to shrink.

Everything is drawn as small numbers: a pair is a layout, noise by seed, and a few changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import strategies as st

from vfio_preflight.qemu.model.quirks import is_intel_vga

from . import kit
from .cases import PLACEMENTS, Case, Device
from .hostile import hostile
from .kit import Cap, Ext, Layout, build, noise
from .known_properties import IDLE
from .layouts import LAYOUTS

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
    # Behind 4 GiB QEMU cuts off the offset of an MSI-X table that it moves there.
    room = draw(st.sampled_from((0x10000, 0x10000, 0x10000, 1 << 31, 1 << 32, 1 << 35)))
    low = draw(st.sampled_from((0, 4, 0xC) if room == 0x10000 else (4, 0xC)))
    bars = ((0, low, room),)
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


# --- properties -----------------------------------------------------------------------------------

_PROPERTIES = {
    "skip-vsc-check": ("on", "off"),
    "x-pci-vendor-id": ("0x10de", "4660", "0xffff", "0x10000"),
    "x-pci-device-id": ("0x1eb9", "0x10000"),
    "x-pci-sub-vendor-id": ("0x1af4",),
    "x-pci-sub-device-id": ("010",),
    "x-pci-class-code": ("0x030000", "0x1000000"),
    "x-igd-gms": ("2", "0x10", "0x11", "0x40", "0x41"),
    "x-no-geforce-quirks": ("on", "off"),
    "ats": ("off", "on", "auto"),
    "x-nv-gpudirect-clique": ("0", "7", "15"),
    "rombar": ("0", "1", "-1"),
    "romfile": ("", "some.rom"),
    "romsize": ("0x10000", "0x40000"),
    "multifunction": ("on", "off"),
    "x-no-kvm-msix": ("on",),
    "x-no-kvm-intx": ("on",),
    "x-no-mmap": ("on",),
    "x-req": ("off",),
    "x-msix-relocation": ("off", "auto", "bar0", "bar2", "bar5"),
}

_GLOBALS = {
    "skip-vsc-check": ("on", "off"),
    "x-pci-vendor-id": ("0x10de", "0xffffffff"),
    "x-pci-device-id": ("0x1eb9", "4660"),
    "x-nv-gpudirect-clique": ("0", "7"),
    "rombar": ("0", "1"),
    "romfile": ("",),
    "multifunction": ("on", "off"),
}


@st.composite
def properties(draw: st.DrawFn, graphics: bool) -> tuple[tuple[str, str], ...]:
    """Some properties, seldom many; of Intel graphics often the one that is for them."""
    telling = sorted(_PROPERTIES) * 3 + ["x-igd-gms"] * 20 * graphics
    names = st.sampled_from([*telling, *sorted(IDLE)])
    chosen = draw(st.lists(names, max_size=3, unique=True))
    return tuple((name, draw(st.sampled_from(DRAWN[name]))) for name in chosen)


DRAWN = {**_PROPERTIES, **IDLE}


# --- cases ----------------------------------------------------------------------------------------


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A pair, and all that surrounds it."""
    layout = draw(any_layout)
    source, destination = draw(_pair(layout))
    source, destination = draw(_dressed(source, destination))
    placement = draw(st.sampled_from(sorted(PLACEMENTS)))
    wanted = draw(_globals()) if draw(st.integers(0, 15)) == 15 else ()
    return Case(source, destination, draw(st.sampled_from(MACHINES)), placement, wanted)


@st.composite
def _globals(draw: st.DrawFn) -> tuple[tuple[str, str, str], ...]:
    """Values that QEMU takes: of others it does not say that it is the device that it refuses."""
    drivers = st.sampled_from(("vfio-pci", "vfio-pci", "vfio-pci-nohotplug"))
    names = draw(st.lists(st.sampled_from(sorted(_GLOBALS)), min_size=1, max_size=3))
    values = {name: st.sampled_from(_GLOBALS[name]) for name in names}
    return tuple((draw(drivers), name, draw(values[name])) for name in names)


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
    pairs = ((source, wicked), (wicked, source), (wicked, wicked))
    return pairs[draw(st.integers(0, 2))]


@st.composite
def _dressed(draw: st.DrawFn, source: Device, destination: Device) -> tuple[Device, Device]:
    """Properties on both sides, the same or not; now and then without BAR sizes."""
    kind = draw(st.integers(0, 9))
    graphics = any(is_intel_vga(device.config) for device in (source, destination))
    if kind == 1:
        return source._replace(bars=()), destination._replace(bars=())
    if kind in (2, 3, 4):
        both = draw(properties(graphics))
        return source._replace(properties=both), destination._replace(properties=both)
    if kind == 5:
        one, other = draw(properties(graphics)), draw(properties(graphics))
        return source._replace(properties=one), destination._replace(properties=other)
    if kind == 6:
        driver = "vfio-pci-nohotplug"
        return source._replace(driver=driver), destination._replace(driver=driver)
    if kind == 7 and not graphics:
        return source._replace(mdev=True), destination._replace(mdev=True)
    if kind == 8:
        here, there = draw(_ROOTS), draw(_ROOTS)
        return source._replace(atomics=here), destination._replace(atomics=there)
    return source, destination


# What VFIO says of AtomicOps: nothing, 32 bits, 32 and 64, all, or what no root is known to have.
_ROOTS = st.sampled_from((0, 0, 1, 3, 7, 4))

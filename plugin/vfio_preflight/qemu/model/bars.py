"""Base address registers, as QEMU takes them (``vfio_bar_prepare``, hw/vfio/pci.c).

What a BAR is, QEMU learns from the low bits of its register; its size, from VFIO. Where sizes are
not known, model and trial go by the same guess: the smallest that the device can have. Address bits
below a BAR's size are compared, and read 0 wherever there is a guest; so what a guess adds to them
beyond doubt is nothing, and no bit decides that might be an address bit above the real size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from ...osutil.light import NamedTuple
from ...pci.ids import PCI_CAP_ID_MSIX
from ...pci.space import PCI_CAPABILITY_LIST, PCI_STATUS, PCI_STATUS_CAP_LIST, dword, word
from ...pci.state import Bar, ConfigState
from .values import CACHED

ROM_BAR = 6
# 6.2.5.1, 6.2.5.2: the least that the register of a BAR or of the ROM can express, in bytes.
_MEMORY, _PORTS, _ROM = 16, 4, 0x800


class Region(NamedTuple):
    """A BAR: ``size`` in bytes, ``type`` the low bits of its register (PCI 3.0, 6.2.5.1)."""

    size: int
    type: int

    @property
    def is_io(self) -> bool:
        """Whether it is in I/O space."""
        return bool(self.type & 1)

    @property
    def is_64bit(self) -> bool:
        """Whether its register has 8 bytes; so if bit 2 is set, whatever bit 1 says."""
        # vfio_bar_prepare() tests PCI_BASE_ADDRESS_MEM_TYPE_64, which is bit 2 alone.
        return not self.is_io and bool(self.type & 4)


class MsixRegisters(NamedTuple):
    """What an MSI-X capability says; offsets in bytes."""

    entries: int
    table_bar: int
    table_offset: int
    pba_bar: int
    pba_offset: int

    @property
    def table_end(self) -> int:
        """Where the table ends in its BAR."""
        return self.table_offset + 16 * self.entries

    @property
    def pba_end(self) -> int:
        """Where the pending bits end in their BAR."""
        # A bit for each vector, in whole quadwords: QEMU_ALIGN_UP(nentries, 64) / 8 in msix_init().
        return self.pba_offset + (self.entries + 63 & ~63) // 8


def parse_msix(config: bytes, offset: int) -> MsixRegisters:
    """The MSI-X capability at ``offset`` (PCI 3.0, 6.8.2)."""
    table, pba = dword(config, offset + 4), dword(config, offset + 8)
    # 6.8.2.3: the table size is encoded as N-1. The low three bits of the others are a BAR's
    # number.
    entries = (word(config, offset + 2) & 0x7FF) + 1
    return MsixRegisters(entries, table & 7, table & ~7, pba & 7, pba & ~7)


def regions(state: ConfigState) -> dict[int, Region]:
    """The state's BARs by number, but for the ROM."""
    return {
        # QEMU reads the type from the register, so the kind in the list does not decide it.
        bar.number: _region(bar.size, state.config[0x10 + 4 * bar.number])
        for bar in likely_bars(state)
        # VFIO reports size 0 for what is not implemented and for the upper half of a 64-bit BAR.
        if bar.number != ROM_BAR and bar.size
    }


def rom_size(state: ConfigState) -> int:
    """Bytes of the expansion ROM, 0 for none."""
    return next((bar.size for bar in likely_bars(state) if bar.number == ROM_BAR), 0)


def likely_bars(state: ConfigState) -> tuple[Bar, ...]:
    """The state's BARs. Where they are not known: registers that are not zero, and, since one may
    be there that reads as zero, BAR 0 and what an MSI-X capability lies in.
    """
    return state.bars or guess(state.config, dict(registers(state.config)))


def guess(config: bytes, found: Mapping[int, Bar]) -> tuple[Bar, ...]:
    """The BARs ``found``, and those that ``config`` needs, as large as it needs them."""
    needs = dict(_msix_needs(config))
    # A 32-bit BAR that is unassigned and not prefetchable reads as zero, like an absent one.
    least = {number: Bar(number, _MEMORY, "mem32") for number in (0, *needs)}
    return tuple(
        # The next power of two (6.2.5.1) that table and PBA fit into.
        bar._replace(size=max(bar.size, 1 << (needs.get(number, 0) - 1).bit_length()))
        for number, bar in sorted({**least, **found}.items())
    )


def _region(size: int, low: int) -> Region:
    # What PCI_BASE_ADDRESS_IO_MASK and PCI_BASE_ADDRESS_MEM_MASK leave: these bits are compared.
    return Region(size, low & (0x3 if low & 1 else 0xF))


# Asked for both sides of each of a guest's devices, which are often of one model.
@lru_cache(maxsize=CACHED)
def registers(config: bytes) -> tuple[tuple[int, Bar], ...]:
    """The BARs whose registers are not zero, by number, as small as they can be."""
    return tuple(_registers(config))


def _registers(config: bytes) -> Iterator[tuple[int, Bar]]:
    number = 0
    while number < ROM_BAR:
        value = dword(config, 0x10 + 4 * number)
        region = _region(_MEMORY, value & 0xFF)
        if region.is_io:
            yield number, Bar(number, _PORTS, "io")
        elif value:
            # Bit 3, in memory's registers alone (6.2.5.1).
            kind, prefetchable = "mem64" if region.is_64bit else "mem32", bool(region.type & 8)
            yield number, Bar(number, _MEMORY, kind, prefetchable)
        # 6.2.5.1: the next register is the upper half of a 64-bit BAR, whatever it holds.
        number += 2 if region.is_64bit else 1
    if dword(config, 0x30):
        yield ROM_BAR, Bar(ROM_BAR, _ROM, "mem32")


def _msix_needs(config: bytes) -> Iterator[tuple[int, int]]:
    """BARs with the bytes that MSI-X takes of them."""
    offset = _first_msix(config)
    if offset is None:
        return
    msix = parse_msix(config, offset)
    ends = ((msix.table_bar, msix.table_end), (msix.pba_bar, msix.pba_end))
    # 6.8.2: BAR numbers 6 and 7 are reserved, and no register stands for them.
    for number in sorted({msix.table_bar, msix.pba_bar} - {6, 7}):
        yield number, max(end for bar, end in ends if bar == number)


def _first_msix(config: bytes) -> int | None:
    if not config[PCI_STATUS] & PCI_STATUS_CAP_LIST:
        return None
    # Not by pci.space, which stops at a pointer into the header: QEMU follows it.
    offset, seen = config[PCI_CAPABILITY_LIST], set[int]()
    while offset and offset not in seen:
        if config[offset] == PCI_CAP_ID_MSIX and offset + 12 <= len(config):
            return offset
        seen.add(offset)
        # pci_find_capability_list() keeps its place in a uint8_t, which wraps.
        offset = config[offset + 1 & 0xFF]
    return None

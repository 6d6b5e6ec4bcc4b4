"""Capability layouts of real devices, filled with made-up contents.

Offsets, orders, lengths and gaps are those that public dumps and bug reports show; what stands in
a vendor's own registers is noise. A layout is a value, so that a pair can be derived from it by
moving, dropping or resizing a capability.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
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


# --- devices --------------------------------------------------------------------------------------

_MIB = 1 << 20
_GPU_BARS = ((0, MEM32, 16 * _MIB), (1, PREFETCH64, 256 * _MIB), (3, PREFETCH64, 32 * _MIB))


def nvidia_vgpu(seed: int) -> Layout:
    """NVIDIA vGPU (mdev): a descending list of VSC and MSI, nothing else, no extended space."""
    caps = (vsc(0xD0, 0x1B, seed), msi(0x68))
    bars = ((0, MEM32, 16 * _MIB), (1, PREFETCH64, 256 * _MIB), (3, PREFETCH64, 32 * _MIB))
    return Layout(0x10DE, 0x1EB8, 0x030000, caps, bars=bars, pin=1)


def nvidia_vgpu_sriov(seed: int) -> Layout:
    """NVIDIA vGPU of an SR-IOV card: 4096 bytes, of which MSI-X at 7c is all there is."""
    bars = ((0, MEM32, 16 * _MIB), (1, PREFETCH64, 256 * _MIB), (3, PREFETCH64, 32 * _MIB))
    caps = (msix(0x7C, 6, 0xB90000, 0xBA0000),)
    return Layout(0x10DE, 0x26B9, 0x030000, caps, bars=bars, size=4096, revision=0xA1 + seed % 2)


def nvidia_t4(seed: int) -> Layout:
    """Tesla T4: capability id 00 in the middle of the list."""
    caps = (
        pm(0x60),
        Cap(0x00, 0x68, b"\x80\0" + noise(seed, 10)),
        pcie(0x78, seed),
        msix(0xC8, 6, 0xB90000, 0xBA0000),
    )
    more = (
        *(ext(VC, 0x100, 0x28, seed), ext(L1PM, 0x258, 0x10, seed), ext(POWER, 0x128, 0x10, seed)),
        *(ext(AER, 0x420, 0x48, seed, 2), ext(VSEC, 0x600, 0x24, seed), ext(SECPCI, 0x900, 0x2C)),
        *(rebar(0xBB0), ext(SRIOV, 0xBCC, 0x40, seed), ext(ARI, 0xC14, 8)),
    )
    return Layout(0x10DE, 0x1EB8, 0x030200, caps, more, _GPU_BARS, 4096)


def nvidia_geforce(seed: int) -> Layout:
    """GeForce: an MSI-X capability that is not linked, behind the VSC and inside its exemption."""
    caps = (
        *(pm(0x60), msi(0x68), pcie(0x78, seed, kind=1), vsc(0xB4, 0x14, seed)),
        msix(0xC8, 6, 0xB90000, 0xBA0000)._replace(linked=False),
    )
    more = (
        *(ext(VC, 0x100, 0x28, seed), ext(L1PM, 0x258, 0x10, seed), ext(POWER, 0x128, 0x10, seed)),
        *(ext(AER, 0x420, 0x48, seed, 2), ext(VSEC, 0x600, 0x24, seed), ext(SECPCI, 0x900, 0x2C)),
        *(rebar(0xBB0, seed, (6, 8)), ext(PL16G, 0xC1C, 0x30, seed), ext(LANES, 0xD00, 0x48)),
        ext(DLF, 0xE00, 0xC, seed),
    )
    return Layout(0x10DE, 0x2489, 0x030000, caps, more, _GPU_BARS, 4096, pin=1, rom=0x80000)


def nvidia_h20(seed: int) -> Layout:
    """H20: MSI with masking, VSC at 9c, an extended list that begins with id 0."""
    caps = (
        *(pm(0x40), msi(0x48, seed, 0x0188), pcie(0x60, seed), vsc(0x9C, 0x14, seed)),
        msix(0xB0, 9, 0xB90000, 0xBA0000),
    )
    more = (
        *(Ext(0, 0x100), ext(LTR, 0x12C, 8, seed), rebar(0x134, seed), ext(AER, 0x1B8, 0x48, seed)),
        *(ext(VSEC, 0x2A4, 0x14, seed), ext(POWER, 0x2B8, 0x10), ext(DSN, 0x2F0, 0xC, seed)),
    )
    return Layout(0x10DE, 0x2329, 0x030200, caps, more, _GPU_BARS, 4096)


def mlx5_vf(seed: int) -> Layout:
    """ConnectX VF: PCIe and MSI-X, whose vector count is set per host; VSEC and ARI."""
    caps = (pcie(0x60, seed), msix(0x9C, (12, 21, 32)[seed % 3]))
    more = (ext(VSEC, 0x100, 0xC, seed), ext(ARI, 0x150, 8))
    return Layout(0x15B3, 0x101E, 0x020000, caps, more, ((0, PREFETCH64, _MIB),), 4096)


def mlx5_pf(seed: int) -> Layout:
    """ConnectX PF: a VSC at c0 whose dwords are a gateway; not in the order of addresses."""
    caps = (
        *(pcie(0x60, seed), Cap(VPD, 0x48, noise(seed, 6)), msix(0x9C, 64)),
        *(vsc(0xC0, 0x18, seed), pm(0x40)),
    )
    more = (
        *(ext(AER, 0x100, 0x48, seed), ext(ARI, 0x150, 8), ext(SRIOV, 0x180, 0x40, seed)),
        *(ext(SECPCI, 0x1C0, 0x2C, seed), ext(ACS, 0x230, 8), ext(DLF, 0x420, 0xC)),
    )
    return Layout(
        *(0x15B3, 0x1019, 0x020000, caps, more, ((0, PREFETCH64, 32 * _MIB),), 4096, 1, 0x100000)
    )


def intel_iavf(seed: int) -> Layout:
    """E810 VF: a descending list, 2048 vectors."""
    caps = (msix(0xB0, 2048, 0x0003, 0x8003), pcie(0x70, seed))
    more = (
        *(ext(AER, 0x100, 0x48, seed, 2), ext(ARI, 0x148, 8), ext(TPH, 0x158, 0xC, seed)),
        *(ext(ACS, 0x2EC, 8), ext(ATS, 0x1E4, 8, seed)),
    )
    bars = ((0, PREFETCH64, 128 << 10), (3, PREFETCH64, 64 << 10))
    return Layout(0x8086, 0x1889, 0x020000, caps, more, bars, 4096)


def intel_82599_vf(seed: int) -> Layout:
    """82599 VF: PCIe capability of version 0."""
    caps = (msix(0x70, 3, 0x0003, 0x2003), pcie(0xA0, seed, version=0, size=0x3C))
    more = (ext(AER, 0x100, 0x48, seed), ext(ARI, 0x150, 8))
    bars = ((0, MEM64, 0x4000), (3, MEM64, 0x4000))
    return Layout(0x8086, 0x10ED, 0x020000, caps, more, bars, 4096)


def intel_gpu(seed: int) -> Layout:
    """Arc: VSC at 40, MSI with masking, resizable BARs, SR-IOV."""
    caps = (vsc(0x40, 0x0C, seed), pcie(0x70, seed), msi(0xAC, seed, 0x0180), pm(0xD0))
    more = (
        *(ext(ARI, 0x100, 8), Ext(0, 0x110), ext(ATS, 0x200, 8, seed), rebar(0x420, seed)),
        *(ext(0x24, 0x220, 0x10, seed), ext(SRIOV, 0x320, 0x40, seed), ext(LTR, 0x400, 8)),
    )
    bars = ((0, MEM64, 16 * _MIB), (2, PREFETCH64, 256 * _MIB))
    return Layout(0x8086, 0xE20B, 0x038000, caps, more, bars, 4096, pin=1)


def intel_igd(seed: int) -> Layout:
    """Graphics of an Intel processor, whose GMCH and BDSM registers QEMU may emulate."""
    product = (0x3EA0, 0x9A49, 0x0A84, 0x1616)[seed % 4]
    caps = (vsc(0x40, 0x0C, seed), pcie(0x70, seed, kind=9), msi(0xAC), pm(0xD0))
    more = (ext(0x1B, 0x100, 8), ext(ATS, 0x200, 8, seed), ext(0x13, 0x300, 0x10, seed))
    bars = ((0, MEM64, 16 * _MIB), (2, PREFETCH64, 256 * _MIB), (4, IO, 64))
    return Layout(0x8086, product, 0x030000, caps, more, bars, 4096, pin=1)


def amd_gpu(seed: int) -> Layout:
    """AMD GPU: VSC at 48 that repeats the subsystem identifiers; VSEC first."""
    caps = (vsc(0x48, 0x08, seed), pm(0x50), pcie(0x64, seed, kind=1), msi(0xA0))
    more = (ext(VSEC, 0x100, 0x10, seed), ext(AER, 0x150, 0x48, seed), rebar(0x200, seed, (8, 1)))
    bars = (
        (0, PREFETCH64, 256 * _MIB),
        (2, PREFETCH64, 2 * _MIB),
        (4, IO, 256),
        (5, MEM32, 1 << 18),
    )
    return Layout(0x1002, 0x6985, 0x038000, caps, more, bars, 4096, pin=1, rom=0x20000)


def virtio(seed: int) -> Layout:
    """virtio-pci: MSI-X and five VSCs, one right behind the other."""
    lengths = ((0x84, 0x14), (0x70, 0x14), (0x60, 0x10), (0x50, 0x10), (0x40, 0x10))
    caps = (
        msix(0x98, 3, 0x0001, 0x0801),
        *(vsc(offset, length, seed and seed + offset) for offset, length in lengths),
    )
    bars = ((0, IO, 32), (1, MEM32, 0x1000), (4, PREFETCH64, 0x4000))
    return Layout(0x1AF4, 0x1041, 0x020000, caps, bars=bars, pin=1)


def tg3(seed: int) -> Layout:
    """Broadcom tg3: a VSC of 6c bytes that ends where the next capability begins."""
    caps = (
        *(pm(0x48), Cap(VPD, 0x40, noise(seed, 6)), vsc(0x60, 0x6C, seed), msi(0x50)),
        pcie(0xCC, seed, version=1, size=0x14),
    )
    return Layout(0x14E4, 0x1684, 0x020000, caps, bars=((0, MEM64, 0x10000),), pin=1)


def storage(seed: int) -> Layout:
    """An SSD: no VSC, serial number, AER, DVSEC."""
    caps = (pm(0x40), pcie(0x70, seed), msix(0xB0, 33, 0x3000, 0x2000))
    more = (
        *(ext(AER, 0x100, 0x48, seed, 2), ext(DSN, 0x148, 0xC, seed), ext(SECPCI, 0x168, 0x2C)),
        ext(DVSEC, 0x2A0, 0x38, seed),
    )
    return Layout(0x144D, 0xA824, 0x010802, caps, more, ((0, MEM64, 0x8000),), 4096, rom=0x10000)


def integrated(seed: int) -> Layout:
    """An accelerator in a processor: root complex integrated endpoint, advanced features."""
    caps = (msix(0x80, 9, 0x2000, 0x3000), pcie(0x40, seed, kind=9, size=0x14), pm(0x90))
    more = (ext(AER, 0x100, 0x48, seed), ext(TPH, 0x150, 0xC, seed), ext(VC, 0x180, 0x28, seed))
    bars = ((0, PREFETCH64, 0x10000), (2, PREFETCH64, 0x20000))
    return Layout(0x8086, 0x0B25, 0x088000, caps, more, bars, 4096)


def conventional(seed: int) -> Layout:
    """Conventional PCI, as of an e1000: PM, PCI-X, MSI up to the end of the space."""
    caps = (pm(0xDC), Cap(PCIX, 0xE4, noise(seed, 6)), msi(0xF0))
    return Layout(0x8086, 0x100E, 0x020000, caps, bars=((0, MEM32, 0x20000), (1, IO, 64)), pin=1)


def virtual_function(seed: int) -> Layout:
    """A GPU's VF that has all that matters: PM, MSI, VSC, PCIe, MSI-X."""
    caps = (pm(0x40), msi(0x50), vsc(0x60, 0x13, seed), pcie(0x78, seed), msix(0xB8, 4, 0, 0x2000))
    return Layout(0x10DE, 0x1EB8, 0x030200, caps, bars=((0, MEM32, 0x4000),))


LAYOUTS: Mapping[str, Callable[[int], Layout]] = {
    layout.__name__: layout
    for layout in (
        *(nvidia_vgpu, nvidia_vgpu_sriov, nvidia_t4, nvidia_geforce, nvidia_h20, mlx5_vf, mlx5_pf),
        *(
            intel_iavf,
            intel_82599_vf,
            intel_gpu,
            intel_igd,
            amd_gpu,
            virtio,
            tg3,
            storage,
            integrated,
        ),
        *(conventional, virtual_function),
    )
}

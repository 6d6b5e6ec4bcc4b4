"""Capability layouts of real devices, filled with made-up contents.

Offsets, orders, lengths and gaps are those that public dumps and bug reports show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .kit import (
    ACS,
    AER,
    ARI,
    ATS,
    DLF,
    DSN,
    DVSEC,
    IO,
    L1PM,
    LANES,
    LTR,
    MEM32,
    MEM64,
    PCIX,
    PL16G,
    POWER,
    PREFETCH64,
    SECPCI,
    SRIOV,
    TPH,
    VC,
    VPD,
    VSEC,
    Cap,
    Ext,
    Layout,
    ext,
    msi,
    msix,
    noise,
    pcie,
    pm,
    rebar,
    vsc,
)

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
    product = (0x3EA0, 0x9A49, 0x0A84, 0x1616, 0x0412, 0x4E61)[seed % 6]
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

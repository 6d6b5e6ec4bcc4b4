"""What QEMU adds to the configuration space of particular devices.

Source: QEMU 10.0.2, ``vfio_add_virt_caps`` in ``hw/vfio/pci-quirks.c``,
``vfio_pci_igd_config_quirk`` in ``hw/vfio/igd.c``.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...pci.ids import PCI_CAP_ID_VNDR
from ...pci.space import PCI_CAPABILITY_LIST, PCI_CONFIG_HEADER_SIZE, PCI_CONFIG_SPACE_SIZE, word
from .device import Device
from .properties import flag
from .settings import NO_CLIQUE, gpudirect_clique, igd_gms
from .values import CRASH, ERROR, RefusedError

_INTEL, _NVIDIA, _REALTEK = 0x8086, 0x10DE, 0x10EC
_DISPLAY, _VGA = 0x03, 0x0300
# Those without shadow registers for host addresses in hardware.
_VMD = (0x201D, 0x467F, 0x4C3D, 0x9A0B)


def add_virtual_capabilities(device: Device) -> None:
    """``vfio_add_virt_caps``: before the device's own, so at the end of the list."""
    clique = gpudirect_clique(device.environment.properties)
    if clique != NO_CLIQUE:
        _add_gpudirect(device, clique)
    if word(device.config, 0) == _INTEL and word(device.config, 2) in _VMD:
        _add_vmd_shadow(device)


def _add_gpudirect(device: Device, clique: int) -> None:
    """``vfio_add_nv_gpudirect_cap``: a VSC that NVIDIA's driver reads."""
    complaint = "NVIDIA GPUDirect Clique ID: "
    if word(device.config, 0) != _NVIDIA:
        raise RefusedError(ERROR, complaint + "invalid device vendor")
    if device.config[0x0B] != _DISPLAY:
        raise RefusedError(ERROR, complaint + "unsupported PCI class")
    # From the device: the pointer in QEMU's copy has been cleared for the rebuild.
    offset = device.raw[PCI_CAPABILITY_LIST]
    if not _valid_offset(offset):
        raise RefusedError(ERROR, complaint + "error getting cap list")
    seen = []
    # No guard against a loop: standard_list() has been through this list before.
    while _valid_offset(offset):
        seen.append(offset)
        offset = device.config[offset + 1]
    # NVIDIA recommends C8h. From Turing on MSI-X stands there, and D4h is recommended.
    place = next((at for at in (0xC8, 0xD4) if at not in seen), None)
    if place is None:
        raise RefusedError(ERROR, complaint + "invalid config space")
    device.add_capability(PCI_CAP_ID_VNDR, place, 8)
    # Length 8, signature "P2P"; then version 0 in bits 0 to 2 and the clique in bits 3 to 6.
    device.config[place + 2 : place + 8] = bytes((8, 0x50, 0x32, 0x50, clique << 3 & 0xFF, 0))


def _valid_offset(offset: int) -> bool:
    return PCI_CONFIG_HEADER_SIZE <= offset <= PCI_CONFIG_SPACE_SIZE - 4


def _add_vmd_shadow(device: Device) -> None:
    """``vfio_add_vmd_shadow_cap``: the addresses that the host gave to BAR 2 and 4."""
    # The guest's driver programs bridges inside the VMD, which see host addresses. E8 to FF is
    # reserved in a VMD, behind its power management capability.
    device.add_capability(PCI_CAP_ID_VNDR, 0xE8, 24)
    # Length 24, version 1, signature "SHDW" with its lowest byte first.
    device.config[0xEA:0xF0] = b"\x18\x01WDHS"
    device.config[0xF0:0x100] = device.raw[0x18:0x28]


# --- integrated graphics --------------------------------------------------------------------------
#
# A physical one comes with an OpRegion, a virtual function without. Only the latter can migrate, so
# releases that look for the OpRegion are taken not to find it.

# Generation by the upper byte of the device ID (igd_gen).
_IGD_GENERATIONS = {
    **dict.fromkeys((0x01,), 6),
    **dict.fromkeys((0x04, 0x0A, 0x0C, 0x0D, 0x0F), 7),
    **dict.fromkeys((0x16, 0x22), 8),
    **dict.fromkeys((0x19, 0x31, 0x59, 0x3E, 0x9B), 9),
    **dict.fromkeys((0x8A, 0x45, 0x4E), 11),
    **dict.fromkeys((0x9A, 0x4C, 0x46, 0xA7), 12),
}
_IGD_GMCH, _IGD_BDSM, _IGD_BDSM_GEN11 = 0x50, 0x5C, 0xC0


def emulate_igd(device: Device) -> None:
    """``vfio_pci_igd_config_quirk``: the size of stolen memory read-only, its address writable."""
    environment = device.environment
    generation = _igd_generation(device)
    if environment.mdev or environment.behaviour.igd_needs_opregion or not generation:
        return
    # Firmware in the guest reads the size from GMCH, allocates as much and writes the address to
    # BDSM. The host's address would be of no use to it, so BDSM begins as 0.
    device.put(_IGD_GMCH, _with_gms(_seen_gmch(device), generation, environment.properties), 4)
    device.allow_write(_IGD_GMCH, 0, 4)
    offset, size = (_IGD_BDSM, 4) if generation < 11 else (_IGD_BDSM_GEN11, 8)
    device.put(offset, 0, size)
    device.allow_write(offset, (1 << 8 * size) - 1, size)


def _seen_gmch(device: Device) -> int:
    # By way of vfio_pci_read_config(), which mixes the device's bits with those that QEMU emulates.
    return int.from_bytes(
        bytes(device.seen(at) for at in range(_IGD_GMCH, _IGD_GMCH + 4)), "little"
    )


def _with_gms(gmch: int, generation: int, properties: Mapping[str, str]) -> int:
    """``x-igd-gms``: another size of stolen memory; QEMU ignores one that is too large."""
    gms = igd_gms(properties)
    # The field GMS: bits 3 to 7 of GMCH up to generation 7, 8 to 15 from then on.
    shift, mask, highest = (3, 0x1F, 0x10) if generation < 8 else (8, 0xFF, 0x40)
    return gmch & ~(mask << shift) | gms << shift if 0 < gms <= highest else gmch


def is_intel_vga(config: bytes) -> bool:
    """Whether it may be graphics of an Intel processor, by vendor and class."""
    return word(config, 0) == _INTEL and word(config, 0x0A) == _VGA


def _igd_generation(device: Device) -> int:
    """0 for what is no graphics of Intel's processors, or is not taken for it."""
    vendor, product = word(device.config, 0), word(device.config, 2)
    if vendor != _INTEL or not _is_igd_class(device):
        return 0
    if not device.environment.behaviour.igd_is_emulated_anywhere:
        return 0
    # Broxton first: 0a84 shares its upper byte with Haswell.
    return 9 if product & 0xFFE == 0xA84 else _IGD_GENERATIONS.get(product >> 8, 0)


def _is_igd_class(device: Device) -> bool:
    if device.environment.behaviour.igd_needs_opregion:
        return device.config[0x0B] == _DISPLAY
    return word(device.config, 0x0A) == _VGA


# --- BARs that quirks take for granted ------------------------------------------------------------


def require_bars(device: Device) -> None:
    """``vfio_bar_quirk_setup``: it puts something into a BAR that may not be there."""
    # The quirks put a window into the BAR, whose MemoryRegion is missing if the BAR is.
    number = _quirk_bar(device)
    if number is not None and number not in device.regions:
        raise RefusedError(CRASH, f"a quirk for this device needs BAR {number}, which is absent")


def _quirk_bar(device: Device) -> int | None:
    vendor, product = word(device.config, 0), word(device.config, 2)
    # vfio_probe_nvidia_bar0_quirk(): a mirror of configuration space that must show QEMU's view.
    if vendor == _NVIDIA and word(device.config, 0x0A) == _VGA:
        off = flag(device.environment.properties, "x-no-geforce-quirks", False)
        return None if off else 0
    # vfio_probe_rtl8168_bar2_quirk(): a back door to the MSI-X table.
    if (vendor, product) == (_REALTEK, 0x8168):
        return 2
    return 0 if _igd_generation(device) else None

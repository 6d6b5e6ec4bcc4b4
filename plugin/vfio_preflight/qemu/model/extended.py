"""Extended capabilities: the list is rebuilt without those that a guest cannot use.

Source: QEMU 10.0.2, ``vfio_add_ext_cap`` and ``vfio_setup_rebar_ecap`` in ``hw/vfio/pci.c``.
"""

from __future__ import annotations

from ...pci.ids import (
    PCI_EXT_CAP_ID_ARI,
    PCI_EXT_CAP_ID_ATS,
    PCI_EXT_CAP_ID_REBAR,
    PCI_EXT_CAP_ID_SRIOV,
)
from ...pci.space import PCI_CONFIG_SPACE_SIZE, PCIE_CONFIG_SPACE_SIZE, dword, word
from .device import Device, extended_list
from .settings import ats

# 0 is what the kernel hides. Read-only VF BARs of SR-IOV confuse firmware (OVMF), and ARI would
# need the number of the next function virtualised.
_DROPPED = (0, PCI_EXT_CAP_ID_SRIOV, PCI_EXT_CAP_ID_ARI)
# Bits of PCI_REBAR_CAP for the sizes from 1 MB on, to 512 GB and to 128 TB (PCI_REBAR_CAP_SIZES).
_REBAR_SIZES_TO_512_GB, _REBAR_SIZES = 0x00FFFFF0, 0xFFFFFFF0
_HEAD_IS_FREE = 0xFFFF  # the identifier that stands at 0x100 while nobody has taken the place


def add_extended_capabilities(device: Device) -> None:
    """``vfio_add_ext_cap``."""
    # Configuration cycles of conventional PCI address 256 bytes.
    if device.size < PCIE_CONFIG_SPACE_SIZE or not device.express_bus:
        return
    if not dword(device.config, PCI_CONFIG_SPACE_SIZE):
        return
    # pcie_add_capability() overwrites headers, so QEMU follows the list in a copy.
    original = bytes(device.config)
    # Others are left out by changing the pointer to them; the head has none. ID 0 would be right
    # for a free head, but trips an assertion of pcie_add_capability(), which uses 0 itself.
    device.put(PCI_CONFIG_SPACE_SIZE, _HEAD_IS_FREE, 4)
    device.allow_write(PCI_CONFIG_SPACE_SIZE, 0, 4)
    # The whole list at once: a loop hangs QEMU at the first size (vfio_ext_cap_max_size).
    offsets = list(extended_list(original))
    for offset in offsets:
        header = dword(original, offset)
        cap_id, version = header & 0xFFFF, header >> 16 & 0xF
        if cap_id in _DROPPED or (cap_id == PCI_EXT_CAP_ID_ATS and _hides_ats(device)):
            continue
        if cap_id == PCI_EXT_CAP_ID_REBAR and not _fix_rebar(device, offset):
            continue
        above = (at for at in offsets if at > offset)
        size = min(above, default=PCIE_CONFIG_SPACE_SIZE) - offset
        device.add_extended(cap_id, version, offset, size)
    # Nothing more is added, so the head may have ID 0, which guests take for no capability.
    if word(device.config, PCI_CONFIG_SPACE_SIZE) == _HEAD_IS_FREE:
        device.put(PCI_CONFIG_SPACE_SIZE, 0, 2)


def _hides_ats(device: Device) -> bool:
    """``ats=auto`` hides it too where iommufd says that the host has none: not known here."""
    environment = device.environment
    return environment.behaviour.ats_can_be_hidden and ats(environment.properties) == "off"


def find_extended(device: Device, cap_id: int) -> None:
    """``pcie_find_capability``, which walks the list on every bus; only whether it survives."""
    for offset in device.walk_extended():
        if word(device.config, offset) == cap_id:
            return


def _fix_rebar(device: Device, offset: int) -> bool:
    """Show only the size in force (``vfio_setup_rebar_ecap``); False hides the capability."""
    if not device.environment.behaviour.rebar_is_kept:
        return False
    large = device.environment.behaviour.rebar_may_exceed_512_gb
    # 7.8.6: a device must offer a size in this range. QEMU shows the one in force alone, so that
    # one must be in it.
    sizes = _REBAR_SIZES if large else _REBAR_SIZES_TO_512_GB
    # The number of resizable BARs stands in the first control register alone.
    for entry in range(dword(device.config, offset + 8) >> 5 & 7):
        at = offset + 8 * entry
        control = dword(device.config, at + 8)
        size = control >> 8 & 0x1F
        # Encoding 0 is 1 MB, bit 4; 27 is 128 TB, bit 31. Larger ones are in the control register.
        supported = 1 << size + 4 if size <= 27 else 0
        if not supported & sizes:
            return False
        device.emulate(at + 4, supported, 0xFFFFFFFF, 4)
        # PCI_REBAR_CTRL_BAR_SIZE, _NBAR_MASK, _BAR_IDX; the bits above would offer further sizes.
        device.emulate(at + 8, control & (0x1F00 | 0xE0 | 0x7), 0xFFFFFFFF, 4)
    return True

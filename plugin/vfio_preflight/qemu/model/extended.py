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

_DROPPED = (0, PCI_EXT_CAP_ID_SRIOV, PCI_EXT_CAP_ID_ARI)
# Bits of PCI_REBAR_CAP for the sizes from 1 MB on, to 512 GB and to 128 TB (PCI_REBAR_CAP_SIZES).
_REBAR_SIZES_TO_512_GB, _REBAR_SIZES = 0x00FFFFF0, 0xFFFFFFF0
_HEAD_IS_FREE = 0xFFFF  # the identifier that stands at 0x100 while nobody has taken the place


def add_extended_capabilities(device: Device) -> None:
    """``vfio_add_ext_cap``."""
    if device.size < PCIE_CONFIG_SPACE_SIZE or not device.express_bus:
        return
    if not dword(device.config, PCI_CONFIG_SPACE_SIZE):
        return
    original = bytes(device.config)
    device.put(PCI_CONFIG_SPACE_SIZE, _HEAD_IS_FREE, 4)
    device.allow_write(PCI_CONFIG_SPACE_SIZE, 0, 4)
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
    sizes = _REBAR_SIZES if large else _REBAR_SIZES_TO_512_GB
    for entry in range(dword(device.config, offset + 8) >> 5 & 7):
        at = offset + 8 * entry
        control = dword(device.config, at + 8)
        size = control >> 8 & 0x1F
        supported = 1 << size + 4 if size <= 27 else 0
        if not supported & sizes:
            return False
        device.emulate(at + 4, supported, 0xFFFFFFFF, 4)
        device.emulate(at + 8, control & (0x1F00 | 0xE0 | 0x7), 0xFFFFFFFF, 4)
    return True

"""Standard capabilities: the list is rebuilt from its end, each capability in QEMU's own way.

MSI and MSI-X have modules of their own, ``msi`` and ``msix``.

Source: QEMU 10.0.2, ``vfio_add_std_cap`` and what it calls in ``hw/vfio/pci.c``; ``pci_pm_init`` in
``hw/pci/pci.c``.
"""

from __future__ import annotations

from collections.abc import Callable

from ...pci.ids import (
    PCI_CAP_ID_EXP,
    PCI_CAP_ID_MSI,
    PCI_CAP_ID_MSIX,
    PCI_CAP_ID_PM,
    PCI_CAP_ID_VNDR,
)
from ...pci.space import PCI_CAPABILITY_LIST, PCI_STATUS, PCI_STATUS_CAP_LIST, word
from .bars import MsixRegisters
from .device import Device, standard_list
from .msi import add_msi
from .msix import add_msix
from .quirks import add_virtual_capabilities
from .values import ERROR, RefusedError

# Device/port type of the PCI Express capabilities register (7.5.3.2).
PCI_EXP_TYPE_ENDPOINT = 0x0
PCI_EXP_TYPE_LEG_END = 0x1
PCI_EXP_TYPE_RC_END = 0x9

PCI_PM_CTRL = 4


def add_standard_capabilities(device: Device, msix: MsixRegisters | None) -> bool:
    """``vfio_add_capabilities`` and, unrolled, the recursive ``vfio_add_std_cap``.

    Returns whether the device has a list: without one, QEMU does not look for extended
    capabilities either.
    """
    has_list = device.config[PCI_STATUS] & PCI_STATUS_CAP_LIST
    if not has_list or not device.config[PCI_CAPABILITY_LIST]:
        return False
    listed = standard_list(device.config)
    # Sizes come first: the rebuild below changes the pointers from which they are worked out.
    found = [(at, device.config[at], device.room(at)) for at in listed]
    # pci_add_capability() inserts at the list's head. To end up with the device's own order, QEMU
    # begins with an empty list and adds the last capability first.
    device.config[PCI_CAPABILITY_LIST] = 0
    add_virtual_capabilities(device)
    for offset, cap_id, room in reversed(found):
        # A virtual capability may have been put into what was room of this one.
        size = min(room, device.room(offset))
        # Next pointers are QEMU's: the guest must not be led to a capability that was left out.
        device.emulated[offset + 1] = 0xFF
        try:
            _add(device, cap_id, offset, size, msix)
        except RefusedError as refused:
            raise _prefixed(refused, cap_id, offset, size) from None
    return True


def _add(device: Device, cap_id: int, offset: int, size: int, msix: MsixRegisters | None) -> None:
    # msix_init() writes what early setup has read or moved; the size is fixed.
    if cap_id == PCI_CAP_ID_MSIX:
        add_msix(device, offset, msix)
        return
    add = _ADDERS.get(cap_id)
    if add is not None:
        add(device, offset, size)
    else:
        device.add_capability(cap_id, offset, size)


def _prefixed(refused: RefusedError, cap_id: int, offset: int, size: int) -> RefusedError:
    """An error with what ``vfio_add_std_cap`` puts before it."""
    kind, reason = refused.refusal
    # An abort, crash or hang never returns to where QEMU prepends this.
    if kind != ERROR:
        return refused
    where = f"failed to add PCI capability 0x{cap_id:x}[0x{size:x}]@0x{offset:x}"
    return RefusedError(kind, f"{where}: {reason}")


def _add_pm(device: Device, offset: int, size: int) -> None:
    """``pci_pm_init``."""
    if not device.environment.behaviour.pm_has_eight_bytes:
        device.add_capability(PCI_CAP_ID_PM, offset, size)
        return
    # PCI_PM_SIZEOF: registers of a vendor behind it, up to the next capability, are not compared.
    device.add_capability(PCI_CAP_ID_PM, offset, 8)
    # PCI_PM_CTRL_STATE_MASK: hw/pci tracks the power state, on which the mapping of BARs depends.
    device.allow_write(offset + PCI_PM_CTRL, 0x3, 2)
    device.pm = offset


def _add_vsc(device: Device, offset: int, size: int) -> None:
    """``vfio_add_vendor_specific_cap``: the exemption spares all but the three header bytes."""
    device.add_capability(PCI_CAP_ID_VNDR, offset, size)
    # Up to the next capability by address: QEMU does not look at the VSC's own length byte, so the
    # exemption covers whatever lies unlinked behind it as well.
    if device.environment.skip_vsc_check and size > 3:
        device.cmask[offset + 3 : offset + size] = bytes(size - 3)


def _add_pcie(device: Device, offset: int, size: int) -> None:
    """``vfio_setup_pcie_cap``."""
    flags = word(device.config, offset + 2)
    kind = flags >> 4 & 0xF
    if kind not in (PCI_EXP_TYPE_ENDPOINT, PCI_EXP_TYPE_LEG_END, PCI_EXP_TYPE_RC_END):
        raise RefusedError(
            ERROR, f"assignment of PCIe type 0x{kind:x} devices is not currently supported"
        )
    placement = device.environment.placement
    # On real hardware no express device is on a conventional bus of an express machine, and Windows
    # stops with code 10. On i440fx the capability stays, since drivers such as tg3 expect it.
    if placement == "conventional" and device.environment.express_root:
        return
    # Legacy endpoints do not belong on a root complex; Windows prefers not to see the capability.
    if placement == "root-complex" and kind == PCI_EXP_TYPE_LEG_END:
        return
    if placement == "root-complex" and kind == PCI_EXP_TYPE_ENDPOINT:
        _integrate_endpoint(device, offset, size)
    # An integrated endpoint has no link registers: QEMU makes them up for the endpoint it becomes.
    if placement == "root-port" and kind == PCI_EXP_TYPE_RC_END:
        device.emulate(offset + 0x02, PCI_EXP_TYPE_ENDPOINT << 4, 0xF0, 2)
        device.emulate(offset + 0x0C, 0x11, 0xFFFFFFFF, 4)  # LNKCAP: x1, 2.5 GT/s
        device.emulate(offset + 0x10, 0, 0xFFFF, 2)
    # 82599 VFs report version 0 (erratum 35), which Windows answers with code 10. Without the
    # capability the guest would lose extended space, so QEMU corrects the version.
    if flags & 0xF == 0:
        device.emulate(offset + 0x02, 1, 0xF, 2)
    # Last, as in QEMU: it clears wmask, which emulating a register has set for its other bits.
    device.add_capability(PCI_CAP_ID_EXP, offset, size)


# Link registers of a PCIe capability: (offset, size), by the capability size that holds them.
# LNKCAP, LNKCTL, LNKSTA and LNKCAP2, LNKCTL2, LNKSTA2. A capability of version 1 may end before
# them, which is why QEMU asks for its size.
_LINK = ((0x0C, 4), (0x10, 2), (0x12, 2))
_LINK2 = ((0x2C, 4), (0x30, 2), (0x32, 2))


def _integrate_endpoint(device: Device, offset: int, size: int) -> None:
    """An endpoint on the root complex becomes integrated and loses its link registers."""
    # There is no link between the root complex and what is integrated in it.
    device.emulate(offset + 0x02, PCI_EXP_TYPE_RC_END << 4, 0xF0, 2)
    links = (_LINK if size > 0x10 else ()) + (_LINK2 if size > 0x2C else ())
    for register, width in links:
        device.emulate(offset + register, 0, (1 << 8 * width) - 1, width)


_ADDERS: dict[int, Callable[[Device, int, int], None]] = {
    PCI_CAP_ID_PM: _add_pm,
    PCI_CAP_ID_MSI: add_msi,
    PCI_CAP_ID_VNDR: _add_vsc,
    PCI_CAP_ID_EXP: _add_pcie,
}

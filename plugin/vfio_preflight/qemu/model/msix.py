"""MSI-X, which QEMU emulates whole and looks for before it registers BARs.

Source: QEMU 10.0.2, ``vfio_msix_early_setup``, ``vfio_pci_relocate_msix``, ``vfio_msix_setup`` in
``hw/vfio/pci.c``; ``msix_init`` in ``hw/pci/msix.c``.
"""

from __future__ import annotations

from ...pci.ids import PCI_CAP_ID_MSIX
from ...pci.space import PCI_STATUS, PCI_STATUS_CAP_LIST, word
from .bars import MsixRegisters, Region, parse_msix
from .device import Device, standard_list
from .settings import msix_relocation
from .values import CRASH, ERROR, RefusedError

# qemu_real_host_page_size(); hosts with larger pages move the table farther.
_PAGE = 0x1000
_GIB = 1 << 30


def early_setup(device: Device) -> MsixRegisters | None:
    """Read the first MSI-X capability, and move it as ``x-msix-relocation`` says; BARs may grow."""
    if not device.config[PCI_STATUS] & PCI_STATUS_CAP_LIST:
        return None
    # pci_find_capability() on the device's own list: the rebuilt one does not exist yet.
    walk = standard_list(device.config, wrapped=True)
    offset = next((at for at in walk if device.config[at] == PCI_CAP_ID_MSIX), None)
    if offset is None:
        return None
    relocation = msix_relocation(device.environment.properties)
    return _relocated(device, _placed(device, _read(device, offset), relocation), relocation)


def _read(device: Device, offset: int) -> MsixRegisters:
    for register, size, name in ((2, 2, "FLAGS"), (4, 4, "TABLE"), (8, 4, "PBA")):
        device.read(offset + register, size, f"failed to read PCI MSIX {name}")
    return parse_msix(device.raw, offset)


def _placed(device: Device, msix: MsixRegisters, relocation: str) -> MsixRegisters:
    # 6.8.2: BAR numbers 6 and 7 are reserved.
    beyond = msix.table_bar > 5 or msix.pba_bar > 5
    if beyond and device.environment.behaviour.bir_is_checked:
        bars = f"table_bar={msix.table_bar} pba_bar={msix.pba_bar}"
        raise RefusedError(ERROR, f"invalid MSI-X BIR, {bars}")
    if msix.pba_offset < _size(device, msix.pba_bar):
        return msix
    # A PBA outside its BAR is an erratum that QEMU knows, or is moved anyway, or cannot work.
    fixed = _pba_erratum(device)
    if fixed is not None:
        return msix._replace(pba_offset=fixed)
    if relocation != "off":
        return msix
    raise RefusedError(
        ERROR, "hardware reports invalid configuration, MSIX PBA outside of specified BAR"
    )


def _size(device: Device, number: int) -> int:
    """Before it checked, QEMU took what lies behind its BARs for one, as it happens a huge one."""
    region = device.regions.get(number)
    return 1 << 64 if number > 5 else region.size if region else 0


def _pba_erratum(device: Device) -> int | None:
    """Devices that report a wrong PBA offset, and the right one."""
    vendor, product = word(device.config, 0), word(device.config, 2)
    # It reports 0x8000, in a BAR of 8 KiB.
    if vendor == 0x1425 and product & 0xFF00 == 0x5800:  # Chelsio T5 VF
        return 0x1000
    # It reports 0x460000, in a BAR of 64 KiB.
    if (vendor, product) == (0x1D22, 0x3685):  # Baidu Kunlun VF
        return 0xB400
    return None


def _relocated(device: Device, msix: MsixRegisters, relocation: str) -> MsixRegisters:
    """``vfio_pci_relocate_msix``: to the end of a BAR, which doubles, or to a BAR of its own."""
    if relocation == "off":
        return msix
    # QEMU has no table yet of devices for which a place is known to work.
    if relocation == "auto":
        identity = f"{word(device.config, 0):04x}:{word(device.config, 2):04x}"
        raise RefusedError(ERROR, f"No automatic MSI-X relocation available for device {identity}")
    target = int(relocation[len("bar") :])
    table_size, pba_size = msix.table_end - msix.table_offset, msix.pba_end - msix.pba_offset
    needed = 1 << (max(table_size + pba_size, _PAGE) - 1).bit_length()  # a page, a power of two
    before = device.regions.get(target)
    if before is None:
        device.regions[target] = _new_region(device, target, needed)
        offset = 0
    else:
        _require_extensible(before, target)
        # The device's own registers keep the lower half; the table begins in a page of its own.
        device.regions[target] = before._replace(size=max(before.size, needed) * 2)
        offset = device.regions[target].size // 2 & 0xFFFFFFFF  # QEMU keeps 32 bits of it
    # An entry has 16 bytes, so the PBA behind the table has the alignment to 8 that it needs.
    return MsixRegisters(msix.entries, target, offset, target, offset + table_size)


def _require_extensible(region: Region, target: int) -> None:
    complaint = f"Invalid MSI-X relocation BAR {target}, "
    if region.is_io:
        raise RefusedError(ERROR, complaint + "I/O port BAR")
    # 6.2.5.1: a 32-bit memory BAR has 2 GB at most, so what is above 1 GB cannot double.
    if region.size > _GIB and not region.is_64bit:
        raise RefusedError(ERROR, complaint + "no space to extend 32-bit BAR")


def _new_region(device: Device, target: int, size: int) -> Region:
    """A prefetchable BAR, of 64 bits where the next register is free."""
    lower = device.regions.get(target - 1)
    if lower is not None and lower.is_64bit:
        complaint = f"Invalid MSI-X relocation BAR {target}, "
        raise RefusedError(ERROR, f"{complaint}consumed by 64-bit BAR {target - 1}")
    # Prefetchable, because reading the emulated table has no side effects.
    wide = target < 5 and target + 1 not in device.regions
    return Region(size, 0xC if wide else 0x8)


def add_msix(device: Device, offset: int, msix: MsixRegisters | None) -> None:
    """``msix_init``; a capability that :func:`early_setup` did not see crashes QEMU."""
    if msix is None:
        raise RefusedError(CRASH, "MSI-X capability that the first look did not find")
    _require_room(device, msix)
    # MSIX_CAP_LENGTH; as in msi_init(), the registers are then written anew.
    device.add_capability(PCI_CAP_ID_MSIX, offset, 12)
    # A second capability puts the same table and PBA into their BARs again. Each is then the first
    # of its BAR's list, and is to be inserted before itself; in one BAR the other one is the first.
    if device.msix and msix.table_bar != msix.pba_bar:
        raise RefusedError(CRASH, "a second MSI-X capability, with table and PBA in two BARs")
    device.put(offset + 2, msix.entries - 1, 2)
    device.put(offset + 4, msix.table_offset | msix.table_bar, 4)
    device.put(offset + 8, msix.pba_offset | msix.pba_bar, 4)
    # Enable and function mask, bits 15 and 14 of message control.
    device.wmask[offset + 3] |= 0xC0
    device.msix = offset


def _require_room(device: Device, msix: MsixRegisters) -> None:
    # The test of msix_init(). Alignment needs none: the offsets have lost their low three bits.
    complaint = "table & pba overlap, or they don't fit in BARs, or don't align"
    overlap = msix.table_offset < msix.pba_end and msix.pba_offset < msix.table_end
    if msix.table_bar == msix.pba_bar and overlap:
        raise RefusedError(ERROR, complaint)
    for number, end in ((msix.table_bar, msix.table_end), (msix.pba_bar, msix.pba_end)):
        region = device.regions.get(number)
        # No MemoryRegion was made for it, and msix_init() asks a null pointer for its size.
        if region is None:
            raise RefusedError(CRASH, f"MSI-X table or PBA in BAR {number}, which is absent")
        if end & 0xFFFFFFFF > region.size:  # QEMU adds in 32 bits
            raise RefusedError(ERROR, complaint)

"""MSI: its registers are masked when the capability is added, and cleared when the machine resets.

QEMU keeps the offsets of the registers in 8 bits. Those of a capability so near the end of the 256
bytes that it reaches over are therefore looked for at the start of the header.

Source: QEMU 10.0.2, ``vfio_msi_setup`` in ``hw/vfio/pci.c``; ``msi_init``, ``msi_reset`` and
``msi_flags_off`` to ``msi_pending_off`` in ``hw/pci/msi.c``.
"""

from __future__ import annotations

from ...osutil.light import NamedTuple
from ...pci.ids import PCI_CAP_ID_MSI
from ...pci.space import word
from .device import Device
from .values import ABORT, ERROR, RefusedError

PCI_MSI_FLAGS = 2
PCI_MSI_FLAGS_64BIT, PCI_MSI_FLAGS_MASKBIT = 0x80, 0x100
# What the guest writes: whether MSI is on, and how many vectors it uses.
# They are in wmask, which takes them out of the comparison.
PCI_MSI_FLAGS_ENABLE, PCI_MSI_FLAGS_QSIZE = 0x01, 0x70
_WRITABLE = PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE


class _Registers(NamedTuple):
    """Offsets of the registers of a capability; ``address_hi`` is there with 64 bits only."""

    flags: int
    address_lo: int
    address_hi: int
    data: int
    mask: int
    pending: int


def _registers(offset: int, is_64bit: int) -> _Registers:
    data = 0xC if is_64bit else 0x8
    # 6.8.1: with a 64-bit address all that follows it stands 4 bytes higher.
    places = (PCI_MSI_FLAGS, 4, 8, data, data + 4, data + 8)
    return _Registers(*(offset + place & 0xFF for place in places))


def add_msi(device: Device, offset: int, _size: int) -> None:
    """``vfio_msi_setup`` and ``msi_init``."""
    # vfio_msi_setup() reads the device and not its copy, which fails beyond the end of the space.
    control = device.read(offset + PCI_MSI_FLAGS, 2, "failed reading MSI PCI_CAP_FLAGS")
    is_64bit, maskable = control & PCI_MSI_FLAGS_64BIT, control & PCI_MSI_FLAGS_MASKBIT
    order = control >> 1 & 7
    # 6.8.1.3: 110b and 111b are reserved; msi_init() asserts PCI_MSI_VECTORS_MAX.
    if order > 5:
        raise RefusedError(ABORT, f"MSI at {offset:#x} claims {1 << order} vectors, 32 at most")
    # msi_cap_sizeof(): 0x0a or 0x0e, with per-vector masking 0x14 or 0x18.
    size = (0xC if is_64bit else 0x8) + (12 if maskable else 2)
    try:
        device.add_capability(PCI_CAP_ID_MSI, offset, size)
    except RefusedError as refused:
        raise RefusedError(ERROR, f"msi_init failed: {refused}") from None
    at = _registers(offset, is_64bit)
    # Written anew: what the device had in enable, and in bits that QEMU does not know, is gone.
    device.put(at.flags, order << 1 | is_64bit | maskable, 2)
    device.allow_write(at.flags, _WRITABLE, 2)
    # 6.8.1.4: a message's address is aligned to a dword.
    device.allow_write(at.address_lo, 0xFFFFFFFC, 4)
    if is_64bit:
        device.allow_write(at.address_hi, 0xFFFFFFFF, 4)
    device.allow_write(at.data, 0xFFFF, 2)
    if maskable:
        # Mask bits of vectors that the device lacks, and all pending bits, stay read-only:
        # compared.
        device.allow_write(at.mask, 0xFFFFFFFF >> 32 - (1 << order), 4)
    device.msi = offset


def reset_msi(device: Device) -> None:
    """``msi_reset``."""
    offset = device.msi
    # From the copy as it is now: where registers wrapped into the header, it is no longer what
    # msi_init() has written.
    flags = word(device.config, offset + PCI_MSI_FLAGS & 0xFF) & ~_WRITABLE
    is_64bit = flags & PCI_MSI_FLAGS_64BIT
    at = _registers(offset, is_64bit)
    device.put(at.flags, flags, 2)
    device.put(at.address_lo, 0, 4)
    if is_64bit:
        device.put(at.address_hi, 0, 4)
    device.put(at.data, 0, 2)
    if flags & PCI_MSI_FLAGS_MASKBIT:
        device.put(at.mask, 0, 4)
        device.put(at.pending, 0, 4)

"""The header of a VFIO device's configuration space: identifiers, BARs and the expansion ROM.

Source: QEMU 10.0.2, ``vfio_realize``, ``vfio_pci_size_rom``, ``vfio_bar_register`` in
``hw/vfio/pci.c``; ``pci_init_cmask``, ``pci_register_bar``, ``pci_add_option_rom`` in
``hw/pci/pci.c``.
"""

from __future__ import annotations

from ...pci.space import (
    PCI_CAPABILITY_LIST,
    PCI_CONFIG_HEADER_SIZE,
    PCI_STATUS,
    PCI_STATUS_CAP_LIST,
    word,
)
from .bars import ROM_BAR
from .device import Device
from .properties import flag, number
from .settings import UNSET, rombar
from .values import ABORT, ERROR, RefusedError

# Subsystem IDs are not among them (pci_init_cmask).
_HEADER_CMASK = (
    *((offset, 0xFF) for offset in (0, 1, 2, 3)),  # vendor, device
    (PCI_STATUS, PCI_STATUS_CAP_LIST),
    *((offset, 0xFF) for offset in (8, 9, 10, 11)),  # revision, class
    (0x0E, 0xFF),  # header type
    (PCI_CAPABILITY_LIST, 0xFF),
)
# Command: I/O, memory, bus master; SERR#, INTx disable. Then cache line size and interrupt line.
_HEADER_WMASK = ((0x04, 0x07), (0x05, 0x05), (0x0C, 0xFF), (0x3C, 0xFF))


def init_masks(device: Device) -> None:
    """``pci_init_cmask``, ``pci_init_wmask``, ``pci_init_w1cmask`` of a device without bridge."""
    for offset, mask in _HEADER_CMASK:
        device.cmask[offset] = mask
    for offset, mask in _HEADER_WMASK:
        device.wmask[offset] = mask
    # 6.2.3: errors and aborts, which software clears by writing 1.
    device.w1cmask[PCI_STATUS + 1] = 0xF9
    rest = device.size - PCI_CONFIG_HEADER_SIZE
    # Writable until a capability claims it: bytes that none covers are never compared.
    device.wmask[PCI_CONFIG_HEADER_SIZE : device.size] = b"\xff" * rest


# Property, offset and size in bytes of the register, lowest value that is refused, its name there.
# 6.2.1: 0xffff is an invalid vendor ID, so the limit there is lower than what fits.
_IDENTIFIERS = (
    ("x-pci-vendor-id", 0x00, 2, 0xFFFF, "vendor ID"),
    ("x-pci-device-id", 0x02, 2, 0x10000, "device ID"),
    ("x-pci-sub-vendor-id", 0x2C, 2, 0x10000, "subsystem vendor ID"),
    ("x-pci-sub-device-id", 0x2E, 2, 0x10000, "subsystem device ID"),
    ("x-pci-class-code", 0x09, 3, 0x1000000, "class code"),
)


def override_identifiers(device: Device) -> None:
    """What properties replace, and the multifunction bit, which is QEMU's own."""
    properties = device.environment.properties
    for name, offset, size, limit, what in _IDENTIFIERS:
        value = number(properties, name, UNSET)
        if value == UNSET:
            continue
        if value >= limit:
            raise RefusedError(ERROR, f"invalid PCI {what} provided")
        # Before anything else looks at them: quirks go by the identity that the guest sees.
        device.emulate(offset, value, (1 << 8 * size) - 1, size)
        if what == "class code" and device.environment.behaviour.class_code_frees_revision:
            device.wmask[0x08] = 0xFF
    device.config[0x0E] &= 0x7F
    if flag(properties, "multifunction", False):
        device.config[0x0E] |= 0x80


def clear_bars(device: Device) -> None:
    """Addresses of the host's are not the guest's."""
    # A BAR that QEMU does not register, such as the ROM's, would keep its address, unwritable.
    device.config[0x10:0x28] = bytes(24)
    device.config[0x30:0x34] = bytes(4)


# Devices whose ROM is left out unless rombar=1 or a file asks for it (vfio_opt_rom_in_denylist).
# BCM 57810: guests hang while its ROM is executed.
_ROM_DENYLIST = ((0x14E4, 0x168E),)
_ROM_FILE_SIZE = 0x10000  # of the operator's file; it decides no bit that is compared
_ROM_ENABLE = 1
_ROM_REGISTER = 0x30


def register_rom(device: Device) -> None:
    """``vfio_pci_size_rom``, and ``pci_add_option_rom`` where the operator gave a ROM file.

    An empty ``romfile`` means that there is to be no ROM.
    """
    properties = device.environment.properties
    wanted = rombar(properties)
    size = device.rom_size
    if "romfile" in properties:
        size = _ROM_FILE_SIZE if properties["romfile"] else 0
    elif (word(device.config, 0), word(device.config, 2)) in _ROM_DENYLIST and wanted <= 0:
        size = 0
    if size and wanted:
        _require_possible(device, ROM_BAR, size)
        # 6.2.5.2: bit 0 enables the ROM; it is no type bit, unlike in the other BARs.
        _register(device, _ROM_REGISTER, 4, 0, -size | _ROM_ENABLE)


def register_bars(device: Device) -> None:
    """``vfio_bars_register``: each BAR that has a size."""
    for index, region in sorted(device.regions.items()):
        _require_possible(device, index, region.size)
        size = 8 if region.is_64bit else 4
        _register(device, 0x10 + 4 * index, size, region.type, -region.size)


def _require_possible(device: Device, index: int, size: int) -> None:
    # Assertions of pci_register_bar(). A header of type 1 has bus numbers where BAR 2 would be.
    if size & size - 1:
        raise RefusedError(ABORT, f"BAR {index} has {size} bytes, not a power of two")
    if device.config[0x0E] & 0x7F == 1 and index >= 2:
        raise RefusedError(ABORT, f"BAR {index} in a header of type 1, which has two")


def _register(device: Device, offset: int, size: int, kind: int, writable: int) -> None:
    """``pci_register_bar``."""
    # 4 bytes for a 64-bit BAR too: its upper half has been cleared.
    device.put(offset, kind, 4)
    device.bar_registers.append((offset, kind, size))
    # Address bits below the size are hardwired to 0 (6.2.5.1), so they are compared with the type.
    device.allow_write(offset, writable & (1 << 8 * size) - 1, size)
    device.cmask[offset : offset + size] = b"\xff" * size

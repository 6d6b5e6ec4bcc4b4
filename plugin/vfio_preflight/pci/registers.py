"""Names for the bytes of configuration space: "LNKSTA of PCIe at 0x78" instead of "0x8a".

Register names are those of ``linux/pci_regs.h`` and ``setpci --dumpregs``. Sources: PCI Local Bus
3.0, 6.1 and 6.8; PCI Power Management 1.2, 3.2; PCI Express Base 5.0, 7.5 to 7.9.
"""

from __future__ import annotations

from ..osutil.light import NamedTuple
from .ids import PCI_CAP_ID_VNDR
from .space import (
    PCI_CONFIG_HEADER_SIZE,
    PCI_CONFIG_SPACE_SIZE,
    Capability,
    capabilities,
    extended_capabilities,
)

# A table row: offset inside the structure, size in bytes, name.
Register = tuple[int, int, str]

# The layout of header type 0: the kernel's vfio-pci binds no bridge.
HEADER: tuple[Register, ...] = (
    (0x00, 2, "Vendor ID"),
    (0x02, 2, "Device ID"),
    (0x04, 2, "Command"),
    (0x06, 2, "Status"),
    (0x08, 1, "Revision ID"),
    (0x09, 3, "Class code"),
    (0x0C, 1, "Cache line size"),
    (0x0D, 1, "Latency timer"),
    (0x0E, 1, "Header type"),
    (0x0F, 1, "BIST"),
    (0x10, 4, "BAR0"),
    (0x14, 4, "BAR1"),
    (0x18, 4, "BAR2"),
    (0x1C, 4, "BAR3"),
    (0x20, 4, "BAR4"),
    (0x24, 4, "BAR5"),
    (0x28, 4, "CardBus CIS"),
    (0x2C, 2, "Subsystem vendor ID"),
    (0x2E, 2, "Subsystem ID"),
    (0x30, 4, "Expansion ROM"),
    (0x34, 1, "Capabilities pointer"),
    (0x35, 7, "Reserved"),
    (0x3C, 1, "Interrupt line"),
    (0x3D, 1, "Interrupt pin"),
    (0x3E, 1, "Min_Gnt"),
    (0x3F, 1, "Max_Lat"),
)

# The two bytes every standard capability starts with.
LIST_HEADER: tuple[Register, ...] = ((0, 1, "Capability ID"), (1, 1, "Next pointer"))

STANDARD: dict[int, tuple[Register, ...]] = {
    0x01: ((2, 2, "PMC"), (4, 2, "PMCSR"), (6, 1, "PMCSR_BSE"), (7, 1, "Data")),
    0x03: ((2, 2, "VPD address"), (4, 4, "VPD data")),
    # The length byte belongs to the header, which stays compared under skip-vsc-check.
    0x09: ((2, 1, "Length"),),
    # Slot and root registers too: where an endpoint has the space, QEMU compares it.
    0x10: (
        (0x02, 2, "PCIe capabilities"),
        (0x04, 4, "DEVCAP"),
        (0x08, 2, "DEVCTL"),
        (0x0A, 2, "DEVSTA"),
        (0x0C, 4, "LNKCAP"),
        (0x10, 2, "LNKCTL"),
        (0x12, 2, "LNKSTA"),
        (0x14, 4, "SLTCAP"),
        (0x18, 2, "SLTCTL"),
        (0x1A, 2, "SLTSTA"),
        (0x1C, 2, "RTCTL"),
        (0x1E, 2, "RTCAP"),
        (0x20, 4, "RTSTA"),
        (0x24, 4, "DEVCAP2"),
        (0x28, 2, "DEVCTL2"),
        (0x2A, 2, "DEVSTA2"),
        (0x2C, 4, "LNKCAP2"),
        (0x30, 2, "LNKCTL2"),
        (0x32, 2, "LNKSTA2"),
        (0x34, 4, "SLTCAP2"),
        (0x38, 2, "SLTCTL2"),
        (0x3A, 2, "SLTSTA2"),
    ),
    # The vector count of mlx5 VFs is set per host, and nothing exempts it.
    0x11: ((2, 2, "Message control"), (4, 4, "Table offset/BIR"), (8, 4, "PBA offset/BIR")),
    0x13: ((2, 1, "Length"), (3, 1, "AF capabilities"), (4, 1, "AF control"), (5, 1, "AF status")),
}

EXTENDED_HEADER: tuple[Register, ...] = ((0, 4, "Extended capability header"),)

EXTENDED: dict[int, tuple[Register, ...]] = {
    # 7.8.4: 2C to 37 is implemented by root ports and event collectors alone.
    0x0001: (
        (0x04, 4, "Uncorrectable error status"),
        (0x08, 4, "Uncorrectable error mask"),
        (0x0C, 4, "Uncorrectable error severity"),
        (0x10, 4, "Correctable error status"),
        (0x14, 4, "Correctable error mask"),
        (0x18, 4, "AER capabilities and control"),
        (0x1C, 16, "Header log"),
        (0x2C, 4, "Root error command"),
        (0x30, 4, "Root error status"),
        (0x34, 4, "Error source ID"),
        (0x38, 16, "TLP prefix log"),
    ),
    # 7.9.3: differs between any two cards.
    0x0003: ((0x04, 8, "Serial number"),),
    0x0004: ((0x04, 1, "Data select"), (0x08, 4, "Data"), (0x0C, 1, "Capability")),
    0x000B: ((0x04, 4, "VSEC header"),),
    0x000F: ((0x04, 2, "ATS capability"), (0x06, 2, "ATS control")),
    # 7.8.6: a pair of registers for each resizable BAR, of which there are six at most.
    0x0015: tuple(
        row
        for n in range(6)
        for row in (
            (0x04 + 8 * n, 4, f"ReBAR capability {n}"),
            (0x08 + 8 * n, 4, f"ReBAR control {n}"),
        )
    ),
    0x0019: ((0x04, 4, "LNKCTL3"), (0x08, 4, "Lane error status")),
    0x001B: ((0x04, 2, "PASID capability"), (0x06, 2, "PASID control")),
    0x001E: (
        (0x04, 4, "L1SS capabilities"),
        (0x08, 4, "L1SS control 1"),
        (0x0C, 4, "L1SS control 2"),
    ),
    0x0023: ((0x04, 4, "DVSEC header 1"), (0x08, 2, "DVSEC ID")),
}

# What follows the registers named above, where it has a name of its own.
BODY = {
    (False, PCI_CAP_ID_VNDR): "Vendor Specific Information",
    (True, 0x0B): "Vendor-specific registers",
    (True, 0x23): "Designated vendor-specific registers",
    (True, 0x19): "Lane equalisation control",
}

# Fields of registers whose difference between two hosts is met in practice:
# (extended, capability ID, register) -> (mask, name).
FIELDS: dict[tuple[bool, int, str], tuple[tuple[int, str], ...]] = {
    # PM 1.2, 3.2.3.
    (False, 0x01, "PMC"): (
        (0x0007, "version"),
        (0x0008, "PME clock"),
        (0x0020, "device-specific initialisation"),
        (0x01C0, "auxiliary current"),
        (0x0200, "D1 support"),
        (0x0400, "D2 support"),
        (0xF800, "PME support"),
    ),
    (False, 0x01, "PMCSR"): (
        (0x0003, "power state"),
        (0x0008, "no soft reset"),
        (0x0100, "PME enable"),
        (0x8000, "PME status"),
    ),
    # Enable and multiple message enable are writable in QEMU's copy (msi_init), so never compared.
    (False, 0x05, "Message control"): (
        (0x000E, "vectors the device can use"),
        (0x0080, "64-bit address"),
        (0x0100, "per-vector masking"),
    ),
    # Enable and function mask are writable in QEMU's copy (msix_init), so never compared.
    (False, 0x11, "Message control"): ((0x07FF, "table size"),),
    (False, 0x10, "PCIe capabilities"): (
        (0x000F, "version"),
        (0x00F0, "device type"),
        (0x3E00, "interrupt message number"),
    ),
    (False, 0x10, "DEVCAP"): (
        (0x00000007, "max payload supported"),
        (0x00000020, "extended tags"),
        (0x000001C0, "L0s latency"),
        (0x00000E00, "L1 latency"),
        (0x03FC0000, "slot power limit value"),
        (0x0C000000, "slot power limit scale"),
        (0x10000000, "function level reset"),
    ),
    # The guest's writes go to the device. QEMU's copy keeps what realise found there, read-only,
    # since pci_add_capability() clears wmask: what the host's driver had set is compared.
    (False, 0x10, "DEVCTL"): (
        (0x000F, "error reporting enables"),
        (0x0010, "relaxed ordering"),
        (0x00E0, "max payload size"),
        (0x0100, "extended tags"),
        (0x0800, "no snoop"),
        (0x7000, "max read request size"),
    ),
    (False, 0x10, "DEVSTA"): (
        (0x000F, "errors detected"),
        (0x0010, "auxiliary power"),
        (0x0020, "transactions pending"),
    ),
    # vfio_setup_pcie_cap() zeroes an endpoint's link registers on the root complex: differences in
    # them count behind a root port alone.
    (False, 0x10, "LNKCAP"): (
        (0x0000000F, "max link speed"),
        (0x000003F0, "max link width"),
        (0x00000C00, "ASPM support"),
        (0x00007000, "L0s exit latency"),
        (0x00038000, "L1 exit latency"),
        (0xFF000000, "port number"),
    ),
    (False, 0x10, "LNKCTL"): ((0x0003, "ASPM control"), (0x0040, "common clock")),
    (False, 0x10, "LNKSTA"): (
        (0x000F, "current link speed"),
        (0x03F0, "negotiated link width"),
        (0x1000, "slot clock"),
        (0x4000, "bandwidth management status"),
        (0x8000, "autonomous bandwidth status"),
    ),
    (False, 0x10, "DEVCTL2"): ((0x000F, "completion time-out"), (0x0400, "LTR enable")),
    (False, 0x10, "LNKCTL2"): ((0x000F, "target link speed"),),
    (False, 0x10, "LNKSTA2"): ((0x0001, "de-emphasis"), (0x003E, "equalisation status")),
    # -1 stands for the header. cmask has one bit of Status (pci_init_cmask).
    (False, -1, "Status"): ((0x0010, "capability list"),),
    (False, -1, "Header type"): ((0x7F, "layout"), (0x80, "multi-function")),
}


class Place(NamedTuple):
    """What stands at an offset.

    ``capability`` is None in the header and where no capability reaches. ``start`` and ``size``
    bound the register in configuration space, in bytes.
    """

    capability: Capability | None
    register: str
    start: int
    size: int

    @property
    def where(self) -> str:
        """``VSC at 0x60`` or ``header``: where the register lives, for messages."""
        if self.capability is None:
            return "header" if self.start < PCI_CONFIG_HEADER_SIZE else "no capability"
        return f"{self.capability.name} at {self.capability.offset:#04x}"

    def fields(self, difference: int) -> tuple[str, ...]:
        """Names of the register's fields that the set bits of ``difference`` touch."""
        extended = self.capability is not None and self.capability.extended
        owner = -1 if self.capability is None else self.capability.id
        table = FIELDS.get((extended, owner, self.register), ())
        return tuple(name for mask, name in table if mask & difference)


def locate(config: bytes, offset: int) -> Place:
    """Name the register at ``offset`` (0-0xfff) of a device that presents ``config``."""
    if offset < PCI_CONFIG_HEADER_SIZE:
        return _place(None, HEADER, 0, offset, "Reserved")
    read = capabilities if offset < PCI_CONFIG_SPACE_SIZE else extended_capabilities
    listed = read(config)
    # Each runs to the next by address, so none holds bytes only below the first, or without a list.
    owner = next((c for c in listed if c.offset <= offset < c.offset + c.size), None)
    if owner is None:
        return Place(None, "bytes outside any capability", offset, 1)
    body = BODY.get((owner.extended, owner.id), "capability data")
    return _place(owner, _registers(config, owner), owner.offset, offset, body)


def _registers(config: bytes, capability: Capability) -> tuple[Register, ...]:
    if capability.extended:
        return EXTENDED_HEADER + EXTENDED.get(capability.id, ())
    if capability.id == 0x05:
        return LIST_HEADER + _msi_registers(config[capability.offset + 2])
    return LIST_HEADER + STANDARD.get(capability.id, ())


def _msi_registers(control: int) -> tuple[Register, ...]:
    """MSI's layout follows from its own control register (PCI 3.0, 6.8.1)."""
    data = 0xC if control & 0x80 else 0x8
    upper = ((8, 4, "Message upper address"),) if control & 0x80 else ()
    rows = ((2, 2, "Message control"), (4, 4, "Message address"), *upper, (data, 2, "Message data"))
    # Without per-vector masking (bit 8) the capability ends before these: QEMU compares neither.
    return (*rows, (data + 4, 4, "Mask bits"), (data + 8, 4, "Pending bits"))


def _place(
    owner: Capability | None, rows: tuple[Register, ...], base: int, offset: int, otherwise: str
) -> Place:
    for start, size, name in rows:
        if start <= offset - base < start + size:
            return Place(owner, name, base + start, size)
    return Place(owner, otherwise, offset, 1)

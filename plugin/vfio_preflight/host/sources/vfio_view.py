"""What vfio-pci shows of a configuration space, derived from the bytes that sysfs shows.

The kernel's VFIO core takes capabilities it does not know out of both lists, by rewriting the
pointer that leads to them; their bytes stay where they are. ``vfio-pci`` and the vendor drivers
on the same core (mlx5, pds, qat, …) all do it.

    >>> capabilities(physical), capabilities(vfio_view(physical))     # offsets of the lists
    [0x60, 0x68, 0x78], [0x60, 0x78]                                  # id 00 at 0x68 is hidden

Of the power management capability it clears what has to do with PME, which no guest could handle;
and opening the device puts it into D0, from D3hot, in which the driver leaves it.

Source: Linux ``drivers/vfio/pci/vfio_pci_config.c``: ``pci_cap_length``, ``pci_ext_cap_length``,
``vfio_cap_init``, ``vfio_ecap_init``, ``vfio_config_init``, ``vfio_direct_config_read``,
``vfio_update_pm_vconfig_bytes``; ``vfio_pci_core_enable`` in ``vfio_pci_core.c``. As of Linux 6.4;
before, DVSEC was hidden too, and before 5.19 the PME bits were the device's.
"""

from __future__ import annotations

from ...pci.space import (
    PCI_CAPABILITY_LIST,
    PCI_CONFIG_HEADER_SIZE,
    PCI_CONFIG_SPACE_SIZE,
    PCI_STATUS,
    PCI_STATUS_CAP_LIST,
    PCIE_CONFIG_SPACE_SIZE,
    dword,
    word,
)

PCI_INTERRUPT_PIN = 0x3D
PCI_CAP_ID_PM = 0x01
PCI_CAP_ID_PCIX = 0x07
PCI_CAP_ID_VNDR = 0x09
PCI_CAP_ID_EXP = 0x10
PCI_X_CMD_VERSION = 0x3000
# Of the upper byte of PMC and of PMCSR.
PCI_PM_CAP_PME_MASK = 0xF800 >> 8
PCI_PM_CTRL_PME = 0x8100 >> 8  # PME_Status, PME_En
PCI_PM_CTRL_STATE_MASK = 0x03
PCI_EXT_CAP_ID_VNDR = 0x0B
PCI_EXT_CAP_ID_DVSEC = 0x23

# Capabilities that VFIO shows and their length in bytes, or its minimum where it varies: it only
# affects where the next one of the same id would begin. Capabilities not listed here are hidden.
SHOWN = {
    0x01: 8,  # PM
    0x02: 12,  # AGP
    0x03: 8,  # VPD
    0x05: 10,  # MSI
    0x07: 8,  # PCI-X
    0x08: 8,  # HyperTransport
    0x09: 0,  # VSC: its third byte is its length
    0x10: 12,  # PCIe
    0x11: 12,  # MSI-X
    0x12: 8,  # SATA
    0x13: 6,  # AF
}
EXTENDED_SHOWN = {
    0x01: 44,  # AER
    0x02: 16,  # VC
    0x03: 12,  # DSN
    0x04: 16,  # power budgeting
    0x08: 16,  # MFVC
    0x09: 16,  # VC in the presence of MFVC
    0x0B: 0,  # VSEC: its header has its length
    0x0D: 8,  # ACS
    0x0E: 8,  # ARI
    0x0F: 8,  # ATS
    0x10: 64,  # SR-IOV
    0x12: 40,  # multicast
    0x13: 16,  # PRI
    0x15: 12,  # ReBAR
    0x16: 16,  # DPA
    0x17: 12,  # TPH
    0x18: 8,  # LTR
    0x23: 0,  # DVSEC: its header has its length
}
_NEXT = 0xFFC << 20
# How often the kernel follows a list: once for each capability that has room.
_MOST = (PCI_CONFIG_SPACE_SIZE - PCI_CONFIG_HEADER_SIZE) // 4
_MOST_EXTENDED = (PCIE_CONFIG_SPACE_SIZE - PCI_CONFIG_SPACE_SIZE) // 4


def vfio_view(config: bytes, virtual_function: bool = False) -> bytes:
    """Return ``config`` (256 or 4096 bytes) with capabilities hidden as the kernel hides them.

    A virtual function has no interrupt pin (SR-IOV 1.1, 3.4.1.18). IDs and BARs, which need facts
    from outside of ``config``, are the caller's.
    """
    view = bytearray(config)
    if virtual_function:
        view[PCI_INTERRUPT_PIN] = 0
    if _hide(config, view) and len(config) > PCI_CONFIG_SPACE_SIZE:
        _hide_extended(config, view)
    return bytes(view)


def _hide(config: bytes, view: bytearray) -> bool:
    """Hide standard capabilities; return whether the kernel looks for extended ones."""
    # vfio_cap_init() returns here without having seen PCIe, so vfio_ecap_init() does nothing.
    if not config[PCI_STATUS] & PCI_STATUS_CAP_LIST:
        return False
    extended = False
    head = position = config[PCI_CAPABILITY_LIST]
    nexts: dict[int, int] = {}
    owners = bytearray(PCI_CONFIG_SPACE_SIZE)
    last = None
    for _ in range(_MOST):
        if not 0 < position < PCI_CONFIG_SPACE_SIZE - 2:
            break
        identifier, following = config[position], config[position + 1]
        length = _length(config, position)
        if length:
            owners[position : position + length] = bytes([identifier]) * length
            # A later capability takes over bytes, as vfio_cap_init() does, which only warns of
            # overlaps.
            del owners[PCI_CONFIG_SPACE_SIZE:]
            nexts[position] = following
            last = position
            extended = extended or _leads_on(config, position)
        elif last is None:
            head = following
        else:
            # The last shown capability is made to point past hidden ones, one after the other.
            nexts[last] = following
        position = following
    view[PCI_CAPABILITY_LIST] = head
    # The list is empty: VFIO then clears the status bit (vfio_cap_init).
    if not nexts:
        view[PCI_STATUS] &= ~PCI_STATUS_CAP_LIST
    for position, following in nexts.items():
        # The pointer is virtualised only where reads are attributed to this capability.
        if _starts(owners, position, PCI_CONFIG_HEADER_SIZE) and owners[position + 1]:
            view[position + 1] = following
            if config[position] == PCI_CAP_ID_PM:
                _wake(view, owners, position)
    return extended


# Offset and bits: PME support, the power state, PME_Status and PME_En.
_CLEARED = ((3, PCI_PM_CAP_PME_MASK), (4, PCI_PM_CTRL_STATE_MASK), (5, PCI_PM_CTRL_PME))


def _wake(view: bytearray, owners: bytearray, position: int) -> None:
    """``vfio_update_pm_vconfig_bytes``, and D0; what a later capability has taken is not PM's."""
    for offset, bits in ((position + at, bits) for at, bits in _CLEARED):
        if offset < PCI_CONFIG_SPACE_SIZE and owners[offset] == PCI_CAP_ID_PM:
            view[offset] &= ~bits


def _length(config: bytes, position: int) -> int:
    """``vfio_cap_len``: 0 for what is hidden, a VSC that says it has no length included."""
    if config[position] == PCI_CAP_ID_VNDR:
        return config[position + 2]
    return SHOWN.get(config[position], 0)


def _leads_on(config: bytes, position: int) -> bool:
    """Whether the capability makes the kernel look for extended ones, and something is there."""
    identifier = config[position]
    if identifier == PCI_CAP_ID_PCIX and not word(config, position + 2) & PCI_X_CMD_VERSION:
        return False
    if identifier not in (PCI_CAP_ID_EXP, PCI_CAP_ID_PCIX) or len(config) <= PCI_CONFIG_SPACE_SIZE:
        return False
    return dword(config, PCI_CONFIG_SPACE_SIZE) != 0


def _hide_extended(config: bytes, view: bytearray) -> None:
    headers: dict[int, int] = {}
    owners = bytearray(PCIE_CONFIG_SPACE_SIZE)
    position, last, shown = PCI_CONFIG_SPACE_SIZE, None, False
    for _ in range(_MOST_EXTENDED):
        if position < PCI_CONFIG_SPACE_SIZE:
            break
        header = dword(config, position)
        length = _extended_length(config, position, header & 0xFFFF)
        following = header >> 20 & 0xFFC
        # A hidden one is left out by moving its next pointer into the last shown header.
        if not length and last is not None:
            headers[last] = headers[last] & ~_NEXT | following << 20
            position = following
            continue
        # Hidden at the head of the list, a header stays as an anchor that has no ID.
        headers[position] = header if length else header & _NEXT
        shown = shown or length > 0
        length = min(length or 4, PCIE_CONFIG_SPACE_SIZE - position)
        owners[position : position + length] = bytes([header & 0xFF]) * length
        last, position = position, following
    # With nothing shown, the header at 0x100 reads 0: no extended capabilities.
    if not shown:
        headers[PCI_CONFIG_SPACE_SIZE] = 0
    for position, header in headers.items():
        if _starts(owners, position, PCI_CONFIG_SPACE_SIZE):
            view[position : position + 4] = header.to_bytes(4, "little")


def _extended_length(config: bytes, position: int, identifier: int) -> int:
    """``vfio_ext_cap_len``: 0 for what is hidden, and for a VSEC or DVSEC without a length."""
    if identifier in (PCI_EXT_CAP_ID_VNDR, PCI_EXT_CAP_ID_DVSEC):
        return dword(config, position + 4) >> 20
    return EXTENDED_SHOWN.get(identifier, 0)


def _starts(owners: bytearray, position: int, base: int) -> bool:
    """``vfio_find_cap_start``: is this where the kernel takes the capability to begin?

    It goes back for as long as bytes belong to a capability of the same id. The second of two that
    abut is therefore shown as it is, whatever its pointer leads to; so is one of id 0.
    """
    owner = owners[position]
    return owner != 0 and (position == base or owners[position - 1] != owner)

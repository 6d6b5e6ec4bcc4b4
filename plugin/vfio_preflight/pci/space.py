"""PCI configuration space: its header and its two capability lists.

    >>> for cap in capabilities(config):
    ...     print(f"{cap.offset:#x} {cap.name}")
    0x60 VSC
    0x68 MSI

Reads what a hostile or broken device presents without fault: a list ends at the first entry that
was already seen, that lies outside the space, or whose pointer is zero.

Source: PCI Local Bus 3.0, 6.1 and 6.7; PCI Express Base 5.0, 7.5.1 and 7.6.
"""

from __future__ import annotations

from ..errors import PreflightError
from ..osutil.light import NamedTuple
from .ids import CAPABILITIES, EXTENDED_CAPABILITIES

PCI_CONFIG_SPACE_SIZE = 0x100
PCIE_CONFIG_SPACE_SIZE = 0x1000
PCI_CONFIG_HEADER_SIZE = 0x40
PCI_STATUS = 0x06
# 6.2.3: while it is 0, the capabilities pointer at 34h is not valid.
PCI_STATUS_CAP_LIST = 0x10
PCI_CAPABILITY_LIST = 0x34


class ConfigSpaceError(PreflightError):
    """Bytes that cannot be a PCI configuration space."""


class Capability(NamedTuple):
    """An entry of a capability list.

    ``size`` is the distance in bytes to the next entry *by address* or to the end of the space:
    what QEMU takes as the size of a capability whose own size it does not know.
    """

    id: int
    offset: int
    next: int
    size: int
    extended: bool = False
    version: int = 0

    @property
    def name(self) -> str:
        """The short name that ``lspci`` readers know, or the identifier in hexadecimal."""
        names = EXTENDED_CAPABILITIES if self.extended else CAPABILITIES
        return names.get(self.id, f"capability {self.id:#04x}")


def validate(config: bytes, where: str) -> bytes:
    """Return ``config`` if it has one of the two possible sizes; ``where`` goes into the error."""
    if len(config) not in (PCI_CONFIG_SPACE_SIZE, PCIE_CONFIG_SPACE_SIZE):
        raise ConfigSpaceError(
            f"{where}: {len(config)} bytes are not a PCI configuration space, which has 256 or 4096"
            " bytes; read it as root, which sees more than the first 64 bytes, and copy all rows"
        )
    return config


def word(config: bytes | bytearray, offset: int) -> int:
    """16 bits, little-endian, as everything in configuration space."""
    return int.from_bytes(config[offset : offset + 2], "little")


def dword(config: bytes | bytearray, offset: int) -> int:
    """32 bits, little-endian."""
    return int.from_bytes(config[offset : offset + 4], "little")


def vendor_id(config: bytes) -> int:
    """Vendor ID; 0xffff is no vendor's."""
    return word(config, 0)


def device_id(config: bytes) -> int:
    """Device ID."""
    return word(config, 2)


def is_silent(config: bytes) -> bool:
    """Whether the device did not answer: what reads as all ones has no header."""
    return config[:PCI_CONFIG_HEADER_SIZE] == b"\xff" * PCI_CONFIG_HEADER_SIZE


def reads_as_vf(config: bytes) -> bool:
    """Whether these are a VF's own bytes: its IDs read ffff, its PF's apply (SR-IOV 1.1, 3.4.1.1).

    VFIO shows the IDs by which the kernel knows the VF.
    """
    return vendor_id(config) == 0xFFFF and not is_silent(config)


def identity(config: bytes) -> str:
    """``vendor:device`` as ``lspci -n`` prints it."""
    return f"{vendor_id(config):04x}:{device_id(config):04x}"


def capabilities(config: bytes) -> tuple[Capability, ...]:
    """The standard capability list, in list order."""
    if not config[PCI_STATUS] & PCI_STATUS_CAP_LIST:
        return ()
    offsets: list[int] = []
    offset = config[PCI_CAPABILITY_LIST]
    # The pointer's low two bits are reserved (6.7), but kept: QEMU follows the pointer as it is. An
    # entry at ff would have its next pointer outside.
    while PCI_CONFIG_HEADER_SIZE <= offset < PCI_CONFIG_SPACE_SIZE - 1 and offset not in offsets:
        offsets.append(offset)
        offset = config[offset + 1]
    return tuple(
        Capability(config[at], at, config[at + 1], _size(offsets, at, PCI_CONFIG_SPACE_SIZE))
        for at in offsets
    )


def extended_capabilities(config: bytes) -> tuple[Capability, ...]:
    """The extended capability list, in list order; empty for 256 bytes."""
    # A header of all zeros at 100h says that there is no list (7.6).
    if len(config) < PCIE_CONFIG_SPACE_SIZE or not dword(config, PCI_CONFIG_SPACE_SIZE):
        return ()
    offsets: list[int] = []
    offset = PCI_CONFIG_SPACE_SIZE
    # Below 100h there are no extended capabilities; 0 ends the list.
    while offset >= PCI_CONFIG_SPACE_SIZE and offset not in offsets:
        offsets.append(offset)
        # The pointer's low two bits are reserved and must be masked (7.6; PCI_EXT_CAP_NEXT).
        offset = dword(config, offset) >> 20 & 0xFFC
    return tuple(_extended(config, at, offsets) for at in offsets)


def _extended(config: bytes, offset: int, offsets: list[int]) -> Capability:
    header = dword(config, offset)
    return Capability(
        id=header & 0xFFFF,
        offset=offset,
        next=header >> 20 & 0xFFC,
        size=_size(offsets, offset, PCIE_CONFIG_SPACE_SIZE),
        extended=True,
        version=header >> 16 & 0xF,
    )


def _size(offsets: list[int], offset: int, end: int) -> int:
    # By address and not by list order: a list may run downwards, and QEMU asks for the next above
    # (vfio_std_cap_max_size, vfio_ext_cap_max_size).
    return min((other for other in offsets if other > offset), default=end) - offset

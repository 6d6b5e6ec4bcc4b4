"""The four arrays QEMU keeps for a PCI device, and the elementary steps on them.

Lists are walked exactly as QEMU walks them, byte by byte on the bytes as they are at that moment:
this is what makes broken lists come out as QEMU's errors, aborts and hangs, instead of as a guess.

Source: QEMU 10.0.2, ``hw/pci/pci.c``, ``hw/pci/pcie.c``, ``hw/vfio/pci.c``.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...pci.space import (
    PCI_CAPABILITY_LIST,
    PCI_CONFIG_SPACE_SIZE,
    PCI_STATUS,
    PCI_STATUS_CAP_LIST,
    PCIE_CONFIG_SPACE_SIZE,
    dword,
)
from ...pci.state import ConfigState
from .bars import regions, rom_size
from .values import ABORT, ERROR, HANG, Environment, RefusedError, VirtualConfig

# How far a list can be followed before it must have come back to where it was.
MAX_STANDARD_STEPS = 256
MAX_EXTENDED_STEPS = 1024

# QEMU's buffers end with the space; a capability at its very end reaches over. What is read there
# is allocator padding, zero in practice.
SLACK = 64


class Device:
    """A device on its way through ``vfio_realize()``.

    ``raw`` is what VFIO presents, ``config`` QEMU's copy with its masks. ``emulated`` are the bits
    that QEMU takes from its copy when it reads, of the registers that it reads in ``realise``.
    """

    def __init__(self, state: ConfigState, environment: Environment) -> None:
        self.raw = state.config
        self.size = len(state.config)
        self.regions = regions(state)
        self.rom_size = rom_size(state)
        self.environment = environment
        self.config = bytearray(state.config) + bytearray(SLACK)
        self.cmask = bytearray(self.size + SLACK)
        self.wmask = bytearray(self.size + SLACK)
        self.w1cmask = bytearray(self.size + SLACK)
        self.used = bytearray(PCI_CONFIG_SPACE_SIZE + SLACK)
        # emulated_config_bits: QEMU reads the other bits from the device each time the guest does.
        self.emulated = bytearray(self.size + SLACK)
        # What a reset looks for: these capabilities, and registers of BARs with their values.
        # 0 is no place for a capability, so it says that there is none, like msi_cap in PCIDevice.
        self.msi = self.msix = self.pm = 0
        self.bar_registers: list[tuple[int, int, int]] = []

    @property
    def express_bus(self) -> bool:
        """Whether the bus it is on is PCI Express."""
        return self.environment.placement != "conventional"

    def result(self) -> VirtualConfig:
        """The arrays as they are now."""
        # Only these four take part in get_pci_config_device().
        arrays = (self.config, self.cmask, self.wmask, self.w1cmask)
        return VirtualConfig(*(bytes(array[: self.size]) for array in arrays))

    def put(self, offset: int, value: int, size: int) -> None:
        """Set a register (``pci_set_word``)."""
        self.config[offset : offset + size] = value.to_bytes(size, "little")

    def allow_write(self, offset: int, mask: int, size: int) -> None:
        """Make the bits of ``mask`` writable, and no other bit of the register."""
        self.wmask[offset : offset + size] = mask.to_bytes(size, "little")

    def emulate(self, offset: int, value: int, mask: int, size: int) -> None:
        """Replace the bits of ``mask`` and make them read-only (``vfio_add_emulated_word``).

        As in QEMU, the register's other bits become writable, whatever they were.
        """
        old = int.from_bytes(self.config[offset : offset + size], "little")
        self.put(offset, old & ~mask | value, size)
        self.allow_write(offset, ~mask & (1 << 8 * size) - 1, size)
        self.emulated[offset : offset + size] = b"\xff" * size

    def read(self, offset: int, size: int, complaint: str) -> int:
        """A register as VFIO presents it; nothing is presented behind the space's end."""
        if offset + size > self.size:
            raise RefusedError(ERROR, complaint)
        return int.from_bytes(self.raw[offset : offset + size], "little")

    def seen(self, offset: int) -> int:
        """A byte as QEMU reads it (``vfio_pci_read_config``)."""
        mask = self.emulated[offset]
        return self.raw[offset] & ~mask | self.config[offset] & mask

    # --- standard capabilities ----------------------------------------------------------------

    def room(self, offset: int) -> int:
        """Bytes to the next capability by address (``vfio_std_cap_max_size``)."""
        above = (at for at in standard_list(self.config) if at > offset)
        return min(above, default=PCI_CONFIG_SPACE_SIZE) - offset

    def add_capability(self, cap_id: int, offset: int, size: int) -> None:
        """Put a capability at the head of the list (``pci_add_capability``)."""
        # hw/pci depends on this check for assigned devices alone; an emulated one does not overlap.
        for at in range(offset, offset + size):
            # pci_find_capability_at_offset() takes a uint8_t: what lies beyond ff is looked up in
            # the header.
            other = self._capability_holding(at & 0xFF)
            if other:
                raise RefusedError(
                    ERROR,
                    f"Attempt to add PCI capability {cap_id:x} at offset {offset:x} overlaps"
                    f" existing capability {other:x} at offset {at:x}",
                )
        self.config[offset] = cap_id
        self.config[offset + 1] = self.config[PCI_CAPABILITY_LIST]
        self.config[PCI_CAPABILITY_LIST] = offset
        self.config[PCI_STATUS] |= PCI_STATUS_CAP_LIST
        # 'used' is kept in dwords, wmask and cmask to the byte.
        aligned = size + 3 & ~3
        self.used[offset : offset + aligned] = b"\xff" * aligned
        # w1cmask stays as it is, other than in pcie_add_capability().
        self.wmask[offset : offset + size] = bytes(size)
        self.cmask[offset : offset + size] = b"\xff" * size

    def _capability_holding(self, offset: int) -> int:
        if not self.used[offset]:
            return 0
        listed = standard_list(self.config, wrapped=True)
        return max((at for at in listed if at <= offset), default=0)

    # --- extended capabilities ----------------------------------------------------------------

    def add_extended(self, cap_id: int, version: int, offset: int, size: int) -> None:
        """Put an extended capability at the tail of the list (``pcie_add_capability``)."""
        # Assertions: pcie_add_capability() leaves it to its caller to give a sound place and size.
        if offset < PCI_CONFIG_SPACE_SIZE:
            raise RefusedError(ABORT, f"extended capability at {offset:#x}, below 0x100")
        if size < 8:
            raise RefusedError(ABORT, f"extended capability at {offset:#x} has {size} bytes")
        # The head stands at 100h by definition, so no pointer leads to it.
        if offset != PCI_CONFIG_SPACE_SIZE:
            last = self._last_extended()
            header = dword(self.config, last)
            self.put(last, header & ~(0xFFF << 20) & 0xFFFFFFFF | offset << 20, 4)
        # Next pointer 0: it is the tail, until another one is appended.
        self.put(offset, version << 16 | cap_id, 4)
        self.wmask[offset : offset + size] = bytes(size)
        self.w1cmask[offset : offset + size] = bytes(size)
        self.cmask[offset : offset + size] = b"\xff" * size

    def _last_extended(self) -> int:
        last = max(enumerate(self.walk_extended()), default=(0, 0))[1]
        if last < PCI_CONFIG_SPACE_SIZE:
            raise RefusedError(ABORT, "no extended capability to append to")
        return last

    def walk_extended(self) -> Iterator[int]:
        """``pcie_find_capability_list``, whose assertions a bad pointer trips."""
        if not dword(self.config, PCI_CONFIG_SPACE_SIZE):
            return
        for offset in extended_list(self.config):
            # Two assertions in QEMU: a header and one register must fit.
            if not PCI_CONFIG_SPACE_SIZE <= offset <= PCIE_CONFIG_SPACE_SIZE - 8:
                raise RefusedError(ABORT, f"extended capability pointer {offset:#x} out of range")
            yield offset


def standard_list(config: bytes | bytearray, wrapped: bool = False) -> Iterator[int]:
    """Offsets as QEMU follows them: no bounds, no memory of where it was; refused as a hang.

    ``wrapped`` is how hw/pci does it, where the pointer of a capability at 0xff is read at 0x00,
    other than in hw/vfio, where it is read at 0x100.
    """
    offset = config[PCI_CAPABILITY_LIST]
    for _ in range(MAX_STANDARD_STEPS):
        if not offset:
            return
        yield offset
        pointer = offset + 1 & 0xFF if wrapped else offset + 1
        # A 256-byte space may be handed in bare: what lies behind it reads as zero.
        offset = config[pointer] if pointer < len(config) else 0
    raise RefusedError(HANG, "the capability list runs in a circle")


def extended_list(config: bytes | bytearray) -> Iterator[int]:
    """Offsets as ``vfio_add_ext_cap`` follows them; refused as a hang."""
    offset = PCI_CONFIG_SPACE_SIZE
    for _ in range(MAX_EXTENDED_STEPS):
        if not offset:
            return
        yield offset
        # PCI_EXT_CAP_NEXT: the low two bits are reserved.
        offset = dword(config, offset) >> 20 & 0xFFC
    raise RefusedError(HANG, "the extended capability list runs in a circle")

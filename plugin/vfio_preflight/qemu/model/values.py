"""The model's values: what goes in beside a config state, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from ...osutil.light import NamedTuple
from .versions import Behaviour

ERROR, ABORT, CRASH, HANG = "error", "abort", "crash", "hang"
# Results that are kept, by value: the distinct states of a fleet. Each takes some 16 KiB at most.
CACHED = 1024


def number(data: bytes) -> int:
    """The bytes as one number, of which bit n is bit ``n % 8`` of byte ``n // 8``."""
    # Little-endian keeps byte n at bit 8n, whatever the length.
    return int.from_bytes(data, "little")


class Environment(NamedTuple):
    """Everything beside the config state that decides what QEMU makes of it.

    ``placement`` is ``root-complex``, ``root-port`` or ``conventional``; ``express_root`` is False
    for machines whose root bus is conventional PCI (i440fx). ``properties`` are those of the
    device as QEMU would see them, by QEMU's names, unset ones left out. ``mdev`` is whether the
    device is a mediated one. ``port`` is QEMU's type of the root port right above the device, empty
    where there is none or the device is not the first function of its slot.
    """

    placement: str
    express_root: bool = True
    skip_vsc_check: bool = True
    # One mapping for all is safe: none of them is ever changed.
    properties: Mapping[str, str] = {}
    behaviour: Behaviour = Behaviour()
    mdev: bool = False
    port: str = ""

    def __hash__(self) -> int:
        """Of what varies most; ``properties`` alone would make it unhashable."""
        return hash((self.placement, self.skip_vsc_check, frozenset(self.properties.items())))


class VirtualConfig(NamedTuple):
    """The configuration space a guest is given, with QEMU's masks; all four of one length."""

    config: bytes
    cmask: bytes
    wmask: bytes
    w1cmask: bytes

    def compared(self) -> bytes:
        """Per byte, the bits in which a migration stream must be equal."""
        return compared_bits(self).to_bytes(len(self.cmask), "little")


# A device is compared with many streams in a fleet, and its masks never change: half of the work.
@lru_cache(maxsize=CACHED)
def compared_bits(device: VirtualConfig) -> int:
    """:meth:`VirtualConfig.compared` as one number, in which byte n begins at bit 8n."""
    # The condition of get_pci_config_device(), for all bytes at once.
    return number(device.cmask) & ~number(device.wmask) & ~number(device.w1cmask)


class Refusal(NamedTuple):
    """QEMU gives no device: ``kind`` is ``error``, ``abort``, ``crash`` or ``hang``.

    ``reason`` of an error is QEMU's own text, without what it says before it of the device.
    """

    kind: str
    reason: str


class RefusedError(Exception):
    """How a refusal travels inside the model."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(kind, reason)


class Mismatch(NamedTuple):
    """A byte in which stream and device differ although QEMU compares it."""

    offset: int
    stream: int
    device: int
    cmask: int
    wmask: int
    w1cmask: int

    @property
    def line(self) -> str:
        """The line QEMU prints on the destination for it (``get_pci_config_device``)."""
        # The format is plain %x, and has no blank behind the last colon.
        return (
            f"get_pci_config_device: Bad config data: i=0x{self.offset:x} read: {self.stream:x}"
            f" device: {self.device:x} cmask: {self.cmask:x} wmask: {self.wmask:x}"
            f" w1cmask:{self.w1cmask:x}"
        )

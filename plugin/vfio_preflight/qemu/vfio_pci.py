"""What QEMU's ``vfio-pci`` makes of a config state, and how it compares the result with a stream.

``realise`` repeats, on a copy of the bytes, what QEMU does between opening the device and the
machine's first reset: it clears and registers BARs, rebuilds the capability list from its end,
adjusts the PCIe capability to the bus the guest sees, rebuilds the extended list, and along the way
marks which bytes must agree (``cmask``), which the guest writes (``wmask``) and which it clears by
writing ones (``w1cmask``). ``compare`` is ``get_pci_config_device()``.

Lists are walked exactly as QEMU walks them, byte by byte on the bytes as they are at that moment:
this is what makes broken lists come out as QEMU's errors, aborts and hangs, instead of as a guess.

Pure: bytes and values in, values out. Sources: QEMU 10.0.2, ``hw/vfio/pci.c``,
``hw/vfio/pci-quirks.c``, ``hw/pci/pci.c``, ``hw/pci/pcie.c``, ``hw/pci/msi.c``, ``hw/pci/msix.c``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ..errors import PreflightError
from ..pci.ids import (
    PCI_CAP_ID_EXP,
    PCI_CAP_ID_MSI,
    PCI_CAP_ID_MSIX,
    PCI_CAP_ID_PM,
    PCI_CAP_ID_VNDR,
    PCI_EXT_CAP_ID_ARI,
    PCI_EXT_CAP_ID_REBAR,
    PCI_EXT_CAP_ID_SRIOV,
)
from ..pci.space import (
    PCI_CAPABILITY_LIST,
    PCI_CONFIG_HEADER_SIZE,
    PCI_CONFIG_SPACE_SIZE,
    PCI_STATUS,
    PCI_STATUS_CAP_LIST,
    PCIE_CONFIG_SPACE_SIZE,
    dword,
    word,
)
from ..pci.state import Bar, ConfigState

# How far a list can be followed before it must have come back to where it was.
MAX_STANDARD_STEPS = 256
MAX_EXTENDED_STEPS = 1024

# QEMU's buffers end with the space; a capability at its very end reaches over. What is read there
# is allocator padding, zero in practice.
SLACK = 64

PCI_EXP_TYPE_ENDPOINT = 0x0
PCI_EXP_TYPE_LEG_END = 0x1
PCI_EXP_TYPE_RC_END = 0x9

NO_BARS: tuple[Bar, ...] = ()


class PropertyError(PreflightError):
    """A device property whose value QEMU would not take."""


class Environment(NamedTuple):
    """Everything beside the config state that decides what QEMU makes of it.

    ``placement`` is ``root-complex``, ``root-port`` or ``conventional``; ``express_root`` is False
    for machines whose root bus is conventional PCI (i440fx). ``properties`` are those of the
    device as QEMU would see them, by QEMU's names, unset ones left out.
    """

    placement: str
    express_root: bool = True
    skip_vsc_check: bool = True
    properties: Mapping[str, str] = {}
    pm_runs_to_next: bool = False


class VirtualConfig(NamedTuple):
    """The configuration space a guest is given, with QEMU's masks; all four of one length."""

    config: bytes
    cmask: bytes
    wmask: bytes
    w1cmask: bytes

    def compared(self) -> bytes:
        """Per byte, the bits a migration stream must agree in."""
        masks = zip(self.cmask, self.wmask, self.w1cmask)
        return bytes(c & ~w & ~w1 & 0xFF for c, w, w1 in masks)


class Refusal(NamedTuple):
    """QEMU gives no device: ``kind`` is ``error``, ``abort``, ``crash`` or ``hang``."""

    kind: str
    reason: str


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
        return (
            f"get_pci_config_device: Bad config data: i=0x{self.offset:x} read: {self.stream:x}"
            f" device: {self.device:x} cmask: {self.cmask:x} wmask: {self.wmask:x}"
            f" w1cmask:{self.w1cmask:x}"
        )


class _RefusedError(Exception):
    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(kind, reason)


def compare(stream: bytes, device: VirtualConfig) -> tuple[Mismatch, ...]:
    """All bytes at which loading ``stream`` into ``device`` fails; QEMU names the first alone.

    Both must be of one size: where they are not, QEMU reads one side's bytes as something else.
    """
    if len(stream) != len(device.config):
        raise ValueError(f"stream of {len(stream)} bytes, device of {len(device.config)}")
    if stream == device.config:
        return ()
    compared = device.compared()
    return tuple(
        Mismatch(i, s, d, device.cmask[i], device.wmask[i], device.w1cmask[i])
        for i, (s, d, mask) in enumerate(zip(stream, device.config, compared))
        if (s ^ d) & mask
    )


def realise(state: ConfigState, environment: Environment) -> VirtualConfig | Refusal:
    """What ``vfio-pci`` presents to the guest for ``state``, or why there is no device.

    Where ``state.bars`` is empty, BARs are taken from the register bytes: type bits are compared,
    sizes and what depends on them (MSI-X placement) are taken to be sound.
    """
    device = _Device(state, environment)
    try:
        _realise(device)
    except _RefusedError as refused:
        return refused.refusal
    return device.result()


class _Device:
    """The four arrays QEMU keeps for a PCI device, and the elementary steps on them."""

    def __init__(self, state: ConfigState, environment: Environment) -> None:
        self.raw = state.config
        self.size = len(state.config)
        self.bars = {bar.number: bar for bar in state.bars or _guess_bars(state.config)}
        self.sizes_known = bool(state.bars)
        self.environment = environment
        self.config = bytearray(state.config) + bytearray(SLACK)
        self.cmask = bytearray(self.size + SLACK)
        self.wmask = bytearray(self.size + SLACK)
        self.w1cmask = bytearray(self.size + SLACK)
        self.used = bytearray(PCI_CONFIG_SPACE_SIZE + SLACK)
        # Offset and size of what msi_reset() clears.
        self.msi: tuple[tuple[int, int], ...] = ()

    @property
    def express_bus(self) -> bool:
        return self.environment.placement != "conventional"

    def result(self) -> VirtualConfig:
        arrays = (self.config, self.cmask, self.wmask, self.w1cmask)
        return VirtualConfig(*(bytes(array[: self.size]) for array in arrays))

    def put(self, offset: int, value: int, size: int) -> None:
        self.config[offset : offset + size] = value.to_bytes(size, "little")

    def allow_write(self, offset: int, mask: int, size: int) -> None:
        self.wmask[offset : offset + size] = mask.to_bytes(size, "little")

    def emulate(self, offset: int, value: int, mask: int, size: int) -> None:
        """Replace the bits of ``mask`` and make them read-only (``vfio_add_emulated_word``).

        As in QEMU, the register's other bits become writable, whatever they were.
        """
        old = int.from_bytes(self.config[offset : offset + size], "little")
        self.put(offset, old & ~mask | value, size)
        self.allow_write(offset, ~mask & (1 << 8 * size) - 1, size)

    def add_capability(self, cap_id: int, offset: int, size: int) -> None:
        """Put a capability at the head of the list (``pci_add_capability``)."""
        for at in range(offset, offset + size):
            other = self._capability_holding(at & 0xFF)
            if other:
                raise _RefusedError(
                    "error",
                    f"Attempt to add PCI capability {cap_id:x} at offset {offset:x} overlaps"
                    f" existing capability {other:x} at offset {at:x}",
                )
        self.config[offset] = cap_id
        self.config[offset + 1] = self.config[PCI_CAPABILITY_LIST]
        self.config[PCI_CAPABILITY_LIST] = offset
        self.config[PCI_STATUS] |= PCI_STATUS_CAP_LIST
        aligned = size + 3 & ~3
        self.used[offset : offset + aligned] = b"\xff" * aligned
        self.wmask[offset : offset + size] = bytes(size)
        self.cmask[offset : offset + size] = b"\xff" * size

    def _capability_holding(self, offset: int) -> int:
        if not self.used[offset]:
            return 0
        return max((at for at in standard_list(self.config) if at <= offset), default=0)

    def add_extended(self, cap_id: int, version: int, offset: int, size: int) -> None:
        """Put an extended capability at the tail of the list (``pcie_add_capability``)."""
        if offset < PCI_CONFIG_SPACE_SIZE:
            raise _RefusedError("abort", f"extended capability at {offset:#x}, below 0x100")
        if size < 8:
            raise _RefusedError("abort", f"extended capability at {offset:#x} has {size} bytes")
        if offset != PCI_CONFIG_SPACE_SIZE:
            last = _last_extended(self.config)
            header = dword(self.config, last)
            self.put(last, header & ~(0xFFF << 20) & 0xFFFFFFFF | offset << 20, 4)
        self.put(offset, version << 16 | cap_id, 4)
        self.wmask[offset : offset + size] = bytes(size)
        self.w1cmask[offset : offset + size] = bytes(size)
        self.cmask[offset : offset + size] = b"\xff" * size


def _realise(device: _Device) -> None:
    _init_masks(device)
    _override_ids(device)
    _clear_bars(device)
    _register_rom(device)
    msix = _early_msix(device)
    _register_bars(device)
    _add_standard_capabilities(device, msix)
    if device.size == PCIE_CONFIG_SPACE_SIZE:
        _find_extended(device.config, PCI_EXT_CAP_ID_ARI)
    _reset(device)


def _reset(device: _Device) -> None:
    """``msi_reset``, by the machine's reset before a guest runs or a stream is loaded."""
    for offset, size in device.msi:
        device.put(offset, 0, size)


# --- header -----------------------------------------------------------------------------------


def _init_masks(device: _Device) -> None:
    """``pci_init_cmask``, ``pci_init_wmask``, ``pci_init_w1cmask`` of a device without bridge."""
    for offset, mask in _HEADER_CMASK:
        device.cmask[offset] = mask
    for offset, mask in _HEADER_WMASK:
        device.wmask[offset] = mask
    device.w1cmask[PCI_STATUS + 1] = 0xF9
    rest = device.size - PCI_CONFIG_HEADER_SIZE
    device.wmask[PCI_CONFIG_HEADER_SIZE : device.size] = b"\xff" * rest


_HEADER_CMASK = (
    *((offset, 0xFF) for offset in (0, 1, 2, 3)),  # vendor, device
    (PCI_STATUS, PCI_STATUS_CAP_LIST),
    *((offset, 0xFF) for offset in (8, 9, 10, 11)),  # revision, class
    (0x0E, 0xFF),  # header type
    (PCI_CAPABILITY_LIST, 0xFF),
)
_HEADER_WMASK = ((0x04, 0x07), (0x05, 0x05), (0x0C, 0xFF), (0x3C, 0xFF))

# property -> (offset, size in bytes)
_ID_PROPERTIES = (
    ("x-pci-vendor-id", 0x00, 2),
    ("x-pci-device-id", 0x02, 2),
    ("x-pci-sub-vendor-id", 0x2C, 2),
    ("x-pci-sub-device-id", 0x2E, 2),
    ("x-pci-class-code", 0x09, 3),
)
_UNSET = 0xFFFFFFFF


def _override_ids(device: _Device) -> None:
    properties = device.environment.properties
    for name, offset, size in _ID_PROPERTIES:
        value = _number(properties, name, _UNSET)
        if value == _UNSET:
            continue
        limit = 0xFFFE if name == "x-pci-vendor-id" else (1 << 8 * size) - 1
        if value > limit:
            raise _RefusedError("error", f"invalid value {value:#x} for property {name}")
        device.emulate(offset, value, (1 << 8 * size) - 1, size)
    device.config[0x0E] &= 0x7F
    if _flag(properties, "multifunction", False):
        device.config[0x0E] |= 0x80


def _clear_bars(device: _Device) -> None:
    device.config[0x10:0x28] = bytes(24)
    device.config[0x30:0x34] = bytes(4)


def _register_rom(device: _Device) -> None:
    """``vfio_pci_size_rom``, and ``pci_add_option_rom`` where the operator gave a ROM file.

    An empty ``romfile`` means that there is to be no ROM.
    """
    properties = device.environment.properties
    rom = device.bars.get(6)
    if "romfile" in properties:
        rom = (rom or Bar(6, 0x10000, "mem32")) if properties["romfile"] else None
    if rom and _number(properties, "rombar", 1, lowest=-(1 << 31)):
        _register_bar(device, rom._replace(kind="mem32", prefetchable=False), enable=1)


def _register_bars(device: _Device) -> None:
    for index in range(6):
        bar = device.bars.get(index)
        if bar is not None:
            _register_bar(device, _typed(device, bar))


def _typed(device: _Device, bar: Bar) -> Bar:
    """QEMU takes the type from the register's low bits (``vfio_bar_prepare``)."""
    low = device.raw[0x10 + 4 * bar.number]
    if low & 1:
        return bar._replace(kind="io", prefetchable=False)
    return bar._replace(kind="mem64" if low & 4 else "mem32", prefetchable=bool(low & 8))


def _register_bar(device: _Device, bar: Bar, enable: int = 0) -> None:
    """``pci_register_bar``."""
    if bar.size & bar.size - 1:
        raise _RefusedError("abort", f"BAR {bar.number} has {bar.size} bytes, not a power of two")
    bridge = device.config[0x0E] & 0x7F == 1
    if bridge and bar.number >= 2:
        raise _RefusedError("abort", f"BAR {bar.number} in a header of type 1, which has two")
    offset = 0x30 if bar.number == 6 else 0x10 + 4 * bar.number
    size = 8 if bar.kind == "mem64" else 4
    low = device.raw[0x10 + 4 * bar.number] & (0x3 if bar.kind == "io" else 0xF)
    device.put(offset, 0 if bar.number == 6 else low, 4)
    device.allow_write(offset, (-bar.size | enable) & (1 << 8 * size) - 1, size)
    device.cmask[offset : offset + size] = b"\xff" * size


def _guess_bars(config: bytes) -> Iterator[Bar]:
    """BARs by their registers alone: one that is not zero, of the smallest size there can be."""
    index = 0
    while index < 6:
        value = dword(config, 0x10 + 4 * index)
        kind = "io" if value & 1 else "mem64" if value & 4 else "mem32"
        if value:
            yield Bar(index, 4 if kind == "io" else 16, kind, bool(value & 8 and not value & 1))
        index += 2 if value and kind == "mem64" else 1
    if dword(config, 0x30):
        yield Bar(6, 0x800, "mem32")


# --- standard capabilities --------------------------------------------------------------------


def standard_list(config: bytes | bytearray) -> Iterator[int]:
    """Offsets as QEMU follows them: no bounds, no memory of where it was; refused as a hang."""
    offset = config[PCI_CAPABILITY_LIST]
    for _ in range(MAX_STANDARD_STEPS):
        if not offset:
            return
        yield offset
        # A 256-byte space may be handed in bare: what lies behind it reads as zero.
        offset = config[offset + 1] if offset + 1 < len(config) else 0
    raise _RefusedError("hang", "the capability list runs in a circle")


def _room(device: _Device, offset: int) -> int:
    """Bytes to the next capability by address (``vfio_std_cap_max_size``)."""
    above = (at for at in standard_list(device.config) if at > offset)
    return min(above, default=PCI_CONFIG_SPACE_SIZE) - offset


def _add_standard_capabilities(device: _Device, msix: _Msix | None) -> None:
    """``vfio_add_capabilities`` and, unrolled, the recursive ``vfio_add_std_cap``."""
    has_list = device.config[PCI_STATUS] & PCI_STATUS_CAP_LIST
    if not has_list or not device.config[PCI_CAPABILITY_LIST]:
        return
    found = [(at, device.config[at], _room(device, at)) for at in standard_list(device.config)]
    device.config[PCI_CAPABILITY_LIST] = 0
    _add_virtual_capabilities(device)
    for offset, cap_id, room in reversed(found):
        size = min(room, _room(device, offset))
        add = _ADDERS.get(cap_id)
        if add is not None:
            add(device, offset, size, msix)
        else:
            device.add_capability(cap_id, offset, size)
    _add_extended_capabilities(device)


class _Msix(NamedTuple):
    entries: int
    table_bar: int
    table_offset: int
    pba_bar: int
    pba_offset: int


def _early_msix(device: _Device) -> _Msix | None:
    """``vfio_msix_early_setup``: reads the first MSI-X capability before BARs are registered."""
    if not device.config[PCI_STATUS] & PCI_STATUS_CAP_LIST:
        return None
    walk = standard_list(device.config)
    offset = next((at for at in walk if device.config[at] == PCI_CAP_ID_MSIX), None)
    if offset is None:
        return None
    control, table, pba = (
        word(device.raw, offset + 2),
        dword(device.raw, offset + 4),
        dword(device.raw, offset + 8),
    )
    msix = _Msix((control & 0x7FF) + 1, table & 7, table & ~7, pba & 7, pba & ~7)
    if not device.sizes_known:
        return msix
    bar = device.bars.get(msix.pba_bar) if msix.pba_bar < 6 else None
    if msix.pba_offset < (bar.size if bar else 0):
        return msix
    fixed = _pba_erratum(device)
    if fixed is None:
        raise _RefusedError(
            "error", "hardware reports invalid configuration, MSIX PBA outside of specified BAR"
        )
    return msix._replace(pba_offset=fixed)


def _pba_erratum(device: _Device) -> int | None:
    """Devices that report a wrong PBA offset, and the right one (``vfio_msix_early_setup``)."""
    vendor, product = word(device.config, 0), word(device.config, 2)
    if vendor == 0x1425 and product & 0xFF00 == 0x5800:  # Chelsio T5 VF
        return 0x1000
    if (vendor, product) == (0x1D22, 0x3685):  # Baidu Kunlun VF
        return 0xB400
    return None


def _add_msix(device: _Device, offset: int, _size: int, msix: _Msix | None) -> None:
    """``msix_init``; a capability that ``vfio_msix_early_setup`` did not see crashes QEMU."""
    if msix is None:
        raise _RefusedError("crash", "MSI-X capability that the first look did not find")
    if device.sizes_known:
        _check_msix_bars(device, msix)
    device.add_capability(PCI_CAP_ID_MSIX, offset, 12)
    device.put(offset + 2, msix.entries - 1, 2)
    device.put(offset + 4, msix.table_offset | msix.table_bar, 4)
    device.put(offset + 8, msix.pba_offset | msix.pba_bar, 4)
    device.wmask[offset + 3] |= 0xC0


def _check_msix_bars(device: _Device, msix: _Msix) -> None:
    table = device.bars.get(msix.table_bar) if msix.table_bar < 6 else None
    pba = device.bars.get(msix.pba_bar) if msix.pba_bar < 6 else None
    if table is None or pba is None:
        raise _RefusedError("crash", f"MSI-X table or PBA in BAR {msix.table_bar}, which is absent")
    table_end = msix.table_offset + 16 * msix.entries
    pba_end = msix.pba_offset + (msix.entries + 63 & ~63) // 8
    overlap = msix.table_offset < pba_end and msix.pba_offset < table_end
    shared = msix.table_bar == msix.pba_bar and overlap
    if shared or table_end > table.size or pba_end > pba.size:
        raise _RefusedError(
            "error", "table & pba overlap, or they don't fit in BARs, or don't align"
        )


def _add_msi(device: _Device, offset: int, _size: int, _msix: _Msix | None) -> None:
    """``vfio_msi_setup`` and ``msi_init``."""
    control = word(device.raw, offset + 2)
    is_64bit, maskable, order = control & 0x80, control & 0x100, control >> 1 & 7
    if order > 5:
        raise _RefusedError("abort", f"MSI at {offset:#x} claims {1 << order} vectors, 32 at most")
    data = offset + (0xC if is_64bit else 0x8)
    size = data + 2 - offset if not maskable else data + 12 - offset
    device.add_capability(PCI_CAP_ID_MSI, offset, size)
    device.put(offset + 2, order << 1 | is_64bit | maskable, 2)
    device.allow_write(offset + 2, 0x71, 2)
    device.allow_write(offset + 4, 0xFFFFFFFC, 4)
    if is_64bit:
        device.allow_write(offset + 8, 0xFFFFFFFF, 4)
    device.allow_write(data, 0xFFFF, 2)
    if maskable:
        device.allow_write(data + 4, 0xFFFFFFFF >> 32 - (1 << order), 4)
    device.msi = ((offset + 4, 8 if is_64bit else 4), (data, 2), (data + 4, 8 if maskable else 0))


def _add_pm(device: _Device, offset: int, size: int, _msix: _Msix | None) -> None:
    """``pci_pm_init``: eight bytes and a writable power state, both since QEMU 10.0."""
    if device.environment.pm_runs_to_next:
        device.add_capability(PCI_CAP_ID_PM, offset, size)
        return
    device.add_capability(PCI_CAP_ID_PM, offset, 8)
    device.allow_write(offset + 4, 0x3, 2)


def _add_vsc(device: _Device, offset: int, size: int, _msix: _Msix | None) -> None:
    """``vfio_add_vendor_specific_cap``: the exemption spares all but the three header bytes."""
    device.add_capability(PCI_CAP_ID_VNDR, offset, size)
    if device.environment.skip_vsc_check and size > 3:
        device.cmask[offset + 3 : offset + size] = bytes(size - 3)


def _add_pcie(device: _Device, offset: int, size: int, _msix: _Msix | None) -> None:
    """``vfio_setup_pcie_cap``."""
    flags = word(device.config, offset + 2)
    kind = flags >> 4 & 0xF
    if kind not in (PCI_EXP_TYPE_ENDPOINT, PCI_EXP_TYPE_LEG_END, PCI_EXP_TYPE_RC_END):
        raise _RefusedError(
            "error", f"assignment of PCIe type 0x{kind:x} devices is not currently supported"
        )
    placement = device.environment.placement
    if placement == "conventional" and device.environment.express_root:
        return
    if placement == "root-complex" and kind == PCI_EXP_TYPE_LEG_END:
        return
    if placement == "root-complex" and kind == PCI_EXP_TYPE_ENDPOINT:
        _integrate_endpoint(device, offset, size)
    if placement == "root-port" and kind == PCI_EXP_TYPE_RC_END:
        device.emulate(offset + 0x02, PCI_EXP_TYPE_ENDPOINT << 4, 0xF0, 2)
        device.emulate(offset + 0x0C, 0x11, 0xFFFFFFFF, 4)  # LNKCAP: x1, 2.5 GT/s
        device.emulate(offset + 0x10, 0, 0xFFFF, 2)
    if flags & 0xF == 0:
        device.emulate(offset + 0x02, 1, 0xF, 2)
    device.add_capability(PCI_CAP_ID_EXP, offset, size)


# Link registers of a PCIe capability: (offset, size), by the capability size that holds them.
_LINK = ((0x0C, 4), (0x10, 2), (0x12, 2))
_LINK2 = ((0x2C, 4), (0x30, 2), (0x32, 2))


def _integrate_endpoint(device: _Device, offset: int, size: int) -> None:
    """An endpoint on the root complex becomes integrated and loses its link registers."""
    device.emulate(offset + 0x02, PCI_EXP_TYPE_RC_END << 4, 0xF0, 2)
    links = (_LINK if size > 0x10 else ()) + (_LINK2 if size > 0x2C else ())
    for register, width in links:
        device.emulate(offset + register, 0, (1 << 8 * width) - 1, width)


_ADDERS = {
    PCI_CAP_ID_PM: _add_pm,
    PCI_CAP_ID_MSI: _add_msi,
    PCI_CAP_ID_VNDR: _add_vsc,
    PCI_CAP_ID_EXP: _add_pcie,
    PCI_CAP_ID_MSIX: _add_msix,
}


# --- capabilities that QEMU makes up (vfio_add_virt_caps) ---------------------------------------

_VMD = ((0x8086, 0x201D), (0x8086, 0x467F), (0x8086, 0x4C3D), (0x8086, 0x9A0B))


def _add_virtual_capabilities(device: _Device) -> None:
    _add_gpudirect(device)
    if (word(device.config, 0), word(device.config, 2)) in _VMD:
        device.add_capability(PCI_CAP_ID_VNDR, 0xE8, 24)
        device.config[0xEA:0xF0] = b"\x18\x01WDHS"
        device.config[0xF0:0x100] = device.raw[0x18:0x28]


def _add_gpudirect(device: _Device) -> None:
    """``vfio_add_nv_gpudirect_cap``: a VSC of QEMU's own that NVIDIA's driver reads."""
    clique = _number(device.environment.properties, "x-nv-gpudirect-clique", _UNSET)
    if clique == _UNSET:
        return
    if clique > 15:
        raise PropertyError(f"property x-nv-gpudirect-clique: {clique} is not in the range 0-15")
    complaint = "NVIDIA GPUDirect Clique ID: "
    if word(device.config, 0) != 0x10DE:
        raise _RefusedError("error", complaint + "invalid device vendor")
    if device.config[0x0B] != 0x03:
        raise _RefusedError("error", complaint + "unsupported PCI class")
    offset = device.raw[PCI_CAPABILITY_LIST]
    if not _valid_offset(offset):
        raise _RefusedError("error", complaint + "error getting cap list")
    seen = []
    while _valid_offset(offset):
        seen.append(offset)
        offset = device.config[offset + 1]
    place = next((at for at in (0xC8, 0xD4) if at not in seen), None)
    if place is None:
        raise _RefusedError("error", complaint + "invalid config space")
    device.add_capability(PCI_CAP_ID_VNDR, place, 8)
    device.config[place + 2 : place + 8] = bytes((8, 0x50, 0x32, 0x50, clique << 3 & 0xFF, 0))


def _valid_offset(offset: int) -> bool:
    return PCI_CONFIG_HEADER_SIZE <= offset <= PCI_CONFIG_SPACE_SIZE - 4


# --- extended capabilities ----------------------------------------------------------------------


def _extended_list(config: bytes | bytearray) -> Iterator[int]:
    offset = PCI_CONFIG_SPACE_SIZE
    for _ in range(MAX_EXTENDED_STEPS):
        if not offset:
            return
        yield offset
        offset = dword(config, offset) >> 20 & 0xFFC
    raise _RefusedError("hang", "the extended capability list runs in a circle")


def _find_extended(config: bytearray, cap_id: int) -> None:
    """``pcie_find_capability_list``, whose assertions a bad pointer trips."""
    if not dword(config, PCI_CONFIG_SPACE_SIZE):
        return
    for offset in _extended_list(config):
        _assert_extended(offset)
        if word(config, offset) == cap_id:
            return


def _last_extended(config: bytearray) -> int:
    last = 0
    for offset in _extended_list(config) if dword(config, PCI_CONFIG_SPACE_SIZE) else ():
        _assert_extended(offset)
        last = offset
    if last < PCI_CONFIG_SPACE_SIZE:
        raise _RefusedError("abort", "no extended capability to append to")
    return last


def _assert_extended(offset: int) -> None:
    if not PCI_CONFIG_SPACE_SIZE <= offset <= PCIE_CONFIG_SPACE_SIZE - 8:
        raise _RefusedError("abort", f"extended capability pointer {offset:#x} is out of range")


def _add_extended_capabilities(device: _Device) -> None:
    """``vfio_add_ext_cap``: rebuilds the list, leaving out what a guest cannot use."""
    if device.size < PCIE_CONFIG_SPACE_SIZE or not device.express_bus:
        return
    if not dword(device.config, PCI_CONFIG_SPACE_SIZE):
        return
    original = bytes(device.config)
    device.put(PCI_CONFIG_SPACE_SIZE, 0xFFFF, 4)
    device.allow_write(PCI_CONFIG_SPACE_SIZE, 0, 4)
    offsets = list(_extended_list(original))
    for offset in offsets:
        header = dword(original, offset)
        cap_id, version = header & 0xFFFF, header >> 16 & 0xF
        if cap_id in (0, PCI_EXT_CAP_ID_SRIOV, PCI_EXT_CAP_ID_ARI):
            continue
        if cap_id == PCI_EXT_CAP_ID_REBAR and not _fix_rebar(device, offset):
            continue
        above = (at for at in offsets if at > offset)
        size = min(above, default=PCIE_CONFIG_SPACE_SIZE) - offset
        device.add_extended(cap_id, version, offset, size)
    if word(device.config, PCI_CONFIG_SPACE_SIZE) == 0xFFFF:
        device.put(PCI_CONFIG_SPACE_SIZE, 0, 2)


def _fix_rebar(device: _Device, offset: int) -> bool:
    """Show only the size in force (``vfio_setup_rebar_ecap``); False hides the capability."""
    for entry in range(dword(device.config, offset + 8) >> 5 & 7):
        at = offset + 8 * entry
        control = dword(device.config, at + 8)
        size = control >> 8 & 0x1F
        supported = 1 << size + 4 if size <= 27 else 0
        if not supported & 0x00FFFFF0:
            return False
        device.emulate(at + 4, supported, 0xFFFFFFFF, 4)
        device.emulate(at + 8, control & (0x1F00 | 0xE0 | 0x7), 0xFFFFFFFF, 4)
    return True


# --- property values ----------------------------------------------------------------------------

_TRUE = ("on", "yes", "true", "y")
_FALSE = ("off", "no", "false", "n")
_INTEGER = r"([+-]?)(0[xX][0-9a-fA-F]{1,16}|0[0-7]{0,22}|[1-9][0-9]{0,19})"


def parse_bool(value: str) -> bool:
    """A boolean as QEMU spells it (``qapi_bool_parse``); raises :class:`PropertyError`."""
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise PropertyError(f"'{value}' is neither 'on' nor 'off'")


def _flag(properties: Mapping[str, str], name: str, default: bool) -> bool:
    return parse_bool(properties[name]) if name in properties else default


def _number(properties: Mapping[str, str], name: str, default: int, lowest: int = 0) -> int:
    """An integer property of 32 bits, in the notations of C (``qemu_strtou64`` in base 0)."""
    text = properties.get(name)
    if text is None:
        return default
    match = re.fullmatch(_INTEGER, text)
    if match is None:
        raise PropertyError(f"property {name}: '{text}' is not a number")
    digits = match[2].lower()
    base = 16 if digits.startswith("0x") else 8 if digits.startswith("0") else 10
    value = int(digits, base) * (-1 if match[1] == "-" else 1)
    if not lowest <= value <= 0xFFFFFFFF:
        raise PropertyError(f"property {name}: {text} does not fit")
    return value

"""Lines whose numbers say more than a table can: PCI bytes, feature masks, sizes of blocks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ...osutil.light import NamedTuple
from ...pci.registers import locate
from ...pci.space import PCI_CONFIG_SPACE_SIZE
from . import features
from .devices import NO_VFIO, OTHER_QEMU, guest_device, is_vfio
from .layouts import is_bridge, register
from .message import NOT_NAMED
from .table import EQUAL


class Context(NamedTuple):
    """What the lines around say: the device's id in QEMU's words, or that it is a VFIO device.

    ``about`` is what any of them name; ``config`` the state that the operator gave.
    """

    path: str = ""
    is_vfio: bool = False
    about: str = ""
    config: bytes | None = None


class Texts(NamedTuple):
    """What, why and what to do."""

    what: str
    why: str
    remedy: str


def _number(text: str) -> int | None:
    return None if text == NOT_NAMED else int(text, 16)


# --- a byte of a PCI device's configuration space ------------------------------------------------


class _Byte(NamedTuple):
    offset: int
    stream: int
    device: int


def _config_byte(groups: Mapping[str, str], context: Context) -> Texts | None:
    values = [_number(groups[name]) for name in ("offset", "stream", "device")]
    if values[0] is None:
        return None
    byte = _Byte(values[0], values[1] or 0, values[2] or 0)
    said = f": the source sent {byte.stream:02x}, the destination's device has {byte.device:02x}"
    whole = None not in values
    if context.path and not is_vfio(context.path):
        return _emulated(byte, said if whole else "", context)
    used = None if context.config is None else context.config
    subject = f" of {guest_device(context.path)}" if context.path else ""
    what = f"{_place(byte, used)}{subject}{said if whole else ''}"
    why, remedy = _reason(byte, used)
    if used is not None and whole and byte.offset < len(used):
        why += _doubt(byte, used)
    if not context.path and not context.is_vfio:
        why += (
            "; no line here names the device: this is for a VFIO device, of another '…/vfio' is no"
        )
        why += " part, and QEMU's build and machine type differ (libvirt's error names it, of 11.1)"
    return Texts(what, why, remedy)


def _doubt(byte: _Byte, config: bytes) -> str:
    there = config[byte.offset]
    if there in (byte.stream, byte.device):
        return ""
    return (
        f"; the given state has {there:02x} there, which is neither: make sure that it is this"
        " device's"
    )


def _place(byte: _Byte, config: bytes | None) -> str:
    if config is None and byte.offset >= 0x40:
        area = "capabilities" if byte.offset < PCI_CONFIG_SPACE_SIZE else "extended capabilities"
        return f"byte {byte.offset:#x}, among the {area}"
    if byte.offset >= len(config or bytes(PCI_CONFIG_SPACE_SIZE)):
        return f"byte {byte.offset:#x}, beyond the given config state"
    place = locate(config or bytes(PCI_CONFIG_SPACE_SIZE), byte.offset)
    shift = 8 * (byte.offset - place.start)
    fields = place.fields((byte.stream ^ byte.device) << shift)
    named = f" ({', '.join(fields)})" if fields else ""
    return f"byte {byte.offset:#x}, {place.where}, {place.register}{named}"


def _reason(byte: _Byte, config: bytes | None) -> tuple[str, str]:
    if config is None and byte.offset >= 0x40:
        return (
            "QEMU compares it because the guest's driver may rely on it",
            f"give the device's config state (--state FILE) to see which register it is; {EQUAL}",
        )
    if config is not None and _is_vsc_body(byte.offset, config):
        return (
            "it is Vendor Specific Information, which QEMU 9.1 and newer skip (skip-vsc-check),"
            " unless the machine type is 9.0 or older",
            "use equal drivers on both hosts, or, if the vendor promises that running guests may"
            " meet other Vendor Specific Information, let the hook mend it (fail = mend)",
        )
    return "the guest has seen the source's value and may rely on it", EQUAL


def _is_vsc_body(offset: int, config: bytes) -> bool:
    if offset >= min(len(config), PCI_CONFIG_SPACE_SIZE):
        return False
    place = locate(config, offset)
    return (
        place.capability is not None
        and place.capability.name == "VSC"
        # ID, next pointer and length stay compared (vfio_add_vendor_specific_cap).
        and offset >= place.capability.offset + 3
    )


# What of an emulated device depends on what: first byte behind, cause.
_HEADER = (
    (
        0x04,
        "its IDs: another model or version of it, or of virtio disable-legacy and disable-modern",
    ),
    (0x08, "its status bits: whether it has a list of capabilities"),
    (0x0C, "its revision or class: set by the machine type and QEMU's build"),
    (0x10, "whether it has several functions (multifunction)"),
    (0x28, "its BARs: their size follows from its properties (queues, vectors, memory)"),
    (0x34, "its option ROM: rombar, or the size of the ROM's file (package ipxe-qemu)"),
    (0x40, "the beginning of its capability list"),
)
_CAPABILITIES = (
    "its capabilities: what it has of them follows from its properties (queues, vectors, …)"
)


def _emulated(byte: _Byte, said: str, context: Context) -> Texts:
    name = context.path.rpartition("/")[2]
    place, cause = register(name, byte.offset)
    if not place and byte.offset < 0x40 and not is_bridge(name):
        place = _place(byte, None).partition(", ")[2]
    if not cause:
        cause = next((text for end, text in _HEADER if byte.offset < end), _CAPABILITIES)
    named = f", {place}" if place else ""
    what = f"byte {byte.offset:#x}{named} of {guest_device(context.path)}{said}"
    why = (
        f"QEMU emulates this device, {NO_VFIO}: what differs is QEMU's build or version, the"
        f" machine"
        f" type or the device's properties; here {cause}"
    )
    if context.config is not None:
        why += "; the given --state is of another device and says nothing of this one"
    return Texts(what, why, OTHER_QEMU)


# --- virtio features -----------------------------------------------------------------------------


def _features(groups: Mapping[str, str], context: Context) -> Texts | None:
    received, local = _number(groups["received"]), _number(groups["local"])
    if received is None or local is None:
        return None
    kind = features.device_type(context.path) or features.device_type(context.about)
    bits = features.missing(received, local)
    named = features.names(bits, kind) or "none: the masks were cut off, or QEMU has a fault"
    device = (
        guest_device(context.path) if context.path else f"a virtio{'-' * bool(kind)}{kind} device"
    )
    return Texts(
        f"{device} uses features that the destination's does not offer: {named}",
        f"{features.advice(bits, kind)}the destination's QEMU, or what stands behind the device"
        f" there"
        f" (vhost of the kernel, the tap device, a vhost-user daemon), lacks them; {NO_VFIO}",
        "use the same kernel and QEMU on both hosts, or switch these features off in the guest's"
        " XML"
        " (<driver> of the device, <host>, <guest>), and start the guest anew",
    )


# --- memory blocks -------------------------------------------------------------------------------

_ROM = "the option ROM of an emulated device comes from a file (package ipxe-qemu, or romfile=)"
_ROM_REMEDY = (
    "install the same package with the ROMs on both hosts, or give the destination the source's"
    " size"
    " (romsize=, or romfile= with the source's file); " + NO_VFIO
)
_FIRMWARE = "the firmware comes from a file (seabios, OVMF, edk2), and its size from that file"
_FIRMWARE_REMEDY = "install the same package with the firmware on both hosts"
_VFIO_ROM = r"/vfio-[a-z-]+\.rom$"
_BLOCKS = (
    (
        _VFIO_ROM,
        "it is the ROM file of a VFIO device (<rom file=.../>), which has its size from the file",
        "give the device the same file on both hosts, or the source's size (romsize=)",
    ),
    (r"\.rom$", _ROM, _ROM_REMEDY),
    (
        r"/rom@etc/acpi|acpi|table-loader|tpm",
        "QEMU makes these ACPI tables: another build",
        OTHER_QEMU,
    ),
    (r"bios|flash|edk2|pc\.rom", _FIRMWARE, _FIRMWARE_REMEDY),
    (
        r"vram|vga|qxl|cirrus|bochs|framebuffer",
        "the video memory follows from the video device's properties (vgamem_mb, ram, vram)",
        "give the video device the same <model> on both hosts; " + NO_VFIO,
    ),
    (
        r"^$|ram|mem|dimm|^/objects/|node",
        "it is the guest's memory, whose size comes from its XML",
        "give the guest the same <memory>, <maxMemory>, NUMA cells and hot-plugged DIMMs on both"
        " hosts",
    ),
)


def _block(groups: Mapping[str, str], context: Context) -> Texts | None:
    received, local = _number(groups["received"]), _number(groups["local"])
    if received is None or local is None:
        return None
    block = groups["block"]
    what = (
        f"memory block '{block}' has {_size(received)} on the source and {_size(local)} on the"
        " destination"
    )
    for pattern, why, remedy in _BLOCKS:
        if re.search(pattern, block):
            return Texts(what, why, remedy)
    return Texts(
        what, "its size follows from the device that has it, or from QEMU's build", OTHER_QEMU
    )


_SAME_XML = (
    "compare the guest's XML on both hosts, hot-plugged devices and addresses included; use the"
    " same packages of QEMU, ROMs and firmware"
)
# The first words of the reasons above that hold for a block that is missing, too.
_ABSENT = (
    (
        _VFIO_ROM,
        "it is the ROM file of a VFIO device (<rom file=.../>): QEMU calls its memory"
        " vfio-cpr-pci.rom from 10.1 on, and by the device's type (vfio-pci.rom) before, and takes"
        " it by the same name only; or the destination's guest has no file there",
        "use QEMU of the same release on both hosts, and the same file; or start the guest anew"
        " without it (<rom bar='off'/>)",
    ),
    (
        r"\.rom$",
        "it is the option ROM of an emulated device, which the destination's guest does not have at"
        " that address, or has without a ROM (<rom enabled='no'/>, rombar=0, or a file of the"
        f" package ipxe-qemu that is missing there); {NO_VFIO}",
        _SAME_XML,
    ),
    (
        r"bios|flash|edk2|pc\.rom",
        "it is firmware: the destination's guest was started with another (UEFI and BIOS, another"
        f" machine type); {NO_VFIO}",
        _SAME_XML,
    ),
    (
        r"vram|vga|qxl|cirrus|bochs|framebuffer",
        "it is the memory of a video device, which the destination's guest does not have at that"
        f" address: another <model> of video device, or another address; {NO_VFIO}",
        _SAME_XML,
    ),
)


def _absent(groups: Mapping[str, str], context: Context) -> Texts | None:
    block = groups["block"]
    what = f"the source sent memory block '{block}', which the destination's guest does not have"
    for pattern, why, remedy in _ABSENT:
        if re.search(pattern, block):
            return Texts(what, why, remedy)
    return None


def _size(count: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit and count % unit == 0:
            return f"{count // unit} {name} ({count:#x})"
    return f"{count:#x} bytes"


DECODERS: dict[str, Callable[[Mapping[str, str], Context], Texts | None]] = {
    "bad-config-data": _config_byte,
    "virtio-features": _features,
    "ram-size": _block,
    "ram-missing": _absent,
}

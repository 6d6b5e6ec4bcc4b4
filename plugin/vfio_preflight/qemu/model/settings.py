"""The properties of vfio-pci that the model goes by, with the values that QEMU takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .properties import PropertyError, flag, number

Properties = Mapping[str, str]

UNSET = 0xFFFFFFFF  # of an identifier, and of romsize
NO_CLIQUE = -1

_RELOCATIONS = ("off", "auto", *(f"bar{number}" for number in range(6)))
_ATS = ("auto", "on", "off")


def rombar(properties: Properties) -> int:
    """1 and 0 show and hide the expansion ROM; what is below leaves it to QEMU."""
    # A signed property, so that -1 can stand for what nobody has set.
    return _at_most(1 << 31, "rombar", number(properties, "rombar", -1, lowest=-(1 << 31)))


def gpudirect_clique(properties: Properties) -> int:
    """0 to 15, or :data:`NO_CLIQUE`."""
    name = "x-nv-gpudirect-clique"
    # The capability has four bits for it.
    return _at_most(16, name, number(properties, name, NO_CLIQUE))


def igd_gms(properties: Properties) -> int:
    """Size of the stolen memory, as GMCH has it; 0 leaves it as it is."""
    return number(properties, "x-igd-gms", 0)


def msix_relocation(properties: Properties) -> str:
    """``off``, ``auto``, or ``bar0`` to ``bar5``."""
    return _choice(properties, "x-msix-relocation", _RELOCATIONS)


def ats(properties: Properties) -> str:
    """``auto``, ``on`` or ``off``."""
    return _choice(properties, "ats", _ATS)


def _romsize(properties: Properties) -> int:
    """It decides no bit that is compared; but QEMU does not take every one."""
    # pci_qdev_realize() refuses it for any device, also for one without a ROM.
    size = number(properties, "romsize", UNSET)
    if size != UNSET and (not size or size & size - 1):
        raise PropertyError(f"property romsize: {size} is not a power of two")
    return size


def _require_flag(properties: Properties, name: str) -> None:
    try:
        flag(properties, name, False)
    except PropertyError as error:
        raise PropertyError(f"property {name}: {error}") from error


def _at_most(limit: int, name: str, value: int) -> int:
    if value >= limit:
        raise PropertyError(f"property {name}: {value} does not fit")
    return value


def _choice(properties: Properties, name: str, choices: tuple[str, ...]) -> str:
    """A property of an enumerated type, whose default is the first."""
    text = properties.get(name, choices[0])
    if text not in choices:
        raise PropertyError(f"property {name}: '{text}' is none of {', '.join(choices)}")
    return text


_FLAGS = ("multifunction", "skip-vsc-check", "x-no-geforce-quirks")
_IDENTIFIERS = (
    *("x-pci-vendor-id", "x-pci-device-id", "x-pci-sub-vendor-id", "x-pci-sub-device-id"),
    "x-pci-class-code",
)
_OTHERS: tuple[Callable[[Properties], object], ...] = (
    *(rombar, _romsize, gpudirect_clique, igd_gms, msix_relocation, ats),
)


def require_valid(properties: Properties) -> None:
    """Raise :class:`PropertyError` for a value that QEMU does not take, of whatever device."""
    # All of them, also those that do not concern this device: QEMU sets every property before
    # realise.
    for name in _FLAGS:
        _require_flag(properties, name)
    for name in _IDENTIFIERS:
        number(properties, name, UNSET)
    for read in _OTHERS:
        read(properties)

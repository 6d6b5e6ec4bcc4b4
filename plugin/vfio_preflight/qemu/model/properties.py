"""Values of device properties in the notation of QEMU's ``-device``, as QEMU parses them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...errors import PreflightError
from ...osutil.light import NamedTuple


class PropertyError(PreflightError):
    """A device property whose value QEMU would not take."""


# No capitals: qapi_bool_parse() compares exactly.
_TRUE = ("on", "yes", "true", "y")
_FALSE = ("off", "no", "false", "n")
# White space in front as strtol() skips it. Bounded, since int() is slow with very long text.
_INTEGER = r"[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]{1,64}|0[0-7]{0,64}|[1-9][0-9]{0,64})"


def parse_bool(value: str) -> bool:
    """A boolean as QEMU spells it (``qapi_bool_parse``); raises :class:`PropertyError`."""
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise PropertyError(f"'{value}' is neither 'on' nor 'off'")


def flag(properties: Mapping[str, str], name: str, default: bool) -> bool:
    """A boolean property, or ``default`` where it is not set."""
    return parse_bool(properties[name]) if name in properties else default


def parse_integer(text: str, signed: bool = False) -> int:
    """An integer of 64 bits in the notations of C; raises :class:`PropertyError`.

    As ``qemu_strtou64`` in base 0, which lets negative numbers wrap, or as ``qemu_strtoi64``.
    """
    match = re.fullmatch(_INTEGER, text)
    if match is None:
        raise PropertyError(f"'{text}' is not a number")
    digits = match[2].lower()
    # strtol() with base 0: a leading 0 means octal, which int() with base 0 would not take.
    base = 16 if digits.startswith("0x") else 8 if digits.startswith("0") else 10
    value = int(digits, base)
    # strtoull() takes a sign and wraps, so -1 is the largest number and not an error.
    value = -value if match[1] == "-" else value
    if not (-(1 << 63) <= value < 1 << 63 if signed else abs(value) < 1 << 64):
        raise PropertyError(f"{text} does not fit into 64 bits")
    return value if signed else value % (1 << 64)


def number(properties: Mapping[str, str], name: str, default: int, lowest: int = 0) -> int:
    """An integer property of 32 bits; it has a sign if ``lowest`` is below 0."""
    text = properties.get(name)
    if text is None:
        return default
    try:
        value = parse_integer(text, signed=lowest < 0)
    except PropertyError as error:
        raise PropertyError(f"property {name}: {error}") from error
    if not lowest <= value <= 0xFFFFFFFF:
        raise PropertyError(f"property {name}: {text} does not fit")
    return value


class Integers(NamedTuple):
    """The values of an integer type: QEMU's name for it, and the bits it has."""

    name: str
    bits: int
    signed: bool

    def holds(self, value: int) -> bool:
        """Whether ``value`` is one of them."""
        lowest = -(1 << self.bits - 1) if self.signed else 0
        return lowest <= value < lowest + (1 << self.bits)


# By the names that device-list-properties has for them.
_INTEGERS = {
    **{f"uint{bits}": Integers(f"uint{bits}_t", bits, False) for bits in (8, 16, 32, 64)},
    **{f"int{bits}": Integers(f"int{bits}_t", bits, True) for bits in (8, 16, 32, 64)},
}
_CHOICES = {
    "OnOffAuto": ("auto", "on", "off"),
    "OffAutoPCIBAR": ("off", "auto", "bar0", "bar1", "bar2", "bar3", "bar4", "bar5"),
}
_STRINGS = ("str", "string", *_CHOICES)
# QEMU takes a number for it as well, whatever type it says it has.
_ALTERNATES = ("addr",)

# How a value is written: in text, of -device in k=v form or of -global, or as one of JSON's types.
TEXT, GLOBAL = "text", "global"
BOOLEAN, NUMBER, STRING, NULL = JSON_TYPES = ("boolean", "number", "string", "null")


def json_type(type_: str) -> str | None:
    """What JSON has for a property's type, None where that is not known."""
    if type_ == "bool":
        return BOOLEAN
    # In JSON a size is a plain number; suffixes such as 4G are of the k=v form alone.
    if type_ in _INTEGERS or type_ == "size":
        return NUMBER
    # A link is given as the ID or the path of the other object.
    return STRING if type_ in _STRINGS or type_.startswith("link<") else None


def complaint(name: str, type_: str, value: str, form: str) -> str | None:
    """What QEMU says to this value of a property of this type, None if it takes it.

    ``type_`` is that of device-list-properties, ``form`` as the value is written. Only what QEMU
    refuses whatever there is on the host is found, and only for types that are known here.
    Source: QEMU 10.0.2, ``qobject-input-visitor.c``, ``string-input-visitor.c``.
    """
    wanted = json_type(type_)
    if wanted is None or name in _ALTERNATES:
        return None
    # In JSON, which libvirt writes, "on" is no boolean: the visitor for it is strict.
    if form in JSON_TYPES and form != wanted:
        return _other_type(name, type_, wanted)
    if type_ == "bool":
        good = form == BOOLEAN or value in _TRUE + _FALSE
        return None if good else f"Parameter '{name}' expects 'on' or 'off'"
    if type_ in _CHOICES:
        good = value in _CHOICES[type_]
        return None if good else f"Parameter '{name}' does not accept value '{value}'"
    return _integer_complaint(name, type_, value, form) if type_ in _INTEGERS else None


def _other_type(name: str, type_: str, wanted: str) -> str:
    """QEMU has two ways to say it."""
    if wanted == NUMBER and not (type_ in _INTEGERS and _INTEGERS[type_].signed):
        return f"Parameter '{name}' expects uint64"
    expected = "integer" if wanted == NUMBER else wanted
    return f"Invalid parameter type for '{name}', expected: {expected}"


def _integer_complaint(name: str, type_: str, value: str, form: str) -> str | None:
    kind = _INTEGERS[type_]
    try:
        good = kind.holds(parse_integer(value, kind.signed))
    except PropertyError:
        if form in JSON_TYPES:
            return _other_type(name, type_, NUMBER)
        # -device in k=v form goes through the keyval visitor, -global through the string visitor.
        word = {TEXT: "integer"}.get(form, "int64" if kind.signed else "uint64")
        return f"Parameter '{name}' expects {word}"
    return None if good else f"Parameter '{name}' expects {kind.name}"


# They change no byte of the configuration space: they name something of the host or of the guest
# that a trial does not have, or decide about migration as a whole. A trial leaves them out.
UNTRIED = frozenset(
    (
        *("host", "sysfsdev", "fd", "iommufd", "vf-token", "id", "bus", "addr"),
        *("bootindex", "acpi-index", "failover_pair_id", "enable-migration", "display", "ramfb"),
        *("xres", "yres", "x-ramfb-migrate", "x-vga", "x-igd-opregion", "x-igd-lpc"),
        *("x-igd-legacy-mode", "x-balloon-allowed", "x-pre-copy-dirty-page-tracking"),
        *("x-device-dirty-page-tracking", "x-migration-multifd-transfer", "migration-events"),
    )
)

"""Values of device properties in the notation of QEMU's ``-device``, as QEMU parses them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import PreflightError


class PropertyError(PreflightError):
    """A device property whose value QEMU would not take."""


_TRUE = ("on", "yes", "true", "y")
_FALSE = ("off", "no", "false", "n")
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


def number(properties: Mapping[str, str], name: str, default: int, lowest: int = 0) -> int:
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

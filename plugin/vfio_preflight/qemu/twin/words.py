"""The argument of a QEMU option, taken apart and put together: ``a,b=c`` or JSON.

    >>> options = read("pcie-root-port,id=p,addr=0x2", "driver")
    >>> options["driver"], write({**options, "id": "q"}, "driver")
    ('pcie-root-port', 'pcie-root-port,id=q,addr=0x2')

Source: QEMU, ``opts_do_parse()`` (util/qemu-option.c); ``qemu_init()`` (system/vl.c), which takes
an argument for JSON if it begins with a brace.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ...errors import PreflightError
from ...osutil.light import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


class ArgumentError(PreflightError):
    """An argument that cannot be read."""


def is_json(text: str) -> bool:
    """Whether QEMU reads this argument as JSON."""
    return text.startswith("{")


def read(text: str, implied: str = "") -> dict[str, Any]:
    """The options of an argument. Raises :class:`ArgumentError` for JSON that is none."""
    if is_json(text):
        return _read_json(text)
    options: dict[str, Any] = {}
    for position, word in enumerate(split(text)):
        key, equals, value = word.partition("=")
        if not equals and position == 0 and implied:
            key, value = implied, word
        elif not equals:
            key, value = word, "on"
        options[key] = value
    return options


def write(options: Mapping[str, object], implied: str = "") -> str:
    """The argument with these options, in the k=v form."""
    words: list[str] = []
    for key, value in options.items():
        text = _as_option(value).replace(",", ",,")
        # Only a first word may do without its key.
        words.append(text if key == implied and not words else f"{key}={text}")
    return ",".join(words)


def write_like(text: str, options: Mapping[str, object], implied: str = "") -> str:
    """The argument with these options, in the form that ``text`` has."""
    # JSON stays JSON: there QEMU refuses "on" for true, and properties may be lists.
    return json.dumps(options) if is_json(text) else write(options, implied)


def split(text: str) -> list[str]:
    """The words between single commas; two commas are one that is meant."""
    # An argument has no NUL.
    words = [word.replace("\0", ",") for word in text.replace(",,", "\0").split(",")]
    return words if words[-1] else words[:-1]


def is_set(value: object) -> bool:
    """Whether a boolean option is on, in either form."""
    return value is True or str(value) in ("on", "yes", "true", "y")


def number(value: object) -> int | None:
    """A whole number in digits; None for anything else, and for one that no option can be."""
    return int(str(value)) if re.fullmatch(r"[0-9]{1,20}", str(value), re.ASCII) else None


def _as_option(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _read_json(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"an argument that is not JSON: {text[:60]}") from error
    if not isinstance(options, dict):
        raise ArgumentError(f"an argument that is no object of JSON: {text[:60]}")
    return options

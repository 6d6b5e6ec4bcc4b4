"""What operators write on the command line: device names, and what does not go together."""

from __future__ import annotations

import re
from argparse import ArgumentParser

from ..errors import PreflightError

_ADDRESS = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([01][0-9a-f])\.([0-7])", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class UsageError(PreflightError):
    """Arguments that do not go together."""


def add_format(parser: ArgumentParser) -> None:
    """The option every command has."""
    parser.add_argument("--format", choices=("text", "json"), default="text")


def device_name(text: str) -> str | None:
    """A PCI address (domain 0000 if left out) or mdev UUID in normal form; else None."""
    match = _ADDRESS.fullmatch(text)
    if match:
        domain, bus, slot, function = match.groups()
        # libvirt and sysfs write addresses in lower case, with the domain.
        return f"{domain or '0000'}:{bus}:{slot}.{function}".lower()
    return text.lower() if _UUID.fullmatch(text) else None

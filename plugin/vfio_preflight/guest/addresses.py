"""PCI addresses and mdev UUIDs: validated, and normalised before anything else uses them.

>>> pci_address({"domain": "0x0000", "bus": "0x05", "slot": "0x00", "function": "0x0"})
'0000:05:00.0'
>>> sysfs_device("/sys/bus/pci/devices/0000:06:00.4")
'0000:06:00.4'
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .xml import GuestError

# The limits of virPCIDeviceAddressIsValid(): 8 bits of bus, 5 of slot, 3 of function.
_PCI_FIELDS = (("domain", 0xFFFFFFFF), ("bus", 0xFF), ("slot", 0x1F), ("function", 7))
_BLANKS = " \t\n\v\f\r"
_DIGITS = {8: "01234567", 10: "0123456789", 16: "0123456789abcdefABCDEF"}
# Patterns are compiled where they are used: most guests need none of them.
# Domains beyond ffff exist: those of NVMe behind Intel VMD begin at 10000.
_HOST = r"(?:([0-9a-fA-F]{1,8}):)?([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2})\.([0-7])"
_UUID_PAIRS = r"(?:[0-9a-fA-F]{2}[- ]*){16}"
_UUID_LENGTH = 36
_UUID_CUTS = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))


def unsigned(text: str) -> int | None:
    """Return an unsigned 32-bit number as libvirt's ``virStrToLong_uip`` reads it in base 0.

    That is decimal, ``0x`` hexadecimal or ``0`` octal; None for anything else.
    """
    # strtoul() skips leading white space, and so does libvirt.
    digits = text.lstrip(_BLANKS)
    digits = digits[1:] if digits.startswith("+") else digits
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits.startswith("0") else 10
    digits = digits[2:] if base == 16 else digits
    # The length is limited, as int() is quadratic in it.
    if not 0 < len(digits) <= 24 or digits.strip(_DIGITS[base]):
        return None
    value = int(digits, base)
    return value if value <= 0xFFFFFFFF else None


def pci_address(attributes: Mapping[str, str]) -> str:
    """Return the address in the attributes of an ``<address>`` element as ``0000:05:00.0``.

    What is left out is 0. Raises GuestError for a number that libvirt refuses.
    """
    return _formatted(*(_field(attributes, name, limit) for name, limit in _PCI_FIELDS))


def host_address(text: str) -> str | None:
    """Return an address in QEMU's ``host=`` notation, ``[domain:]bus:slot.function``, in full.

    None for anything else (QEMU's ``set_pci_host_devaddr``).
    """
    match = re.fullmatch(_HOST, text)
    if match is None:
        return None
    numbers = [int(part or "0", 16) for part in match.groups()]
    # Five bits; a pattern for that would be hard to read.
    return _formatted(*numbers) if numbers[2] <= 0x1F else None


def uuid(text: str) -> str | None:
    """Return a UUID in lower case with its four hyphens, read as libvirt's ``virUUIDParse`` does.

    None for anything that does not have 32 hexadecimal digits.
    """
    # virUUIDParse() ignores surrounding white space, and spaces and hyphens between the digits.
    text = text.strip(_BLANKS).lstrip("- ")
    if len(text) > 256 or not re.fullmatch(_UUID_PAIRS, text):
        return None
    digits = text.replace("-", "").replace(" ", "").lower()
    return "-".join(digits[start:end] for start, end in _UUID_CUTS)


def sysfs_device(path: str) -> str | None:
    """Return the PCI address or mdev UUID that names the device of a ``sysfsdev=`` path.

    Only the last component is looked at, and returned only where it is such a name; the path itself
    is never used.
    """
    name = path.rstrip("/").rpartition("/")[2]
    # The names cannot be confused: only a PCI address contains colons.
    return host_address(name) or uuid(name)


def is_mdev(name: str) -> bool:
    """Whether a device's name, an address or UUID as the functions above write it, is an mdev's."""
    return len(name) == _UUID_LENGTH


def _field(attributes: Mapping[str, str], name: str, limit: int) -> int:
    text = attributes.get(name, "0")
    value = unsigned(text)
    if value is None or value > limit:
        raise GuestError(f"PCI address with {name}={text[:40]!r}: expected 0 to {limit:#x}")
    return value


def _formatted(domain: int, bus: int, slot: int, function: int) -> str:
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"

"""AtomicOps: the widths in which a host's root completes what a device asks of it.

    >>> to_text(0b011), from_text("32 64"), to_text(0)
    ('32 64', 3, 'none')

A set of widths is a number, as VFIO has it: bit 0 is 32 bits, bit 1 is 64, bit 2 is 128
(``VFIO_PCI_ATOMIC_COMP32`` and so on). Device Capabilities 2 has the same three from bit 7 on.

Source: PCI Express Base 5.0, 6.15 and 7.5.3.15; Linux ``include/uapi/linux/vfio.h``.
"""

from __future__ import annotations

WIDTHS = (32, 64, 128)
NONE = "none"
ALL = (1 << len(WIDTHS)) - 1

# Offsets in the PCI Express capability, and bits there.
PCI_EXP_DEVCAP2 = 0x24
PCI_EXP_DEVCTL2 = 0x28
PCI_EXP_DEVCAP2_ATOMIC_ROUTE = 0x40
PCI_EXP_DEVCTL2_ATOMIC_EGRESS_BLOCK = 0x80
_COMPLETER_SHIFT = 7


def to_text(widths: int) -> str:
    """The widths in words, or ``none``."""
    return " ".join(str(w) for bit, w in enumerate(WIDTHS) if widths >> bit & 1) or NONE


def from_text(text: object) -> int | None:
    """What :func:`to_text` made; None for anything else, as for widths of a later standard."""
    known = {to_text(widths): widths for widths in range(ALL + 1)}
    return known.get(text) if isinstance(text, str) else None


def completed(devcap2: int) -> int:
    """The widths that a Device Capabilities 2 register names."""
    return devcap2 >> _COMPLETER_SHIFT & ALL


def devcap2_bits(widths: int) -> int:
    """The bits of Device Capabilities 2 that name these widths."""
    return widths << _COMPLETER_SHIFT

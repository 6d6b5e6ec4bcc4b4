"""Realistic PCI configuration spaces for fake devices.

The layout of the default is that of a GPU's virtual function: PM, MSI, a vendor-specific
capability (VSC), PCIe and MSI-X, with one 16 KiB BAR that holds the MSI-X table.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Union

# A capability to place: ("pm", 0x40), or ("vsc", 0x60, body) with the VSC's body.
Capability = Union[tuple[str, int], tuple[str, int, bytes]]

VSC_BODY = bytes.fromhex("01 a1 5a 00 10 20 30 40 de ad be ef 00 00 00 01 7f")

DEFAULT_CAPABILITIES: tuple[Capability, ...] = (
    ("pm", 0x40),
    ("msi", 0x50),
    ("vsc", 0x60, VSC_BODY),
    ("pcie", 0x78),
    ("msix", 0xB8),
)

# What BAR 0 of the default needs: (index, size in bytes).
DEFAULT_BARS: tuple[tuple[int, int], ...] = ((0, 0x4000),)


def _pm(_body: bytes) -> bytes:
    """Power Management 3, no PME; NoSoftRst, so that a reset does not rely on D3hot."""
    return struct.pack("<HHH", 0x0003, 0x0008, 0)


def _msi(_body: bytes) -> bytes:
    """MSI with one vector and a 64-bit address."""
    return struct.pack("<HQH", 0x0080, 0, 0)


def _vsc(body: bytes) -> bytes:
    return bytes([3 + len(body)]) + body


def _pcie(_body: bytes) -> bytes:
    """PCI Express 2 endpoint with FLR, x16 at 8 GT/s."""
    registers = struct.pack(
        "<HIHHIHHIHHIHH", 0x0002, 0x10008FE1, 0x2910, 0, 0x00416103, 0, 0x1103, *(0,) * 6
    )
    second = struct.pack("<IHHIHHIHH", 0x00130012, 0, 0, 0x0000000E, 0x0003, 0x001E, 0, 0, 0)
    return registers + second


def _msix(_body: bytes) -> bytes:
    """MSI-X with four vectors; table and pending bits in BAR 0."""
    return struct.pack("<HII", 0x0003, 0x0000, 0x2000)


_CAPABILITIES: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "pm": (0x01, _pm),
    "msi": (0x05, _msi),
    "vsc": (0x09, _vsc),
    "pcie": (0x10, _pcie),
    "msix": (0x11, _msix),
}


def make_config(
    size: int = 256,
    vendor: int = 0x10DE,
    device: int = 0x1EB8,
    caps: Sequence[Capability] = DEFAULT_CAPABILITIES,
    class_code: int = 0x030200,
) -> bytes:
    """A configuration space of ``size`` (256 or 4096) bytes with ``caps`` linked in their order."""
    config = bytearray(size)
    struct.pack_into("<HHHH", config, 0x00, vendor, device, 0x0000, 0x0010 if caps else 0)
    struct.pack_into("<I", config, 0x08, class_code << 8 | 0xA1)
    struct.pack_into("<HH", config, 0x2C, vendor, 0x12A2)
    config[0x3D] = 0 if any(cap[0] == "msix" for cap in caps) else 1
    link = 0x34
    for capability in caps:
        name, offset = capability[0], capability[1]
        body = capability[2] if len(capability) == 3 else b""
        number, build = _CAPABILITIES[name]
        registers = build(body)
        config[link] = offset
        config[offset] = number
        config[offset + 2 : offset + 2 + len(registers)] = registers
        link = offset + 1
    if len(config) != size:
        raise ValueError("a capability lies beyond the end")
    return bytes(config)


def patched(config: bytes, offset: int, value: int) -> bytes:
    """``config`` with the byte at ``offset`` replaced."""
    return config[:offset] + bytes([value]) + config[offset + 1 :]

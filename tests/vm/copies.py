"""QEMU's own copy of a device's configuration space, found in its memory; and what differs."""

from __future__ import annotations

from collections.abc import Iterator

from vfio_preflight.qemu.model.values import VirtualConfig
from vfio_preflight.qemu.model.values import number as bits

from .guest import INTERRUPT_LINE

EXTENDED = 0x100


def memory(pid: int) -> Iterator[bytes]:
    """A process's private memory, a mapping at a time."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as file:
        for line in maps:
            span, mode, _, _, _, *path = line.split()
            if mode == "rw-p" and (not path or path == ["[heap]"]):
                begin, end = (int(part, 16) for part in span.split("-"))
                file.seek(begin)
                yield file.read(end - begin)


def copies(pid: int, expected: VirtualConfig, marked: int) -> list[bytes]:
    """The configuration spaces in QEMU's memory with that extended part and interrupt line.

    The extended part is one that no guest writes; the number is in no copy that QEMU only worked
    with when it realised the device.
    """
    anchor = expected.config[EXTENDED:]
    found = []
    for data in memory(pid):
        at = data.find(anchor)
        while at >= 0:
            config = data[max(0, at - EXTENDED) : at + len(anchor)]
            if len(config) == len(expected.config) and config[INTERRUPT_LINE] == marked:
                found.append(config)
            at = data.find(anchor, at + 1)
    return found


def differing(one: bytes, other: bytes, where: int) -> int:
    """In how many bytes the two differ, of the bits in ``where``."""
    found = (bits(one) ^ bits(other)) & where
    return sum(byte != 0 for byte in found.to_bytes(len(one), "little"))


def writable(virtual: VirtualConfig) -> int:
    """The bits that a guest writes or clears, as one number."""
    return bits(virtual.wmask) | bits(virtual.w1cmask)


def fixed(virtual: VirtualConfig) -> int:
    """All other bits."""
    return ~writable(virtual) & (1 << 8 * len(virtual.config)) - 1

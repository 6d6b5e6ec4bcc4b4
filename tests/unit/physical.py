"""Real devices' configuration spaces (``tests/devices``), as dumps show them and as VFIO does.

The files hold what was read of devices in use, in public places; serial numbers are replaced.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from vfio_preflight.host.sources.physical import presented
from vfio_preflight.host.sources.sysfs import virtualise_bars
from vfio_preflight.pci.formats import parse, read_file
from vfio_preflight.pci.space import capabilities, extended_capabilities, identity
from vfio_preflight.pci.state import Bar, ConfigState
from vfio_preflight.qemu.model.bars import likely_bars, registers
from vfio_preflight.qemu.model.values import VirtualConfig

FOLDER = Path(__file__).parents[1] / "devices"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
# Devices whose BARs no register shows: by number, size, kind.
_HIDDEN_BARS = {
    "thunderx-nic": (Bar(0, 0x200000, "mem64"), Bar(4, 0x200000, "mem64")),
}


class Real(NamedTuple):
    """A device: the bytes of the dump, and the state that VFIO presents of it."""

    physical: bytes
    vfio: ConfigState


def real(name: str) -> Real:
    """The device of that name, whose BARs have sizes that its capabilities allow."""
    reading = read_file(str(FOLDER / f"{name}.json"))
    physical = reading.state.config
    config = bytearray(presented(reading).config)
    shown = dict(registers(physical))
    least = {bar.number: bar for bar in likely_bars(reading.state._replace(bars=()))}
    sized = [
        _sized(physical, bar) for number, bar in least.items() if number in shown or number < 6
    ]
    bars = tuple(sized) if not _HIDDEN_BARS.get(name) else _HIDDEN_BARS[name]
    virtualise_bars(config, bars)
    return Real(physical, ConfigState(bytes(config), bars, "vfio", name))


def _sized(physical: bytes, bar: Bar) -> Bar:
    low = physical[0x10 + 4 * bar.number] if bar.number < 6 else 0
    size = 256 if bar.kind == "io" else max(bar.size, 0x20000)
    return bar._replace(size=size, prefetchable=bar.kind != "io" and bool(low & 8))


# --- what a dump of the device in use differs in -------------------------------------------------


def _set(config: bytearray, offset: int, bits: int) -> None:
    if offset < len(config):
        config[offset] |= bits


def _asleep(config: bytearray, at: Mapping[int, int]) -> None:
    """D3hot, PME on and pending, by any source."""
    if 0x01 in at:
        for offset, bits in ((3, 0xF8), (4, 0x03), (5, 0x81)):
            _set(config, at[0x01] + offset, bits)


def _driven(config: bytearray, at: Mapping[int, int]) -> None:
    """Command, cache line, latency, interrupt line; MSI and MSI-X as a driver sets them."""
    struct.pack_into("<H", config, 0x04, 0x0547)
    config[0x0C], config[0x0D], config[0x3C] = 0x10, 0x40, 0x2A
    config[0x07] |= 0xF9
    if 0x05 in at:
        _set(config, at[0x05] + 2, 0x01)
        # Address, and data or the address's upper half.
        for offset in range(4, 10):
            _set(config, at[0x05] + offset, 0x5C)
    if 0x11 in at:
        _set(config, at[0x11] + 3, 0xC0)


def _failed(config: bytearray, at: Mapping[int, int]) -> None:
    """Errors that were seen: Device Status, AER's registers and logs; VPD as it was last read."""
    if 0x10 in at:
        _set(config, at[0x10] + 0x0A, 0x2F)
    for offset in range(2, 8) if 0x03 in at else ():
        config[at[0x03] + offset] ^= 0xA5
    if 0x10001 in at:
        for offset in (*range(4, 8), *range(0x10, 0x14), *range(0x1C, 0x2C)):
            config[at[0x10001] + offset] ^= 0x3C


def _moved(config: bytearray, _at: Mapping[int, int]) -> None:
    """Other addresses of the host's in the BARs."""
    for number, bar in registers(bytes(config)):
        if number < 6:
            config[0x13 + 4 * number] ^= 0x40
        if bar.kind == "mem64":
            config[0x14 + 4 * number] ^= 0x7F
    config[0x30:0x34] = bytes(4)


USES: Mapping[str, Callable[[bytearray, Mapping[int, int]], None]] = {
    "as it is": lambda _config, _at: None,
    "asleep": _asleep,
    "driven": _driven,
    "failed": _failed,
    "moved": _moved,
}


def used(config: bytes, use: str) -> bytes:
    """``config`` of the device in a use of :data:`USES`."""
    # Extended ones by their ID and 10000h.
    found = {cap.id: cap.offset for cap in reversed(capabilities(config))}
    found |= {0x10000 | cap.id: cap.offset for cap in reversed(extended_capabilities(config))}
    changed = bytearray(config)
    USES[use](changed, found)
    return bytes(changed)


# --- forms of dumps -------------------------------------------------------------------------------


def _rows(config: bytes) -> str:
    return "".join(
        f"{at:02x}: {config[at : at + 16].hex(' ')}\n" for at in range(0, len(config), 16)
    )


def as_lspci(config: bytes, heading: str = "06:00.4 Ethernet controller: A card") -> bytes:
    """``lspci -xxxx``."""
    return f"{heading}\n{_rows(config)}\n".encode()


def as_vf(config: bytes) -> bytes:
    """``lspci -nn -xxxx`` of the device if it were a VF: without IDs, BARs and pin of its own."""
    bare = b"\xff" * 4 + config[4:0x10] + bytes(24) + config[0x28:0x30] + bytes(4) + config[0x34:]
    heading = f"06:00.4 Ethernet controller [0200]: A Virtual Function [{identity(config)}]"
    return as_lspci(bare[:0x3D] + b"\0" + bare[0x3E:], heading)


def as_words(config: bytes) -> bytes:
    """``hexdump -v``: numbers of 16 bits."""
    words = struct.unpack(f"<{len(config) // 2}H", config)
    rows = (words[at : at + 8] for at in range(0, len(words), 8))
    lines = (f"{16 * n:07x} {' '.join(f'{w:04x}' for w in row)}" for n, row in enumerate(rows))
    return "\n".join([*lines, f"{len(config):07x}", ""]).encode()


def as_early(config: bytes) -> bytes:
    """What the kernel prints at ``pci=earlydump``, as journalctl shows it."""
    before = "Nov 28 09:59:30 host-a kernel: "
    rows = (f"{at:08x}: {config[at : at + 16].hex(' ')}" for at in range(0, len(config), 16))
    lines = ("pci 0000:06:00.4: config space:", *rows)
    return "".join(f"{before}{line}\r\n" for line in lines).encode()


def as_mail(config: bytes) -> bytes:
    """Quoted twice."""
    return b"".join(b">> " + line + b"\n" for line in as_lspci(config).splitlines())


FORMS: Mapping[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "lspci": as_lspci,
    "words": as_words,
    "earlydump": as_early,
    "mail": as_mail,
    "json": lambda config: json.dumps(
        {"schema": 1, "view": "physical", "config": config.hex()}
    ).encode(),
}


def dumped(config: bytes, form: str = "raw") -> ConfigState:
    """The state that is read from a dump of ``config``."""
    return presented(parse(FORMS[form](config), form))


# --- streams --------------------------------------------------------------------------------------


def sent(virtual: VirtualConfig, seed: object) -> ConfigState:
    """What the source's QEMU sends once firmware and guest have written wherever they can.

    Not in extended space: what QEMU drops there of the list is writable, but no guest's to write.
    """
    noise = random.Random(repr(seed)).randbytes(0x100)
    config = bytes(
        own & ~mask & 0xFF | written & mask
        for own, mask, written in zip(virtual.config, virtual.wmask, noise)
    )
    config += virtual.config[0x100:]
    return ConfigState(config, (), "stream", "made up")

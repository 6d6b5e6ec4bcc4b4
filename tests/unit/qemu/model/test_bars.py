"""BARs, known and guessed."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.configs import make_config
from vfio_preflight.pci.state import Bar, ConfigState
from vfio_preflight.qemu.model.bars import Region, likely_bars, parse_msix, regions, rom_size


def _state(config: bytes, bars: tuple[Bar, ...] = ()) -> ConfigState:
    return ConfigState(config, bars, "file", "test")


def _with(**registers: int) -> bytes:
    """A default config with BARs 0-5 (``bar0``) or the ROM (``rom``) set."""
    config = bytearray(make_config(caps=[("pm", 0x40)]))
    for name, value in registers.items():
        offset = 0x30 if name == "rom" else 0x10 + 4 * int(name[3:])
        struct.pack_into("<I", config, offset, value)
    return bytes(config)


@pytest.mark.parametrize(
    ("low", "region"),
    [
        (0x00, Region(64, 0x0)),
        (0x01, Region(64, 0x1)),
        (0x03, Region(64, 0x3)),
        (0x0C, Region(64, 0xC)),
        (0x06, Region(64, 0x6)),
        (0xFF, Region(64, 0x3)),
    ],
)
def test_type_comes_from_the_register(low: int, region: Region) -> None:
    assert regions(_state(_with(bar2=low), (Bar(2, 64, "mem32"),))) == {2: region}


def test_io_is_never_64_bit() -> None:
    assert [Region(1, low).is_64bit for low in (0x5, 0x4, 0x6, 0x0)] == [False, True, True, False]


def test_known_bars_are_taken_as_they_are() -> None:
    bars = (Bar(1, 3, "io"), Bar(6, 0x800, "mem32"))
    state = _state(_with(bar0=0xC, bar1=1), bars)
    assert likely_bars(state) == bars
    assert (regions(state), rom_size(state)) == ({1: Region(3, 1)}, 0x800)


def test_guess_by_registers() -> None:
    state = _state(_with(bar0=0xE000000C, bar1=1, bar2=0x1001, bar4=0xD0000000, rom=1))
    found = {bar.number: bar.kind for bar in likely_bars(state)}
    assert found == {0: "mem64", 2: "io", 4: "mem32", 6: "mem32"}


def test_bar_0_may_read_as_zero() -> None:
    assert [bar.number for bar in likely_bars(_state(_with()))] == [0]


def test_msix_fits_in_what_is_guessed() -> None:
    config = bytearray(make_config(caps=[("msix", 0x40)]))
    config[0x42:0x4C] = struct.pack("<HII", 0x7FF, 0x100000 | 4, 0x3000 | 2)
    found = {bar.number: bar.size for bar in likely_bars(_state(bytes(config)))}
    assert found == {0: 0x10, 2: 0x4000, 4: 0x200000}
    assert parse_msix(bytes(config), 0x40).table_end == 0x108000


@given(st.one_of(st.binary(min_size=256, max_size=256), st.just(b"\xff" * 4096)))
def test_any_bytes_give_bars_that_qemu_can_register(config: bytes) -> None:
    bars = likely_bars(_state(config))
    assert all(bar.size & bar.size - 1 == 0 and 0 <= bar.number <= 6 for bar in bars)
    assert len({bar.number for bar in bars}) == len(bars)

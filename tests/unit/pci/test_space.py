from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.configs import make_config, patched
from unit.makers import make_extended
from vfio_preflight.pci.space import (
    Capability,
    ConfigSpaceError,
    capabilities,
    device_id,
    dword,
    extended_capabilities,
    identity,
    validate,
    vendor_id,
    word,
)

CONFIGS = st.one_of(st.binary(min_size=256, max_size=256), st.binary(min_size=4096, max_size=4096))


def offsets(config: bytes) -> list[int]:
    return [capability.offset for capability in capabilities(config)]


def test_capabilities_in_list_order_with_size_by_address() -> None:
    config = make_config(caps=[("msix", 0x70), ("pm", 0x40), ("vsc", 0x60, b"\x01\x02")])
    assert capabilities(config) == (
        Capability(0x11, 0x70, 0x40, 0x90),
        Capability(0x01, 0x40, 0x60, 0x20),
        Capability(0x09, 0x60, 0x00, 0x10),
    )


def test_capabilities_of_a_vgpu_run_downwards() -> None:
    config = make_config(caps=[("vsc", 0xD0, bytes(0x18)), ("msi", 0x68)])
    assert [(c.name, c.size) for c in capabilities(config)] == [("VSC", 0x30), ("MSI", 0x68)]


def test_capabilities_need_the_status_bit() -> None:
    assert capabilities(patched(make_config(), 0x06, 0x00)) == ()


def test_capabilities_without_pointer() -> None:
    assert offsets(patched(make_config(), 0x34, 0)) == []


@pytest.mark.parametrize(
    ("next_pointer", "expected"),
    [
        (0x40, [0x40]),
        (0x00, [0x40]),
        (0x3F, [0x40]),
        (0xFF, [0x40]),
        (0xFE, [0x40, 0xFE]),
        (0x61, [0x40, 0x61]),
    ],
)
def test_capabilities_end_at_a_bad_pointer(next_pointer: int, expected: list[int]) -> None:
    config = patched(make_config(caps=[("pm", 0x40)]), 0x41, next_pointer)
    assert offsets(config) == expected


def test_capabilities_loop_ends() -> None:
    config = patched(make_config(caps=[("pm", 0x40), ("vsc", 0x60, b"")]), 0x61, 0x40)
    assert offsets(config) == [0x40, 0x60]


def test_capability_name() -> None:
    assert Capability(0x10, 0x78, 0, 0x3C).name == "PCIe"
    assert Capability(0x10, 0x100, 0, 0x40, extended=True).name == "SR-IOV"
    assert Capability(0xEE, 0x40, 0, 8).name == "capability 0xee"


def test_extended_capabilities_need_4096_bytes() -> None:
    assert extended_capabilities(make_config(256)) == ()


def test_extended_capabilities_none() -> None:
    assert extended_capabilities(make_config(4096)) == ()


def test_extended_capabilities() -> None:
    entries = [(0x100, 0x0001, b""), (0x200, 0x000B, b""), (0x148, 0x0003, b"")]
    config = make_extended(make_config(4096), entries, version=2)
    assert extended_capabilities(config) == (
        Capability(0x01, 0x100, 0x200, 0x48, True, 2),
        Capability(0x0B, 0x200, 0x148, 0xE00, True, 2),
        Capability(0x03, 0x148, 0x000, 0xB8, True, 2),
    )


@pytest.mark.parametrize("pointer", [0x100, 0x0FC, 0x004, 0x000])
def test_extended_capabilities_end_at_a_bad_pointer(pointer: int) -> None:
    config = bytearray(make_config(4096))
    struct.pack_into("<I", config, 0x100, 0x0001 | 1 << 16 | pointer << 20)
    assert [c.offset for c in extended_capabilities(bytes(config))] == [0x100]


def test_extended_pointer_loses_its_low_bits() -> None:
    config = make_extended(make_config(4096), [(0x100, 1, b""), (0x140, 3, b"")])
    config = patched(config, 0x102, config[0x102] | 0x30)
    assert [c.offset for c in extended_capabilities(config)] == [0x100, 0x140]


def test_extended_capability_at_the_last_dword() -> None:
    config = make_extended(make_config(4096), [(0x100, 1, b""), (0xFFC, 3, b"")])
    assert extended_capabilities(config)[-1].size == 4


def test_numbers_are_little_endian() -> None:
    config = make_config(vendor=0x15B3, device=0x101E)
    assert (vendor_id(config), device_id(config)) == (0x15B3, 0x101E)
    assert (word(config, 0), dword(config, 0)) == (0x15B3, 0x101E15B3)
    assert identity(config) == "15b3:101e"


@pytest.mark.parametrize("size", [256, 4096])
def test_validate_accepts(size: int) -> None:
    assert validate(bytes(size), "x") == bytes(size)


@pytest.mark.parametrize("size", [0, 64, 255, 257, 4095, 4097])
def test_validate_refuses(size: int) -> None:
    with pytest.raises(ConfigSpaceError) as caught:
        validate(bytes(size), "/sys/config")
    message = str(caught.value)
    assert message.startswith(f"/sys/config: {size} bytes are not a PCI configuration space")
    assert "as root" in message


@given(CONFIGS)
def test_any_bytes_give_disjoint_capabilities_inside_the_space(config: bytes) -> None:
    for found, low, high in (
        (capabilities(config), 0x40, 0x100),
        (extended_capabilities(config), 0x100, 0x1000),
    ):
        spans = sorted((c.offset, c.offset + c.size) for c in found)
        assert all(low <= start < end <= high for start, end in spans)
        assert all(one[1] <= other[0] for one, other in zip(spans, spans[1:]))
        assert not spans or spans[-1][1] == high

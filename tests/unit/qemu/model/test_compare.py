from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.configs import make_config, patched
from unit.makers import make_extended
from unit.realised import ROOT_PORT, changed, virtual
from vfio_preflight.qemu.model.vfio_pci import Mismatch, VirtualConfig, compare

STRICT = ROOT_PORT._replace(skip_vsc_check=False)
EXTENDED = make_extended(make_config(4096), [(0x100, 0x0001, b""), (0x200, 0x000B, b"")])


def test_line_is_the_one_qemu_prints() -> None:
    config = patched(make_config(), 0x63, 0xA1)
    (found,) = compare(virtual(config, STRICT).config, virtual(patched(config, 0x63, 0xF1), STRICT))
    assert found.line == (
        "get_pci_config_device: Bad config data: i=0x63 read: a1 device: f1 cmask: ff wmask: 0"
        " w1cmask:0"
    )


def test_line_has_the_masks_of_the_byte() -> None:
    assert Mismatch(0xBB, 0x00, 0x04, 0xFF, 0xC0, 0x00).line.endswith(
        "i=0xbb read: 0 device: 4 cmask: ff wmask: c0 w1cmask:0"
    )


def test_equal_configs() -> None:
    assert compare(virtual(EXTENDED).config, virtual(EXTENDED)) == ()


def test_all_mismatches_in_order_of_offset() -> None:
    other = changed(EXTENDED, {0x43: 0xEE, 0x08: 0xEE, 0x210: 0xEE, 0x63: 0xEE, 0x2C: 0xEE})
    found = compare(virtual(EXTENDED).config, virtual(other))
    assert [mismatch.offset for mismatch in found] == [0x08, 0x43, 0x210]


@pytest.mark.parametrize(("stream", "device"), [(256, 4096), (4096, 256)])
def test_sizes_must_agree(stream: int, device: int) -> None:
    with pytest.raises(ValueError, match=f"stream of {stream} bytes, device of {device}"):
        compare(bytes(stream), virtual(make_config(device)))


@pytest.mark.parametrize(
    ("cmask", "wmask", "w1cmask", "differs"),
    [
        (0xFF, 0x00, 0x00, True),
        (0x00, 0x00, 0x00, False),
        (0xFF, 0x10, 0x00, False),
        (0xFF, 0x00, 0x10, False),
        (0x10, 0xEF, 0xEF, True),
        (0xEF, 0x00, 0x00, False),
    ],
)
def test_masks(cmask: int, wmask: int, w1cmask: int, differs: bool) -> None:
    device = VirtualConfig(b"\x10", bytes([cmask]), bytes([wmask]), bytes([w1cmask]))
    assert bool(compare(b"\x00", device)) == differs
    assert bool(device.compared()[0] & 0x10) == differs


def test_only_the_devices_property_counts() -> None:
    other = patched(make_config(), 0x63, 0xEE)
    assert compare(virtual(make_config(), STRICT).config, virtual(other, ROOT_PORT)) == ()
    assert compare(virtual(make_config(), ROOT_PORT).config, virtual(other, STRICT)) != ()


BODIES = st.dictionaries(
    st.one_of(
        st.integers(0x42, 0x43),
        st.integers(0x62, 0x77),
        st.integers(0x7C, 0xB3),
        st.integers(8, 11),
    ),
    st.integers(0, 0xFF),
    max_size=6,
)


@given(BODIES, BODIES)
def test_detection_is_symmetric_where_the_lists_are_equal(
    one: dict[int, int], other: dict[int, int]
) -> None:
    left, right = changed(make_config(), one), changed(make_config(), other)
    there = compare(virtual(left).config, virtual(right))
    back = compare(virtual(right).config, virtual(left))
    assert [(m.offset, m.stream, m.device) for m in there] == [
        (m.offset, m.device, m.stream) for m in back
    ]


@given(BODIES)
def test_tolerance_only_ever_takes_mismatches_away(changes: dict[int, int]) -> None:
    stream = virtual(make_config()).config
    strict = compare(stream, virtual(changed(make_config(), changes), STRICT))
    tolerant = compare(stream, virtual(changed(make_config(), changes), ROOT_PORT))
    kept = [m for m in strict if not 0x63 <= m.offset < 0x78]
    assert [m.offset for m in tolerant] == [m.offset for m in kept]

"""Devices that QEMU refuses, or takes against all appearance, as seen on QEMU 10.0.2."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.configs import make_config, patched
from unit.makers import BAR0, make_extended, make_state
from unit.realised import (
    EVERYWHERE,
    ROOT_PORT,
    V9_2,
    V10_0,
    V11_1,
    chain,
    changed,
    extended_chain,
    refused,
    virtual,
)
from vfio_preflight.pci.state import Bar
from vfio_preflight.qemu.model.vfio_pci import (
    Environment,
    PropertyError,
    Refusal,
    VirtualConfig,
    compare,
    realise,
)

# --- malformed lists -----------------------------------------------------------------------------


@EVERYWHERE
@pytest.mark.parametrize(
    "config",
    [
        patched(make_config(), 0x41, 0x40),
        patched(make_config(), 0xB9, 0x40),
        patched(make_config(), 0xB9, 0x60),
        b"\xff" * 256,
        b"\xff" * 4096,
    ],
    ids=["itself", "first", "middle", "all ff, 256", "all ff, 4096"],
)
def test_loop_hangs(config: bytes, environment: Environment) -> None:
    assert refused(config, environment)[0] == "hang"


# The list is 44, 40; PM reaches up to 47.
PM_BELOW_VSC = changed(make_config(caps=[("pm", 0x40)]), {0x34: 0x44, 0x44: 0x09, 0x45: 0x40})


@pytest.mark.parametrize(
    "config",
    [
        patched(make_config(), 0x34, 0x41),
        make_config(caps=[("pm", 0x40), ("vsc", 0x44, b"")]),
        PM_BELOW_VSC,
        make_config(caps=[("msi", 0x50), ("vsc", 0x5C, b"")]),
        make_config(caps=[("msix", 0xB8), ("pm", 0xC0)]),
    ],
    ids=["pointer 41", "pm", "pm from below", "msi", "msix"],
)
def test_overlap_is_refused(config: bytes) -> None:
    kind, reason = refused(config, bars=())
    assert kind == "error" and "overlaps existing capability" in reason


def test_overlap_is_quoted_as_qemu_does() -> None:
    kind, reason = refused(PM_BELOW_VSC)
    words = "Attempt to add PCI capability 9 at offset 44 overlaps existing capability 40 at offset"
    assert kind == "error" and words in reason


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (patched(make_config(caps=[("pm", 0x40)]), 0x41, 0xFF), [0x40, 0xFF]),
        (patched(make_config(caps=[("pm", 0x40)]), 0x41, 0x83), [0x40, 0x83]),
        (patched(make_config(caps=[("pm", 0x40)]), 0x34, 0x00), []),
        (patched(make_config(caps=[("pm", 0x40)]), 0x06, 0x00), [0x40]),
    ],
    ids=["ff", "low bits", "no pointer", "no list"],
)
def test_odd_pointers_are_accepted(config: bytes, expected: list[int]) -> None:
    assert chain(virtual(config, bars=()).config[:256] + b"\0") == expected


def test_capability_at_ff_of_4096_bytes_has_its_pointer_at_100() -> None:
    """hw/vfio reads it there, hw/pci at 00: the overlap with the header goes unnoticed."""
    config = patched(make_config(4096, caps=[("pm", 0x40)]), 0x41, 0xFF)
    config = make_extended(config, [(0x100, 0x0002, b"")])
    assert extended_chain(virtual(config).config) == [(0x100, 0x0002)]
    looping = make_extended(config, [(0x100, 0x0040, b"")])
    assert refused(looping)[0] == "hang"


def test_pointer_into_the_header_makes_a_capability_of_it() -> None:
    config = patched(make_config(caps=[("pm", 0x40)]), 0x41, 0x2C)
    config = changed(config, {0x2C: 0xDE, 0x2D: 0x00})
    shown = virtual(config, bars=())
    assert chain(shown.config) == [0x40, 0x2C]
    assert shown.compared()[0x2C:0x34] == b"\xff" * 8


# --- MSI, MSI-X ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "works"), [(0, True), (5, True), (6, False), (7, False)])
def test_msi_vectors(order: int, works: bool) -> None:
    config = patched(make_config(caps=[("msi", 0x50)]), 0x52, 0x80 | order << 1)
    result = realise(make_state(config), ROOT_PORT)
    assert isinstance(result, VirtualConfig) == works
    assert works or result[0] == "abort"


def test_msi_state_of_the_host_does_not_show() -> None:
    """``msi_reset`` clears address, data, mask and pending bits before any stream is loaded."""
    config = patched(make_config(caps=[("msi", 0x50)]), 0x53, 0x01)
    busy = changed(config, dict.fromkeys((0x52, *range(0x54, 0x5E), *range(0x60, 0x68)), 0xF1))
    busy = patched(busy, 0x52, 0xF1)
    assert virtual(busy).config[0x50:0x70] == virtual(config).config[0x50:0x70]


def test_power_state_of_the_host_does_not_show() -> None:
    assert virtual(patched(make_config(), 0x44, 0x03)).config[0x44] == 0x00
    older = ROOT_PORT._replace(behaviour=V9_2)
    assert virtual(patched(make_config(), 0x44, 0x03), older).config[0x44] == 0x03


@pytest.mark.parametrize(
    ("changes", "bars", "kind"),
    [
        ({0xBD: 0x40}, (BAR0,), "error"),
        ({0xC1: 0x40}, (BAR0,), "error"),
        ({0xC0: 0x08, 0xC1: 0x00}, (BAR0,), "error"),
        ({0xBA: 0xFF, 0xBB: 0x07}, (BAR0,), "error"),
        ({0xBC: 0x01}, (BAR0,), "crash"),
        ({0xBC: 0x06}, (BAR0,), "crash"),
        ({0xC0: 0x07}, (BAR0,), "crash"),
        ({0xC0: 0x01}, (BAR0,), "error"),
        ({0xC0: 0x01}, (BAR0, Bar(1, 0x4000, "mem32")), ""),
        ({}, (Bar(0, 0x1000, "mem32"),), "error"),
    ],
    ids=["table outside", "PBA outside", "overlap", "too many", "table in absent BAR",
         "table in BAR 6", "PBA in BAR 7", "PBA in absent BAR", "two BARs", "small BAR"],
)  # fmt: skip
def test_msix_in_its_bars(changes: Mapping[int, int], bars: tuple[Bar, ...], kind: str) -> None:
    result = realise(make_state(changed(make_config(), changes), bars), ROOT_PORT)
    assert (result.kind if isinstance(result, Refusal) else "") == kind


@pytest.mark.parametrize(("pba", "kind"), [(0x00, ""), (0x01, "crash")], ids=["one", "two"])
def test_second_msix_capability(pba: int, kind: str) -> None:
    """QEMU adds table and PBA to their BARs once more: one BAR survives that, two do not."""
    config = make_config(caps=[("msix", 0x40), ("msix", 0x50)])
    bars = (BAR0, Bar(1, 0x4000, "mem32"))
    result = realise(make_state(changed(config, {0x48: pba}), bars), ROOT_PORT)
    assert (result.kind if isinstance(result, Refusal) else "") == kind


@pytest.mark.parametrize(("vendor", "device"), [(0x1425, 0x5801), (0x1D22, 0x3685)])
def test_msix_errata(vendor: int, device: int) -> None:
    config = changed(make_config(vendor=vendor, device=device), {0xC2: 0x46})
    bars = (Bar(0, 0x10000, "mem32"),)
    assert virtual(config, bars=bars).config[0xC2] == 0x00
    assert refused(changed(make_config(), {0xC2: 0x46}), bars=bars)[0] == "error"


def test_msix_control_bits_of_the_host_do_not_show() -> None:
    config = changed(make_config(), {0xBB: 0xC0})
    assert virtual(config).config[0xBB] == 0x00


# --- property: nothing but answers ---------------------------------------------------------------

EXTENDED = make_extended(make_config(4096), [(0x100, 1, b""), (0x140, 0x15, b""), (0x180, 3, b"")])
CONFIGS = st.one_of(
    st.binary(min_size=256, max_size=256),
    st.binary(min_size=4096, max_size=4096),
    st.dictionaries(st.integers(0x00, 0xFF), st.integers(0, 0xFF), max_size=12).map(
        lambda changes: changed(make_config(), changes)
    ),
    st.dictionaries(st.integers(0x00, 0x1FF), st.integers(0, 0xFF), max_size=12).map(
        lambda changes: changed(
            make_extended(
                make_config(4096), [(0x100, 1, b""), (0x140, 0x15, b""), (0x180, 3, b"")]
            ),
            changes,
        )
    ),
)
ENVIRONMENTS = st.builds(
    Environment,
    st.sampled_from(["root-port", "root-complex", "conventional"]),
    st.booleans(),
    st.booleans(),
    st.dictionaries(
        st.sampled_from(
            ["x-pci-vendor-id", "x-nv-gpudirect-clique", "rombar", "romfile", "multifunction"]
        ),
        st.one_of(st.sampled_from(["0", "on", "0x10de", "15", "-1"]), st.text(max_size=4)),
        max_size=2,
    ),
    st.sampled_from([V9_2, V10_0, V11_1]),
)
BARS = st.lists(
    st.builds(
        Bar,
        st.integers(0, 6),
        st.integers(0, 63).map(lambda order: 1 << order) | st.integers(1, 100),
        st.sampled_from(["io", "mem32", "mem64"]),
    ),
    max_size=4,
).map(tuple)


@given(CONFIGS, ENVIRONMENTS, BARS)
def test_any_bytes_give_a_device_or_a_refusal(
    config: bytes, environment: Environment, bars: tuple[Bar, ...]
) -> None:
    try:
        result = realise(make_state(config, bars), environment)
    except PropertyError as error:
        assert environment.properties and str(error)
        return
    if isinstance(result, Refusal):
        assert result.kind in ("error", "abort", "crash", "hang") and result.reason
    else:
        assert {len(array) for array in result} == {len(config)}
        assert compare(result.config, result) == ()

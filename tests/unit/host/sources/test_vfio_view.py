"""Against the kernel's own rules: ``drivers/vfio/pci/vfio_pci_config.c``."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.configs import make_config, patched
from unit.makers import make_extended
from vfio_preflight.host.sources.vfio_view import EXTENDED_SHOWN, SHOWN, vfio_view
from vfio_preflight.pci.space import capabilities, extended_capabilities


def make_list(*entries: tuple[int, int, bytes], size: int = 256) -> bytes:
    """A space with capabilities: offset, ID, what follows the next pointer."""
    config = bytearray(make_config(size, caps=()))
    config[6] |= 0x10
    previous = 0x34
    for offset, identifier, body in entries:
        config[previous] = offset
        config[offset] = identifier
        config[offset + 2 : offset + 2 + len(body)] = body
        previous = offset + 1
    return bytes(config)


def ids(config: bytes) -> list[int]:
    return [capability.id for capability in capabilities(config)]


def extended_ids(config: bytes) -> list[tuple[int, int]]:
    return [(capability.offset, capability.id) for capability in extended_capabilities(config)]


def make_express(entries: Iterable[tuple[int, int, bytes]]) -> bytes:
    return make_extended(make_config(4096), entries)


def header(identifier: int, following: int, version: int = 1) -> int:
    return identifier | version << 16 | following << 20


# --- standard capabilities -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [256, 4096])
def test_nothing_to_hide(size: int) -> None:
    assert vfio_view(make_config(size)) == make_config(size)


@pytest.mark.parametrize("identifier", sorted(SHOWN))
def test_shown(identifier: int) -> None:
    config = make_list((0x40, 0x01, b""), (0x60, identifier, b"\x10"), (0x80, 0x11, b""))
    assert vfio_view(config) == config


@pytest.mark.parametrize("identifier", [n for n in (*range(0x18), 0x7F, 0xFF) if n not in SHOWN])
def test_hidden_in_the_middle(identifier: int) -> None:
    config = make_list((0x40, 0x01, b""), (0x60, identifier, b"\x10"), (0x80, 0x11, b""))
    view = vfio_view(config)
    assert ids(view) == [0x01, 0x11]
    assert view == patched(config, 0x41, 0x80)  # its bytes stay where they are


def test_hidden_at_the_head() -> None:
    config = make_list((0x40, 0x04, b""), (0x60, 0x0D, b""), (0x80, 0x11, b""))
    assert vfio_view(config) == patched(config, 0x34, 0x80)


def test_hidden_at_the_end() -> None:
    config = make_list((0x40, 0x01, b""), (0x60, 0x14, b""), (0x80, 0x0F, b""))
    assert vfio_view(config) == patched(config, 0x41, 0)


def test_all_hidden_is_no_list_at_all() -> None:
    config = make_list((0x40, 0x14, b""))
    view = vfio_view(config)
    assert (view[6] & 0x10, view[0x34]) == (0, 0)
    assert capabilities(view) == ()


def test_vsc_without_a_length_is_hidden() -> None:
    """``vfio_cap_len`` takes the VSC's own length, and what has none is hidden."""
    config = make_list((0x40, 0x01, b""), (0x60, 0x09, b"\x00"), (0x80, 0x11, b""))
    assert ids(vfio_view(config)) == [0x01, 0x11]


def test_vsc_of_one_byte_leads_where_it_leads() -> None:
    """Its pointer is not the capability's own any more, and not virtualised."""
    config = make_list((0x60, 0x09, b"\x01"), (0x70, 0x14, b""), (0x80, 0x11, b""))
    assert vfio_view(config) == config


def test_vsc_that_abuts_another_leads_where_it_leads() -> None:
    """``vfio_find_cap_start`` takes both for one, that begins with the first."""
    entries = ((0x60, 0x09, b"\x10"), (0x70, 0x09, b"\x10"), (0x90, 0x14, b""), (0xA0, 0x11, b""))
    assert vfio_view(make_list(*entries)) == make_list(*entries)
    apart = ((0x60, 0x09, b"\x0c"), *entries[1:])
    assert ids(vfio_view(make_list(*apart))) == [0x09, 0x09, 0x11]


def test_pme_is_not_shown_and_the_device_is_awake() -> None:
    """``vfio_update_pm_vconfig_bytes``: PME_Support, PME_En and PME_Status are the host's."""
    config = make_list((0x40, 0x14, b""), (0x50, 0x01, b"\xff" * 6), (0x80, 0x11, b""))
    view = vfio_view(config)
    assert view[0x52:0x58] == b"\xff\x07\xfc\x7e\xff\xff"
    changed = {0x34: 0x50, 0x53: 0x07, 0x54: 0xFC, 0x55: 0x7E}
    for offset, value in changed.items():
        config = patched(config, offset, value)
    assert view == config


def test_pme_of_what_is_not_the_pm_capability_is_shown() -> None:
    entries = ((0xB0, 0x11, b"\xff" * 6), (0xFC, 0x01, b"\xff" * 2))
    assert vfio_view(make_list(*entries)) == patched(make_list(*entries), 0xFF, 0x07)
    overlapped = make_list((0x40, 0x01, b"\xff"), (0x43, 0x0D, b""), (0x45, 0x11, b"\xff"))
    assert vfio_view(overlapped)[0x45] == 0x11


def test_without_a_list_nothing_is_hidden() -> None:
    config = make_config(caps=())
    assert vfio_view(patched(config, 0x34, 0x40)) == patched(config, 0x34, 0x40)


def test_interrupt_pin_of_a_virtual_function() -> None:
    config = patched(make_config(), 0x3D, 1)
    assert vfio_view(config) == config
    assert vfio_view(config, virtual_function=True) == make_config()


# --- extended capabilities -----------------------------------------------------------------------

VSEC = struct.pack("<I", 0x018 << 20)
AER, ARI, PASID, DVSEC, DPC = 0x01, 0x0E, 0x1B, 0x23, 0x1D


@pytest.mark.parametrize("identifier", sorted(EXTENDED_SHOWN))
def test_extended_shown(identifier: int) -> None:
    config = make_express([(0x100, AER, b""), (0x180, identifier, VSEC), (0x200, ARI, b"")])
    assert vfio_view(config) == config


@pytest.mark.parametrize("identifier", [0x05, 0x0A, 0x0C, 0x11, 0x14, 0x19, PASID, DPC, 0x2E, 0x30])
def test_extended_hidden(identifier: int) -> None:
    config = make_express([(0x100, AER, b""), (0x180, identifier, VSEC), (0x200, ARI, b"")])
    view = vfio_view(config)
    assert extended_ids(view) == [(0x100, AER), (0x200, ARI)]
    assert view[0x104:] == config[0x104:]


@pytest.mark.parametrize("identifier", [0x0B, DVSEC])
def test_extended_without_a_length_is_hidden(identifier: int) -> None:
    config = make_express([(0x100, AER, b""), (0x180, identifier, bytes(4)), (0x200, ARI, b"")])
    assert extended_ids(vfio_view(config)) == [(0x100, AER), (0x200, ARI)]


def test_extended_hidden_at_the_head_stays_as_an_anchor() -> None:
    config = make_express([(0x100, PASID, b""), (0x180, DPC, b""), (0x200, ARI, b"")])
    view = vfio_view(config)
    assert view[0x100:0x104] == struct.pack("<I", header(0, 0x200, version=0))
    assert extended_ids(view) == [(0x100, 0), (0x200, ARI)]


def test_extended_all_hidden() -> None:
    view = vfio_view(make_express([(0x100, PASID, b""), (0x180, DPC, b"")]))
    assert view[0x100:0x104] == bytes(4)


def test_extended_null_at_the_head_is_shown_as_it_is() -> None:
    config = make_express([(0x100, 0, b""), (0x180, DPC, b""), (0x200, ARI, b"")])
    assert vfio_view(config) == config


def test_extended_that_abuts_one_of_its_kind_leads_where_it_leads() -> None:
    entries = [(0x100, 0x0B, VSEC), (0x118, 0x0B, VSEC), (0x180, DPC, b""), (0x200, ARI, b"")]
    assert vfio_view(make_express(entries)) == make_express(entries)
    entries[1] = (0x120, 0x0B, VSEC)
    assert (0x180, DPC) not in extended_ids(vfio_view(make_express(entries)))


def test_extended_is_looked_for_behind_a_pcie_capability_alone() -> None:
    plain = make_config(4096, caps=(("pm", 0x40), ("msix", 0xB8)))
    config = make_extended(plain, [(0x100, AER, b""), (0x180, DPC, b"")])
    assert vfio_view(config) == config


# --- anything ------------------------------------------------------------------------------------


@given(st.binary(min_size=256, max_size=256), st.booleans())
def test_any_256_bytes(config: bytes, vf: bool) -> None:
    assert len(vfio_view(config, vf)) == 256


@given(st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), max_size=40))
def test_any_pointers(changes: list[tuple[int, int]]) -> None:
    config = make_express([(0x100, AER, b""), (0x180, 0x0B, VSEC), (0x200, DPC, b"")])
    for offset, value in changes:
        config = patched(config, offset, value)
    assert len(vfio_view(config)) == 4096


def test_loops_end() -> None:
    looped = patched(make_list((0x40, 0x14, b""), (0x60, 0x14, b"")), 0x61, 0x40)
    assert len(vfio_view(looped)) == 256
    endless = bytearray(make_express([(0x100, DPC, b""), (0x180, DPC, b"")]))
    struct.pack_into("<I", endless, 0x180, header(DPC, 0x180))
    assert len(vfio_view(bytes(endless))) == 4096

"""What QEMU presents to the guest of a sound device, wherever the guest sees it (QEMU 10.0.2)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lab.configs import Capability, make_config, patched
from unit.makers import BAR0
from unit.realised import (
    CONVENTIONAL,
    EVERYWHERE,
    I440FX,
    ROOT_COMPLEX,
    ROOT_PORT,
    V10_0,
    V11_1,
    chain,
    changed,
    refused,
    virtual,
)
from vfio_preflight.pci.state import Bar
from vfio_preflight.qemu.model.versions import Behaviour
from vfio_preflight.qemu.model.vfio_pci import Environment, compare

PCIE = 0x78


def make_pcie(kind: int, version: int = 2, caps: Sequence[Capability] = ()) -> bytes:
    """A device whose PCIe capability at 78 is of device type ``kind``."""
    return patched(make_config(caps=[("pcie", PCIE), *caps]), PCIE + 2, kind << 4 | version)


# --- header --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "checked"),
    [
        *((offset, True) for offset in (0x00, 0x01, 0x02, 0x03)),
        *((offset, False) for offset in (0x04, 0x05, 0x07, 0x0C, 0x0D, 0x0F)),
        *((offset, True) for offset in (0x08, 0x09, 0x0A, 0x0B)),
        *((offset, False) for offset in (0x28, 0x2C, 0x2D, 0x2E, 0x2F, 0x3C, 0x3E, 0x3F)),
    ],
)
@EVERYWHERE
def test_header_byte(offset: int, checked: bool, environment: Environment) -> None:
    config = make_config()
    other = patched(config, offset, config[offset] ^ 0xFF)
    found = compare(virtual(config, environment).config, virtual(other, environment))
    assert [mismatch.offset for mismatch in found] == ([offset] if checked else [])


def test_status_is_checked_for_the_capability_list_alone() -> None:
    config = make_config(caps=[])
    for bit in (0x01, 0x08, 0x20, 0x80):
        assert compare(virtual(config).config, virtual(patched(config, 0x06, bit))) == ()
    (found,) = compare(virtual(config).config, virtual(patched(config, 0x06, 0x10)))
    assert (found.offset, found.cmask) == (0x06, 0x10)


def test_multifunction_bit_is_qemus_own() -> None:
    config = make_config()
    assert virtual(patched(config, 0x0E, 0x80)).config[0x0E] == 0x00
    on = ROOT_PORT._replace(properties={"multifunction": "on"})
    assert virtual(config, on).config[0x0E] == 0x80
    assert [m.offset for m in compare(virtual(config).config, virtual(config, on))] == [0x0E]


@pytest.mark.parametrize("layout", [0x01, 0x02, 0x7F])
def test_other_header_types_are_accepted(layout: int) -> None:
    assert virtual(patched(make_config(), 0x0E, layout)).config[0x0E] == layout


def test_bridge_header_has_two_bars_and_no_rom() -> None:
    bridge = patched(make_config(caps=[]), 0x0E, 0x01)
    for number in (2, 6):
        bars = (BAR0, Bar(number, 0x1000, "mem32"))
        assert refused(bridge, bars=bars)[0] == "abort"
    assert virtual(bridge, bars=(BAR0, Bar(1, 0x1000, "mem32"))).config[0x0E] == 0x01


def test_bar_addresses_are_the_guests() -> None:
    config = changed(make_config(), {0x13: 0xF6, 0x10: 0x04, 0x33: 0xF7, 0x30: 0x01})
    shown = virtual(config).config
    assert shown[0x10:0x28] == b"\x04" + bytes(23)
    assert shown[0x30:0x34] == bytes(4)


def test_bar_of_an_odd_size_aborts() -> None:
    assert refused(make_config(), bars=(Bar(0, 0x3000, "mem32"),))[0] == "abort"


@pytest.mark.parametrize("pin", [0, 1, 4])
def test_interrupt_pin(pin: int) -> None:
    assert virtual(patched(make_config(), 0x3D, pin)).config[0x3D] == pin


@pytest.mark.parametrize(("version", "kind"), [(V10_0, "abort"), (V11_1, "error")])
def test_interrupt_pin_that_there_is_not(version: Behaviour, kind: str) -> None:
    environment = ROOT_PORT._replace(behaviour=version)
    assert refused(patched(make_config(), 0x3D, 5), environment)[0] == kind


# --- placement -----------------------------------------------------------------------------------


def test_list_order_is_kept() -> None:
    caps: list[Capability] = [("msix", 0xB8), ("pm", 0x40), ("pcie", 0x70), ("msi", 0x50)]
    assert chain(virtual(make_config(caps=caps)).config) == [0xB8, 0x40, 0x70, 0x50]


def test_endpoint_on_the_root_complex_becomes_integrated() -> None:
    shown = virtual(make_config(), ROOT_COMPLEX).config
    assert shown[PCIE + 2] == 0x92
    for register, size in ((0x0C, 4), (0x10, 2), (0x12, 2), (0x2C, 4), (0x30, 2), (0x32, 2)):
        at = PCIE + register
        assert shown[at : at + size] == bytes(size), hex(register)


@pytest.mark.parametrize("register", [0x0C, 0x10, 0x12, 0x2C, 0x30, 0x32])
def test_link_registers_count_behind_a_port_alone(register: int) -> None:
    config, at = make_config(), PCIE + register
    other = patched(config, at, config[at] ^ 1)
    assert compare(virtual(config, ROOT_COMPLEX).config, virtual(other, ROOT_COMPLEX)) == ()
    (found,) = compare(virtual(config).config, virtual(other))
    assert found.offset == at


def test_device_control_and_status_count_everywhere() -> None:
    config = make_config()
    for register in (0x08, 0x0A):
        other = patched(config, PCIE + register, config[PCIE + register] ^ 1)
        for environment in (ROOT_PORT, ROOT_COMPLEX, I440FX):
            found = compare(virtual(config, environment).config, virtual(other, environment))
            assert [mismatch.offset for mismatch in found] == [PCIE + register]


def test_small_pcie_capability_keeps_what_is_not_its_own() -> None:
    config = make_pcie(0, caps=[("vsc", PCIE + 0x14, bytes(8))])
    config = changed(config, {PCIE + 0x0C: 0x11, PCIE + 0x2C: 0x55})
    shown = virtual(config, ROOT_COMPLEX).config
    assert (shown[PCIE + 0x0C], shown[PCIE + 0x2C]) == (0, 0x55)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [(ROOT_PORT, [PCIE]), (ROOT_COMPLEX, []), (CONVENTIONAL, []), (I440FX, [PCIE])],
    ids=["root-port", "root-complex", "conventional", "i440fx"],
)
def test_legacy_endpoint(environment: Environment, expected: list[int]) -> None:
    assert chain(virtual(make_pcie(1), environment).config) == expected


def test_integrated_endpoint_behind_a_port_gets_a_link() -> None:
    config = patched(make_pcie(9), PCIE + 0x10, 0x43)
    shown = virtual(config).config
    assert shown[PCIE + 2] == 0x02
    assert shown[PCIE + 0x0C : PCIE + 0x12] == b"\x11\0\0\0\0\0"
    assert virtual(config, ROOT_COMPLEX).config[PCIE + 2] == 0x92


@EVERYWHERE
@pytest.mark.parametrize("kind", [0x4, 0x5, 0x7, 0xF])
def test_other_pcie_types_are_refused(kind: int, environment: Environment) -> None:
    refusal, reason = refused(make_pcie(kind), environment)
    assert refusal == "error"
    assert f"assignment of PCIe type 0x{kind:x} devices is not currently supported" in reason


@pytest.mark.parametrize(("environment", "shown"), [(ROOT_PORT, 0x01), (ROOT_COMPLEX, 0x91)])
def test_pcie_version_0_becomes_1(environment: Environment, shown: int) -> None:
    assert virtual(make_pcie(0, version=0), environment).config[PCIE + 2] == shown

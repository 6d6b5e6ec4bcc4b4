"""Which bits a migration stream must agree in, as seen on unmodified QEMU.

The map of the usual device (PM at 40, MSI at 50, VSC at 60, PCIe at 78, MSI-X at b8) was read off
QEMU 10.0.2 by flipping every byte; only the two low bits of the MSI address were read off the
source, since the machine's reset hides them from flips.
"""

from __future__ import annotations

from itertools import groupby

import pytest

from lab.configs import make_config, patched
from unit.makers import BAR0, make_extended, make_state
from unit.realised import CONVENTIONAL, I440FX, ROOT_COMPLEX, ROOT_PORT, V9_2
from vfio_preflight.pci.state import Bar
from vfio_preflight.qemu.model.vfio_pci import Environment, VirtualConfig, realise

HEADER = "0-3:ff 6:10 8-b:ff e:ff 10:ff 11:3f 34:ff"
PM = "40-43:ff 44:fc 45-47:ff"
MSI = "50-51:ff 52:8e 53:ff 54:03"
MSIX = "b8-ba:ff bb:3f bc-c3:ff"

PLACEMENTS = {
    "root-port": ROOT_PORT,
    "root-complex": ROOT_COMPLEX,
    "conventional": CONVENTIONAL,
    "i440fx": I440FX,
}
EXPRESS = ("root-port", "root-complex", "i440fx")  # where the guest gets the PCIe capability


def make_virtual(config: bytes, environment: Environment, bars: tuple[Bar, ...]) -> VirtualConfig:
    virtual = realise(make_state(config, bars), environment)
    assert isinstance(virtual, VirtualConfig), virtual
    return virtual


def masks(
    config: bytes, environment: Environment = ROOT_PORT, bars: tuple[Bar, ...] = (BAR0,)
) -> str:
    """Ranges of equally masked bytes, those not compared left out: ``0-3:ff 6:10``."""
    compared = make_virtual(config, environment, bars).compared()
    ranges = []
    for (_, mask), group in groupby(enumerate(compared), key=lambda pair: (pair[1], pair[1])):
        offsets = [offset for offset, _ in group]
        if mask:
            last = f"-{offsets[-1]:x}" if len(offsets) > 1 else ""
            ranges.append(f"{offsets[0]:x}{last}:{mask:02x}")
    return " ".join(ranges)


@pytest.mark.parametrize("where", EXPRESS)
def test_strict(where: str) -> None:
    environment = PLACEMENTS[where]._replace(skip_vsc_check=False)
    expected = "60-ba:ff bb:3f bc-c3:ff"
    assert masks(make_config(), environment) == f"{HEADER} {PM} {MSI} {expected}"


@pytest.mark.parametrize("where", EXPRESS)
def test_tolerant_drops_the_body_of_the_vsc(where: str) -> None:
    expected = "60-62:ff 78-ba:ff bb:3f bc-c3:ff"
    assert masks(make_config(), PLACEMENTS[where]) == f"{HEADER} {PM} {MSI} {expected}"


@pytest.mark.parametrize(("skip", "vsc"), [(False, "60-77:ff"), (True, "60-62:ff")])
def test_conventional_bus_of_q35_drops_the_pcie_capability(skip: bool, vsc: str) -> None:
    environment = PLACEMENTS["conventional"]._replace(skip_vsc_check=skip)
    assert masks(make_config(), environment) == f"{HEADER} {PM} {MSI} {vsc} {MSIX}"


@pytest.mark.parametrize("where", ["root-port", "root-complex"])
def test_extended_space_is_compared_whole(where: str) -> None:
    config = make_extended(make_config(4096), [(0x100, 0x000B, b""), (0x180, 0x0003, b"")])
    expected = f"{HEADER} {PM} {MSI} 60-62:ff 78-ba:ff bb:3f bc-c3:ff 100-fff:ff"
    assert masks(config, PLACEMENTS[where]) == expected


@pytest.mark.parametrize("where", ["conventional", "i440fx"])
def test_extended_space_is_not_compared_on_a_conventional_bus(where: str) -> None:
    config = make_extended(make_config(4096), [(0x100, 0x000B, b"")])
    assert masks(config, PLACEMENTS[where]) == masks(make_config(256), PLACEMENTS[where])


def test_extended_space_without_a_list_is_not_compared() -> None:
    assert masks(make_config(4096)) == masks(make_config(256))


def test_pm_runs_to_the_next_capability_before_qemu_10() -> None:
    environment = ROOT_PORT._replace(behaviour=V9_2)
    assert "40-51:ff 52:8e" in masks(make_config(), environment)


# --- how far the exemption of Vendor Specific Information goes (FACTS: next by address, or ff) ---


@pytest.mark.parametrize(
    ("caps", "checked", "exempt"),
    [
        ([("vsc", 0x60, b"\x01\x02"), ("pm", 0x80)], "60-62:ff", range(0x63, 0x80)),
        ([("pm", 0x40), ("vsc", 0x60, b"\x01")], "60-62:ff", range(0x63, 0x100)),
        ([("vsc", 0xD0, bytes(24)), ("msi", 0x68)], "d0-d2:ff", range(0xD3, 0x100)),
        ([("vsc", 0xB0, b""), ("vsc", 0x90, b"")], "90-92:ff b0-b2:ff", range(0xB3, 0x100)),
        ([("vsc", 0x60, b"")], "60-62:ff", range(0x63, 0x100)),
    ],
)
def test_exemption(caps: list[tuple[str, int]], checked: str, exempt: range) -> None:
    config = make_config(caps=caps)
    assert checked in masks(config, bars=())
    strict = make_virtual(config, ROOT_PORT._replace(skip_vsc_check=False), ()).compared()
    tolerant = make_virtual(config, ROOT_PORT, ()).compared()
    differing = [offset for offset in range(256) if strict[offset] != tolerant[offset]]
    assert set(exempt) <= set(differing)
    assert not any(tolerant[offset] for offset in differing)


@pytest.mark.parametrize("room", [2, 3, 4, 5])
def test_exemption_spares_the_header(room: int) -> None:
    config = make_config(caps=[("vsc", 0x60, b""), ("vsc", 0x60 + room, b"")])
    compared = make_virtual(config, ROOT_PORT, ()).compared()
    assert compared[0x60 : 0x60 + room] == b"\xff\xff\xff\0\0"[:room]


@pytest.mark.parametrize("length", [0x00, 0x03, 0x10, 0xFF])
def test_exemption_does_not_follow_the_length_byte(length: int) -> None:
    config = patched(make_config(), 0x62, length)
    assert masks(config) == masks(make_config())


@pytest.mark.parametrize("cap_id", [0x03, 0x0B, 0x0D, 0x13, 0x00, 0xEE])
def test_exemption_is_for_vendor_specific_capabilities_alone(cap_id: int) -> None:
    config = patched(make_config(), 0x60, cap_id)
    assert "60-ba:ff" in masks(config)


def test_exemption_is_not_for_extended_vendor_specific_capabilities() -> None:
    for cap_id in (0x000B, 0x0023):
        config = make_extended(make_config(4096), [(0x100, cap_id, bytes(16))])
        assert masks(config).endswith("100-fff:ff")


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        (0x0000, "50-51:ff 52:8e 53:ff 54:03"),
        (0x0080, "50-51:ff 52:8e 53:ff 54:03"),
        (0x0100, "50-51:ff 52:8e 53:ff 54:03 5a-5b:ff 5c:fe 5d-63:ff"),
        (0x0180, "50-51:ff 52:8e 53:ff 54:03 5e-5f:ff 60:fe 61-67:ff"),
        (0x018A, "50-51:ff 52:8e 53:ff 54:03 5e-5f:ff 64-67:ff"),
        (0x0184, "50-51:ff 52:8e 53:ff 54:03 5e-5f:ff 60:f0 61-67:ff"),
    ],
)
def test_msi_has_its_own_size(control: int, expected: str) -> None:
    config = make_config(caps=[("msi", 0x50)])
    config = patched(patched(config, 0x52, control & 0xFF), 0x53, control >> 8)
    assert masks(config, bars=()).split(" 34:ff ")[1] == expected


def test_msix_and_pm_have_fixed_sizes_others_run_to_the_next() -> None:
    config = patched(make_config(caps=[("pm", 0x40), ("msix", 0x80), ("vsc", 0xC0, b"")]), 0xC0, 3)
    assert masks(config).split(" 34:ff ")[1] == f"{PM} 80-82:ff 83:3f 84-8b:ff c0-ff:ff"


# --- BARs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bar", "low", "expected"),
    [
        (Bar(0, 0x1000, "mem32"), 0x0, "10:ff 11:0f"),
        (Bar(1, 16, "mem32"), 0x8, "14:0f"),
        (Bar(2, 1 << 24, "mem32"), 0x8, "18-1a:ff"),
        (Bar(2, 1 << 24, "mem64", True), 0xC, "18-1a:ff"),
        (Bar(4, 1 << 32, "mem64", True), 0xC, "20-23:ff"),
        (Bar(4, 1 << 36, "mem64", True), 0xC, "20-23:ff 24:0f"),
        (Bar(5, 128, "io"), 0x1, "24:7f"),
        (Bar(6, 1 << 19, "mem32"), 0x0, "30:fe 31:ff 32:07"),
    ],
)
def test_bar_compares_type_and_fixed_address_bits(bar: Bar, low: int, expected: str) -> None:
    config = make_config(caps=[])
    if bar.number < 6:
        config = patched(config, 0x10 + 4 * bar.number, low)
    assert (
        masks(config, bars=(bar,)) == f"{HEADER.replace(' 10:ff 11:3f 34:ff', '')} {expected} 34:ff"
    )


def test_bar_type_comes_from_its_register() -> None:
    config = patched(make_config(caps=[]), 0x10, 0x0C)
    virtual = make_virtual(config, ROOT_PORT, (Bar(0, 1 << 33, "mem32"),))
    assert virtual.config[0x10] == 0x0C
    assert virtual.compared()[0x14] == 0x01


def test_bars_that_are_not_known_are_taken_from_their_registers() -> None:
    config = make_config(caps=[])
    for offset, value in ((0x10, 0x0C), (0x13, 0xF0), (0x14, 0x01), (0x1C, 0x01), (0x33, 0xF7)):
        config = patched(config, offset, value)
    virtual = make_virtual(config, ROOT_PORT, ())
    compared = virtual.compared()
    assert (compared[0x10] & 0x0F, compared[0x1C] & 0x03) == (0x0F, 0x03)
    assert not any(compared[0x18:0x1C] + compared[0x20:0x30])
    assert virtual.config[0x10:0x28] == b"\x0c" + bytes(11) + b"\x01" + bytes(11)
    assert virtual.config[0x30:0x34] == bytes(4)

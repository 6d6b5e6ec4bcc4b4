"""Properties of vfio-pci that change bytes, and how QEMU reads their values (QEMU 10.0.2)."""

from __future__ import annotations

import pytest

from lab.configs import Capability, make_config, patched
from unit.makers import BAR0, make_state
from unit.realised import ROOT_PORT, chain, refused, virtual
from vfio_preflight.pci.state import Bar
from vfio_preflight.qemu.model.properties import GLOBAL, TEXT, complaint
from vfio_preflight.qemu.model.vfio_pci import Environment, PropertyError, parse_bool, realise

ROM = Bar(6, 0x10000, "mem32")


def environment(**properties: str) -> Environment:
    """Behind a root port; ``x_pci_vendor_id`` stands for ``x-pci-vendor-id``."""
    return ROOT_PORT._replace(properties={n.replace("_", "-"): v for n, v in properties.items()})


@pytest.mark.parametrize(
    ("name", "value", "offset", "expected"),
    [
        ("x_pci_vendor_id", "0x15b3", 0x00, "b315"),
        ("x_pci_device_id", "4126", 0x02, "1e10"),
        ("x_pci_device_id", "0xffff", 0x02, "ffff"),
        ("x_pci_sub_vendor_id", "0x1AF4", 0x2C, "f41a"),
        ("x_pci_sub_device_id", "021", 0x2E, "1100"),
        ("x_pci_class_code", "0x030000", 0x09, "000003"),
        ("x_pci_vendor_id", "0xffffffff", 0x00, "de10"),
    ],
)
def test_ids(name: str, value: str, offset: int, expected: str) -> None:
    shown = virtual(make_config(), environment(**{name: value})).config
    assert shown[offset : offset + len(expected) // 2].hex() == expected


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("x_pci_vendor_id", "0xffff", "vendor ID"),
        ("x_pci_vendor_id", "0x10000", "vendor ID"),
        ("x_pci_device_id", "0x10000", "device ID"),
        ("x_pci_sub_vendor_id", "70000", "subsystem vendor ID"),
        ("x_pci_class_code", "0x1000000", "class code"),
    ],
)
def test_ids_out_of_range_are_refused(name: str, value: str, what: str) -> None:
    refusal = refused(make_config(), environment(**{name: value}))
    assert refusal == ("error", f"invalid PCI {what} provided")


@pytest.mark.parametrize(
    "value", ["", "x", "-1", "0x100000000", "1_0", "0b1", "08", "1.0", "1 ", "1e3"]
)
def test_numbers_that_are_none(value: str) -> None:
    with pytest.raises(PropertyError, match="property x-pci-vendor-id: "):
        realise(make_state(), environment(x_pci_vendor_id=value))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(("+5", 5), ("0", 0), ("0X1f", 31), ("017", 15), (" 5", 5)),
        ("-18446744073709551611", 5),
    ],
)
def test_numbers_in_the_notations_of_c(value: str, expected: int) -> None:
    shown = virtual(make_config(), environment(x_pci_device_id=value)).config
    assert int.from_bytes(shown[2:4], "little") == expected


@pytest.mark.parametrize("value", ["on", "yes", "true", "y"])
def test_parse_bool_true(value: str) -> None:
    assert parse_bool(value) is True


@pytest.mark.parametrize("value", ["off", "no", "false", "n"])
def test_parse_bool_false(value: str) -> None:
    assert parse_bool(value) is False


@pytest.mark.parametrize("value", ["", "On", "1", "0", "auto", "true "])
def test_parse_bool_refuses(value: str) -> None:
    with pytest.raises(PropertyError, match="neither 'on' nor 'off'"):
        parse_bool(value)


def test_multifunction_that_is_no_boolean() -> None:
    with pytest.raises(PropertyError):
        realise(make_state(), environment(multifunction="1"))


# --- expansion ROM -------------------------------------------------------------------------------


def rom_mask(bars: tuple[Bar, ...], **properties: str) -> str:
    return virtual(make_config(), environment(**properties), bars).compared()[0x30:0x34].hex()


def test_rom_of_the_device() -> None:
    assert rom_mask((BAR0, ROM)) == "feff0000"
    assert rom_mask((BAR0,)) == "00000000"


@pytest.mark.parametrize(
    ("rombar", "mask"), [("0", "00000000"), ("1", "feff0000"), ("-1", "feff0000")]
)
def test_rombar(rombar: str, mask: str) -> None:
    assert rom_mask((BAR0, ROM), rombar=rombar) == mask


def test_romfile_makes_a_rom_and_an_empty_one_takes_it_away() -> None:
    assert rom_mask((BAR0, ROM), romfile="") == "00000000"
    assert rom_mask((BAR0,), romfile="/x.rom") != "00000000"
    assert rom_mask((BAR0,), romfile="/x.rom", rombar="0") == "00000000"


# --- NVIDIA GPUDirect: a virtual VSC -------------------------------------------------------------


def test_gpudirect_adds_a_capability_at_the_end() -> None:
    result = virtual(make_config(), environment(x_nv_gpudirect_clique="5"))
    assert chain(result.config) == [0x40, 0x50, 0x60, 0x78, 0xB8, 0xC8]
    assert result.config[0xC8:0xD0] == bytes((0x09, 0x00, 0x08, 0x50, 0x32, 0x50, 0x28, 0x00))
    assert result.compared()[0xC8:0xD0] == b"\xff" * 8


def test_gpudirect_avoids_a_capability_at_c8() -> None:
    caps: list[Capability] = [("pm", 0x40), ("vsc", 0xC8, b"")]
    config = make_config(caps=caps)
    assert chain(virtual(config, environment(x_nv_gpudirect_clique="0")).config)[-1] == 0xD4


def test_gpudirect_needs_one_of_two_places() -> None:
    config = make_config(caps=[("vsc", 0xC8, b""), ("vsc", 0xD4, b"")])
    kind, reason = refused(config, environment(x_nv_gpudirect_clique="0"))
    assert (kind, reason) == ("error", "NVIDIA GPUDirect Clique ID: invalid config space")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (make_config(vendor=0x15B3), "invalid device vendor"),
        (make_config(class_code=0x020000), "unsupported PCI class"),
        (patched(patched(make_config(), 0x34, 0x0C), 0x0D, 0x00), "error getting cap list"),
    ],
)
def test_gpudirect_is_for_nvidia_gpus(config: bytes, reason: str) -> None:
    assert refused(config, environment(x_nv_gpudirect_clique="0")) == (
        "error",
        f"NVIDIA GPUDirect Clique ID: {reason}",
    )


@pytest.mark.parametrize("clique", ["16", "255", "-1", "x"])
def test_gpudirect_clique_out_of_range(clique: str) -> None:
    with pytest.raises(PropertyError, match="x-nv-gpudirect-clique"):
        realise(make_state(), environment(x_nv_gpudirect_clique=clique))


def test_gpudirect_is_not_exempt_and_shortens_what_is_before_it() -> None:
    config = make_config(caps=[("vsc", 0xB0, bytes(8))])
    compared = virtual(config, environment(x_nv_gpudirect_clique="1")).compared()
    assert compared[0xB0:0xD1] == b"\xff" * 3 + bytes(0x15) + b"\xff" * 8 + b"\0"


def test_vmd_gets_a_shadow_of_its_bars() -> None:
    config = make_config(vendor=0x8086, device=0x201D, caps=[("pm", 0x40)])
    config = config[:0x18] + bytes(range(1, 17)) + config[0x28:]
    shown = virtual(config, bars=(BAR0,)).config
    assert shown[0xE8:0xF0] == bytes((0x09, 0x00, 0x18, 0x01)) + b"WDHS"
    assert shown[0xF0:0x100] == bytes(range(1, 17))


BOOL = "Parameter 'p' expects 'on' or 'off'"
NOT_TAKEN = [
    ("bool", "1", TEXT, BOOL),
    ("bool", "On", GLOBAL, BOOL),
    ("bool", "on", "string", "Invalid parameter type for 'p', expected: boolean"),
    ("bool", "1", "number", "Invalid parameter type for 'p', expected: boolean"),
    ("bool", "null", "null", "Invalid parameter type for 'p', expected: boolean"),
    ("uint32", "0x10", "string", "Parameter 'p' expects uint64"),
    ("uint32", "on", "boolean", "Parameter 'p' expects uint64"),
    ("uint32", "1.0", "number", "Parameter 'p' expects uint64"),
    ("uint32", "-1", "number", "Parameter 'p' expects uint32_t"),
    ("uint32", "-1", TEXT, "Parameter 'p' expects uint32_t"),
    ("uint32", "4294967296", GLOBAL, "Parameter 'p' expects uint32_t"),
    ("uint32", "abc", TEXT, "Parameter 'p' expects integer"),
    ("uint32", "abc", GLOBAL, "Parameter 'p' expects uint64"),
    ("uint32", "18446744073709551616", TEXT, "Parameter 'p' expects integer"),
    ("uint8", "256", TEXT, "Parameter 'p' expects uint8_t"),
    ("int32", "0", "string", "Invalid parameter type for 'p', expected: integer"),
    ("int32", "2147483648", "number", "Parameter 'p' expects int32_t"),
    ("int32", "-2147483649", TEXT, "Parameter 'p' expects int32_t"),
    ("int32", "maybe", GLOBAL, "Parameter 'p' expects int64"),
    ("size", "4k", "string", "Parameter 'p' expects uint64"),
    ("str", "1", "number", "Invalid parameter type for 'p', expected: string"),
    ("link<iommufd>", "5", "number", "Invalid parameter type for 'p', expected: string"),
    ("OnOffAuto", "yes", TEXT, "Parameter 'p' does not accept value 'yes'"),
    ("OnOffAuto", "on", "boolean", "Invalid parameter type for 'p', expected: string"),
    ("OffAutoPCIBAR", "BAR2", "string", "Parameter 'p' does not accept value 'BAR2'"),
]


@pytest.mark.parametrize(("type_", "value", "form", "words"), NOT_TAKEN)
def test_values_that_are_not_taken(type_: str, value: str, form: str, words: str) -> None:
    assert complaint("p", type_, value, form) == words


@pytest.mark.parametrize(
    ("type_", "value", "form"),
    [
        *(("bool", value, TEXT) for value in ("on", "yes", "true", "y", "off", "no", "n")),
        ("bool", "off", "boolean"),
        ("uint32", "-18446744073709551615", GLOBAL),
        ("uint32", "4294967295", "number"),
        ("int32", " -1", TEXT),
        ("size", "4k", TEXT),
        ("size", "anything", GLOBAL),
        ("OnOffAuto", "auto", "string"),
        ("str", "", TEXT),
        ("busnr", "5", "string"),
        ("", "x", "null"),
    ],
)
def test_values_that_are_taken_or_not_known_to_be_refused(
    type_: str, value: str, form: str
) -> None:
    assert complaint("p", type_, value, form) is None


def test_place_on_the_bus_may_be_a_number() -> None:
    assert complaint("addr", "str", "8", "number") is None

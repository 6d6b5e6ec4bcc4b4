"""Settings of vfio-pci: values that are not taken, and those that change single registers."""

from __future__ import annotations

import pytest

from lab.configs import make_config, patched
from unit.makers import BAR0, make_state
from unit.realised import ROOT_PORT, V9_2, V11_1, virtual
from vfio_preflight.pci.state import Bar
from vfio_preflight.qemu.model.versions import Behaviour
from vfio_preflight.qemu.model.vfio_pci import Environment, PropertyError, realise

ROM = Bar(6, 0x10000, "mem32")


def environment(**properties: str) -> Environment:
    """Behind a root port; ``x_pci_vendor_id`` stands for ``x-pci-vendor-id``."""
    return ROOT_PORT._replace(properties={n.replace("_", "-"): v for n, v in properties.items()})


def test_white_space_before_a_number() -> None:
    shown = virtual(make_config(), environment(x_pci_device_id=" \t0x0000000000000000000000012"))
    assert shown.config[2:4] == b"\x12\0"


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("skip_vsc_check", "perhaps", "neither 'on' nor 'off'"),
        ("x_no_geforce_quirks", "1", "neither 'on' nor 'off'"),
        ("x_msix_relocation", "perhaps", "is none of off, auto, bar0"),
        ("x_msix_relocation", "bar6", "is none of off, auto, bar0"),
        ("x_msix_relocation", "Bar0", "is none of off, auto, bar0"),
        ("x_msix_relocation", "", "is none of off, auto, bar0"),
        ("ats", "yes", "is none of auto, on, off"),
        ("rombar", "4294967295", "does not fit"),
        ("rombar", "-2147483649", "does not fit"),
        ("romsize", "5000", "is not a power of two"),
        ("romsize", "0", "is not a power of two"),
        ("x_igd_gms", "-1", "does not fit"),
        ("x_nv_gpudirect_clique", "16", "does not fit"),
    ],
)
def test_values_that_qemu_does_not_take_of_any_device(name: str, value: str, what: str) -> None:
    """QEMU parses a property also where the device has no use for it."""
    bare = make_state(make_config(class_code=0x020000, caps=[("pm", 0x40)]))
    with pytest.raises(PropertyError, match=f"{name.replace('_', '-')}: .*{what}"):
        realise(bare, environment(**{name: value}))


@pytest.mark.parametrize("value", ["4096", "1", "0xffffffff"])
def test_romsize(value: str) -> None:
    shown = virtual(make_config(), environment(romsize=value), (BAR0, ROM))
    assert shown.compared()[0x30:0x34].hex() == "feff0000"


# --- MSI-X in another place ----------------------------------------------------------------------


@pytest.mark.parametrize("gib", [1, 2, 4, 16])
def test_msix_relocated_behind_4_gib_is_truncated(gib: int) -> None:
    """QEMU keeps the low 32 bits of where it puts the table."""
    config = patched(make_config(), 0x18, 0x0C)
    bars = (BAR0, Bar(2, gib << 30, "mem64"))
    shown = virtual(config, environment(x_msix_relocation="bar2"), bars).config
    table = int.from_bytes(shown[0xBC:0xC0], "little")
    assert table == (gib << 30 & 0xFFFFFFFF) | 2
    assert int.from_bytes(shown[0xC0:0xC4], "little") == table + 0x40


# --- graphics of Intel's processors --------------------------------------------------------------

GMCH = 0x12345678


def igd(product: int) -> bytes:
    """One with GMCH at 50, and ones in both places of BDSM."""
    config = make_config(vendor=0x8086, device=product, class_code=0x030000, caps=[("pm", 0xD0)])
    for at, value in ((0x50, GMCH), (0x5C, 0xFFFFFFFF), (0xC0, 0xFFFFFFFF), (0xC4, 0xFFFFFFFF)):
        config = config[:at] + value.to_bytes(4, "little") + config[at + 4 :]
    return config


@pytest.mark.parametrize(
    ("product", "gms", "expected"),
    [
        *((0x0412, "0x10", 0x12345680), (0x0412, "1", 0x12345608), (0x0412, "0x11", GMCH)),
        *((0x1616, "0x40", 0x12344078), (0x9A49, "5", 0x12340578), (0x9A49, "0x41", GMCH)),
        *((0x9A49, "0xf0", GMCH), (0x9A49, "0", GMCH), (0x1234, "5", GMCH)),
    ],
)
def test_igd_gms(product: int, gms: str, expected: int) -> None:
    """The field of GMCH that has the size, in two places; what is too large is ignored."""
    shown = virtual(igd(product), environment(x_igd_gms=gms)).config
    assert int.from_bytes(shown[0x50:0x54], "little") == expected


@pytest.mark.parametrize(
    ("product", "written"),
    [
        *((0x0102, 0x5C), (0x0412, 0x5C), (0x1616, 0x5C), (0x3EA0, 0x5C), (0x0A84, 0x5C)),
        *((0x8A52, 0xC0), (0x4E61, 0xC0), (0x4555, 0xC0), (0xA780, 0xC0), (0x46A6, 0xC0)),
    ],
)
def test_igd_stolen_memory(product: int, written: int) -> None:
    """BDSM has 8 bytes at c0 from generation 11 on; the guest's firmware writes it."""
    result = virtual(igd(product), environment())
    assert result.config[0x50:0x54] == GMCH.to_bytes(4, "little")
    size = 4 if written == 0x5C else 8
    assert result.config[written : written + size] == bytes(size)
    assert result.wmask[written : written + size] == b"\xff" * size
    other = 0x5C if written == 0xC0 else 0xC0
    assert result.config[other : other + 4] == b"\xff" * 4


@pytest.mark.parametrize("version", [V9_2, V11_1])
def test_igd_is_left_alone(version: Behaviour) -> None:
    """Before QEMU 10.0 all but one at 00:02.0; from 10.1 on those without an OpRegion."""
    changed = environment(x_igd_gms="5")._replace(behaviour=version)
    assert virtual(igd(0x9A49), changed).config[0x50:] == igd(0x9A49)[0x50:]

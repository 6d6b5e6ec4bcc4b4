"""Corners that drawn pairs seldom come to: each on both emulators, in a second or two."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from vfio_preflight.pci.state import ConfigState
from vfio_preflight.qemu.emulator.machines import VFIO_TYPES
from vfio_preflight.qemu.model.loading import PIN_ASSERTION, loses_pin, uses_messages
from vfio_preflight.qemu.model.versions import behaviour
from vfio_preflight.qemu.model.vfio_pci import VirtualConfig, compare, realise
from vfio_preflight.qemu.trial.trial import ABORT, FAIL, PASS, Result, trial

from . import kit
from .cases import Case, Device
from .drawing import adapt
from .engine import Engine, judge
from .kit import Layout, build
from .known_properties import NOT_DRAWN
from .layouts import LAYOUTS
from .prediction import environment
from .report import described
from .strategies import DRAWN


def flipped(device: Device, offset: int, bits: int = 1) -> Device:
    config = bytearray(device.config)
    config[offset] ^= bits
    return device._replace(config=bytes(config))


def given(device: Device, *properties: tuple[str, str]) -> Device:
    return device._replace(properties=properties)


def _require_agreement(engine: Engine, cases: Iterator[Case], outcomes: set[str]) -> None:
    """Agreement on all of them, and that they are not all alike."""
    judged = judge(engine, [adapt(case, engine.facts) for case in cases])
    wrong = [described(engine, one) for one in judged if not one.agrees]
    assert not wrong, "\n".join(wrong)
    assert {one.real.outcome for one in judged} == outcomes


def _with_pba(vendor: int, product: int, pba: int) -> Device:
    caps = (kit.pm(0x40), kit.msix(0x50, 4, 0, pba))
    return build(Layout(vendor, product, 0x020000, caps, bars=((0, 0, 0x10000),)))


def _pba() -> Iterator[Case]:
    """Devices that report an offset behind the BAR, the one that is right, and neighbours."""
    for vendor, products, right in (
        (0x1425, (0x5800, 0x5801, 0x58FF, 0x57FF, 0x5900), 0x1000),
        (0x1D22, (0x3685, 0x3684), 0xB400),
    ):
        for product in products:
            for offset in (right, right - 0x400):
                pair = _with_pba(vendor, product, offset), _with_pba(vendor, product, 0x20000)
                yield Case(*pair, "9.0", "root-port")


def test_pba_offsets_that_are_put_right(engine: Engine) -> None:
    _require_agreement(engine, _pba(), {"pass", "fail", "error"})


def _vmd() -> Iterator[Case]:
    """VMD shows the addresses of its BARs in a VSC."""
    for product in (0x201D, 0x467F, 0x4C3D, 0x9A0B, 0xAD0B, 0x28C0):
        device = _with_pba(0x8086, product, 0x8000)
        for offset in (0x18, 0x27, 0x28):
            yield Case(device, flipped(device, offset, 0x10), "9.0", "root-port")


def test_vmd(engine: Engine) -> None:
    _require_agreement(engine, _vmd(), {"pass", "fail"})


_IGD = (
    *(0x0102, 0x0402, 0x0412, 0x0A26, 0x0C02, 0x0D26, 0x0F31, 0x1616, 0x1916, 0x22B0, 0x3184),
    *(0x3EA0, 0x5912, 0x9BC5, 0x0A84, 0x1A85, 0x5A84, 0x0A82, 0x4555, 0x4E61, 0x8A52, 0x9A49),
    *(0x4C8A, 0x46A6, 0xA780, 0x6420, 0x2500, 0xA100),
)


def _graphics(product: int) -> Device:
    """With a VSC around all that may be emulated: elsewhere no byte is compared anyway."""
    layout = LAYOUTS["intel_igd"](0)
    return build(layout._replace(device=product, caps=(kit.vsc(0x40, 12),), size=256, ext=()))


def _igd_outcomes(engine: Engine) -> set[str]:
    """From QEMU 10.1 on, graphics without an OpRegion are like any other device."""
    return {"fail"} if behaviour(engine.facts.version).igd_needs_opregion else {"pass", "fail"}


def _stolen_memory() -> Iterator[Case]:
    for product in _IGD:
        device = _graphics(product)
        yield Case(device, flipped(device, 0x5C), "9.0", "root-port")
        yield Case(device, flipped(flipped(device, 0xC0), 0xC7), "9.0", "root-port")


def test_stolen_memory_of_each_generation(engine: Engine) -> None:
    _require_agreement(engine, _stolen_memory(), _igd_outcomes(engine))


def _stolen_memory_size() -> Iterator[Case]:
    for product in (0x0412, 0x1616, 0x3EA0, 0x4E61, 0x9A49, 0xB0B0):
        for gms in ("0", "1", "0x10", "0x11", "0x40", "0x41", "0xf0", "0x105"):
            device = _graphics(product)
            other = given(flipped(flipped(device, 0x50, 0x80), 0x51, 0x02), ("x-igd-gms", gms))
            yield Case(device, given(device, ("x-igd-gms", gms)), "9.0", "root-complex")
            yield Case(given(device, ("x-igd-gms", gms)), other, "9.0", "root-complex")


def test_size_of_stolen_memory(engine: Engine) -> None:
    cases = [case for n, case in enumerate(_stolen_memory_size()) if n % 3 != 1]
    _require_agreement(engine, iter(cases), {"pass", "fail"})


def _links() -> Iterator[Case]:
    """Link registers disappear on the root complex, of a capability that has the first of them.

    What follows one that ends in the middle of them is overwritten.
    """
    for size in (0x0C, 0x10, 0x11, 0x12, 0x14, 0x28, 0x2C, 0x2D, 0x2E, 0x30, 0x34, 0x3C):
        caps = (kit.pcie(0x40, 3, 0, 2, size), kit.vsc(0x40 + size, 0x40, 5))
        device = build(Layout(0x10DE, 1, 0x030200, caps))
        for register in (0x0C, 0x0F, 0x10, 0x12, 0x13, 0x2C, 0x2F, 0x30, 0x32, 0x33, 0x34):
            if not size <= register < size + 2:  # not the list itself
                yield Case(device, flipped(device, 0x40 + register), "9.0", "root-complex")


def test_links_by_size(engine: Engine) -> None:
    _require_agreement(engine, _links(), {"pass", "fail"})


def _relocations() -> Iterator[Case]:
    for size in (1 << 30, 1 << 31, 1 << 32, 1 << 34):
        caps = (kit.pm(0x40), kit.msix(0x50, 4, 0, 0x2000))
        bars = ((0, 0, 0x4000), (2, 0xC, size))
        device = build(Layout(0x10DE, 1, 0x030200, caps, bars=bars))
        moved = given(device, ("x-msix-relocation", "bar2"))
        yield Case(moved, moved, "9.0", "root-port")
        yield Case(device, moved, "9.0", "root-port")


def test_msix_moved_behind_4_gib(engine: Engine) -> None:
    _require_agreement(engine, _relocations(), {"pass", "fail"})


def _ats() -> Iterator[Case]:
    device = build(LAYOUTS["intel_iavf"](3))  # ATS at 1e4
    for ats in ("on", "off", "auto"):
        yield Case(
            given(device, ("ats", ats)),
            given(flipped(device, 0x1E6), ("ats", ats)),
            "9.0",
            "root-port",
        )
        yield Case(given(device, ("ats", ats)), given(device, ("ats", "on")), "9.0", "root-port")
        yield Case(device, given(device, ("ats", ats)), "9.0", "root-complex")


def test_ats(engine: Engine) -> None:
    _require_agreement(engine, _ats(), {"pass", "fail"})


# --- streams that no source sends by itself: what the guest has written is in them ----------------


def _shown(engine: Engine, case: Case) -> VirtualConfig:
    shown = realise(case.destination.state, environment(case, case.destination, engine.facts))
    assert isinstance(shown, VirtualConfig)
    return shown


def _tried(engine: Engine, case: Case, stream: bytes) -> Result:
    return trial(
        ConfigState(stream, case.source.bars, "stream", "made up"),
        case.destination.state,
        case.setting(case.destination),
        engine.receiver.executable,
        deadline=time.monotonic() + 30,
        library=engine.library,
        control=False,
    )


@pytest.mark.parametrize("product", [0x168E, 0x168F])
@pytest.mark.parametrize("properties", [(), (("rombar", "1"),), (("romfile", "x"),)])
def test_rom(engine: Engine, product: int, properties: tuple[tuple[str, str], ...]) -> None:
    """A device on QEMU's list of those whose ROM it leaves out, and one that is not.

    Where there is a ROM, the address bits below its size are compared.
    """
    layout = Layout(0x14E4, product, 0x020000, (kit.pm(0x40),), rom=0x10000)
    device = given(build(layout), *properties)
    case = Case(device, device, "9.0", "root-port")
    shown = _shown(engine, case)
    stream = shown.config[:0x31] + b"\x10" + shown.config[0x32:]
    predicted = [mismatch.line for mismatch in compare(stream, shown)]
    assert bool(predicted) is (product != 0x168E or bool(properties))
    result = _tried(engine, case, stream)
    assert result.line == "".join(predicted)
    assert result.outcome == (FAIL if predicted else PASS)


@pytest.mark.parametrize("name", ["virtual_function", "conventional"])
@pytest.mark.parametrize(("pin", "there"), [(0, 1), (5, 1), (255, 4), (1, 0), (2, 1), (0, 0)])
@pytest.mark.parametrize("enabled", [False, True])
def test_interrupt_pin(engine: Engine, name: str, pin: int, there: int, enabled: bool) -> None:
    """A pin that QEMU cannot lower, in the stream of a guest that uses MSI or MSI-X."""
    device = build(LAYOUTS[name](1)._replace(pin=there))
    case = Case(device, device, "9.0", "root-port")
    shown = _shown(engine, case)
    stream = bytearray(shown.config)
    stream[0x3D] = pin
    if enabled and name == "virtual_function":
        stream[0xBB] |= 0x80
    elif enabled:
        stream[0xF2] |= 0x01
    assert compare(bytes(stream), shown) == ()
    result = _tried(engine, case, bytes(stream))
    aborts = loses_pin(bytes(stream), shown) and uses_messages(bytes(stream))
    assert result.outcome == (ABORT if aborts else PASS)
    assert (PIN_ASSERTION in result.stderr) is aborts


# --- properties -----------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", VFIO_TYPES)
def test_every_property_is_known(engine: Engine, driver: str) -> None:
    """One that is new may change bytes: it is drawn, or there is a reason why not."""
    there = set(engine.facts.properties[driver])
    assert there - set(DRAWN) - set(NOT_DRAWN) == set()


def test_no_property_is_listed_twice() -> None:
    assert not set(DRAWN) & set(NOT_DRAWN)
    assert all(len(reason) > 15 for reason in NOT_DRAWN.values())

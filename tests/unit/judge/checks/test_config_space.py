from __future__ import annotations

import pytest

from lab.configs import make_config, patched
from unit.makers import BAR0, PMC, VSC_BODY, VSC_LENGTH, differing, make_extended, make_state
from unit.realised import CONVENTIONAL, ROOT_COMPLEX, ROOT_PORT
from vfio_preflight.judge.checks.config_space import (
    REMEDY_HARD,
    REMEDY_TRY,
    Verdict,
    check_config_space,
    describe,
)
from vfio_preflight.pci.state import Bar, ConfigState
from vfio_preflight.qemu.model.vfio_pci import Environment, Mismatch

REMEDY = "make them equal"
SOURCE = make_state()


def check(
    destination: ConfigState,
    skip_vsc_check: bool | None = False,
    source: ConfigState = SOURCE,
    environment: Environment = ROOT_PORT,
) -> Verdict:
    return check_config_space(source, destination, environment, skip_vsc_check, REMEDY)


def codes(found: Verdict) -> list[str]:
    return [finding.code for finding in found.findings]


@pytest.mark.parametrize("skip", [True, False, None])
def test_identical(skip: bool | None) -> None:
    found = check(SOURCE, skip)
    assert (codes(found), found.mendable, found.quote) == (["config-identical"], False, "")
    assert "of 256" in found.findings[0].text


def test_bytes_that_nobody_compares() -> None:
    assert codes(check(differing(0x2E))) == ["config-identical"]


# --- Vendor Specific Information -----------------------------------------------------------------


def test_vsc_body_is_compared() -> None:
    found = check(differing(VSC_BODY), False)
    assert (codes(found), found.mendable) == (["vsc-body-differs"], True)
    assert found.quote == (
        "get_pci_config_device: Bad config data: i=0x63 read: 1 device: fe cmask: ff wmask: 0"
        " w1cmask:0"
    )
    (finding,) = found.findings
    assert finding.text == (
        "VSC at 0x60, Vendor Specific Information, offset 0x63: source 01, destination fe"
    )
    assert finding.remedy == REMEDY
    assert [mismatch.offset for mismatch in finding.mismatches] == [VSC_BODY]


def test_vsc_body_is_exempt() -> None:
    found = check(differing(VSC_BODY), True)
    assert (codes(found), found.mendable, found.quote) == (["vsc-body-tolerated"], False, "")
    assert found.findings[0].text.endswith("; skip-vsc-check exempts it")
    assert found.findings[0].remedy == ""


def test_vsc_body_undecided() -> None:
    found = check(differing(VSC_BODY), None)
    assert (codes(found), found.mendable, found.quote) == (["vsc-check-undecided"], True, "")
    assert '"get_pci_config_device: Bad config data: i=0x63' in found.findings[0].text
    assert found.findings[0].remedy == f"{REMEDY_TRY}{REMEDY}"


def test_vsc_bytes_are_counted() -> None:
    config = make_config()
    other = make_state(config[:0x63] + bytes(b ^ 1 for b in config[0x63:0x78]) + config[0x78:])
    (finding,) = check(other).findings
    assert finding.text.endswith("(and 20 more bytes)")
    assert len(finding.mismatches) == 21
    two = make_state(patched(differing(VSC_BODY).config, 0x64, 0x55))
    assert check(two).findings[0].text.endswith("(and 1 more byte)")


def test_bytes_outside_the_capability_that_the_exemption_reaches() -> None:
    """The VSC of the usual device ends at 74; its exemption runs to PCIe at 78."""
    found = check(differing(0x75), False)
    assert (codes(found), found.mendable) == (["vsc-body-differs"], True)


@pytest.mark.parametrize("offset", [0x60, VSC_LENGTH])
@pytest.mark.parametrize("skip", [True, False, None])
def test_vsc_header_is_never_exempt(offset: int, skip: bool | None) -> None:
    found = check(differing(offset), skip)
    assert "config-differs" in codes(found)
    assert not found.mendable and found.quote.startswith("get_pci_config_device: Bad config data: ")


# --- the rest ------------------------------------------------------------------------------------


@pytest.mark.parametrize("skip", [True, False, None])
def test_other_bytes_fail_on_any_machine_type(skip: bool | None) -> None:
    found = check(differing(PMC), skip)
    assert (codes(found), found.mendable) == (["config-differs"], False)
    (finding,) = found.findings
    assert finding.remedy == REMEDY_HARD
    assert finding.text.startswith("PM at 0x40, PMC (version, PME clock")
    assert "i=0x42 " in found.quote


def test_both_sorts_are_told_apart() -> None:
    other = make_state(patched(differing(PMC).config, VSC_BODY, 0x99))
    found = check(other, False)
    assert codes(found) == ["config-differs", "vsc-body-differs"]
    assert not found.mendable and "i=0x42 " in found.quote
    assert found.findings[1].remedy == "", "what mends one does not help the other"
    assert codes(check(other, True)) == ["config-differs", "vsc-body-tolerated"]


def test_quote_is_the_first_byte_in_order_of_offset() -> None:
    other = make_state(patched(differing(VSC_BODY).config, 0xBA, 0x05))
    assert "i=0x63 " in check(other, False).quote
    assert "i=0xba " in check(other, True).quote


def test_placement_decides() -> None:
    link = differing(0x84)
    assert codes(check(link)) == ["config-differs"]
    assert codes(check(link, environment=ROOT_COMPLEX)) == ["config-identical"]


def test_extended_capability() -> None:
    entries = [(0x100, 0x0003, b"\x01" * 8)]
    source = make_state(make_extended(make_config(4096), entries))
    other = make_state(patched(source.config, 0x106, 0x02))
    found = check(other, True, source)
    assert found.findings[0].text == (
        "DSN at 0x100, Serial number, offset 0x106: source 01, destination 02"
    )
    assert codes(check(other, True, source, CONVENTIONAL)) == ["config-identical"]


@pytest.mark.parametrize(("here", "there"), [(256, 4096), (4096, 256)])
def test_sizes_differ(here: int, there: int) -> None:
    found = check(make_state(make_config(there)), True, make_state(make_config(here)))
    assert (codes(found), found.quote) == (["config-size-differs"], "")
    assert f"the source has {here} bytes" in found.findings[0].text


# --- BARs ----------------------------------------------------------------------------------------


def sized(*bars: Bar) -> ConfigState:
    return make_state(bars=bars)


@pytest.mark.parametrize(
    ("size", "effect"), [(0x8000, "not aligned to the larger size"), (0x2000, "maps more than")]
)
def test_bar_size_differs(size: int, effect: str) -> None:
    config = make_config(caps=[])
    found = check(make_state(config, (Bar(0, size, "mem32"),)), source=make_state(config, (BAR0,)))
    assert codes(found) == ["bar-size-differs"]
    assert f"BAR0 has 0x4000 bytes at the source and {size:#x} here" in found.findings[0].text
    assert effect in found.findings[0].text


def test_rom_size_differs() -> None:
    one, other = Bar(6, 0x10000, "mem32"), Bar(6, 0x20000, "mem32")
    found = check(sized(BAR0, other), source=sized(BAR0, one))
    assert "the expansion ROM has 0x10000" in found.findings[0].text


def test_bar_sizes_that_are_not_known_are_not_compared() -> None:
    assert codes(check(sized(), source=sized(BAR0))) == ["config-identical"]


# --- refusals ------------------------------------------------------------------------------------

REFUSED = {
    "realise-error": patched(make_config(), 0x7A, 0x42),
    "realise-abort": patched(make_config(caps=[("msi", 0x50)]), 0x52, 0x8C),
    "realise-hang": patched(make_config(), 0x41, 0x40),
}


@pytest.mark.parametrize("code", REFUSED)
@pytest.mark.parametrize("skip", [True, False, None])
def test_destination_that_qemu_refuses(code: str, skip: bool | None) -> None:
    found = check(make_state(REFUSED[code]), skip)
    assert (codes(found), found.mendable, found.quote) == ([code], False, "")
    assert found.findings[0].text.startswith("the destination's QEMU ")
    assert found.findings[0].remedy


def test_crash_counts_as_abort() -> None:
    found = check(make_state(patched(make_config(), 0xBC, 0x03)))
    assert codes(found) == ["realise-abort"]
    assert "crashes" in found.findings[0].text


@pytest.mark.parametrize("code", REFUSED)
def test_source_that_cannot_be_running(code: str) -> None:
    found = check(SOURCE, source=make_state(REFUSED[code]))
    assert codes(found) == ["source-not-realisable"]
    assert found.findings[0].remedy.startswith("capture")


def test_describe() -> None:
    told = describe(Mismatch(0x8A, 0x43, 0x83, 0xFF, 0, 0), make_config())
    assert told == (
        "PCIe at 0x78, LNKSTA (negotiated link width), offset 0x8a: source 43, destination 83"
    )
    told = describe(Mismatch(0x8B, 0x10, 0x11, 0xFF, 0, 0), make_config())
    assert "LNKSTA (negotiated link width), offset 0x8b" in told


# --- the interrupt pin ---------------------------------------------------------------------------

PIN, MSI_FLAGS, MSIX_FLAGS = 0x3D, 0x52, 0xBB


def pinned(pin: int, evidence: str = "file", **enabled: int) -> ConfigState:
    config = patched(SOURCE.config, PIN, pin)
    for offset in enabled.values():
        config = patched(config, offset, config[offset] | (0x80 if offset == MSIX_FLAGS else 1))
    return SOURCE._replace(config=config, evidence=evidence)


@pytest.mark.parametrize(
    ("source", "destination"), [(0, 0), (1, 0), (4, 0), (1, 1), (2, 1), (4, 2), (1, 4)]
)
def test_pins_that_qemu_can_lower(source: int, destination: int) -> None:
    assert codes(check(pinned(destination), source=pinned(source))) == ["config-identical"]


@pytest.mark.parametrize("destination", [1, 4])
def test_pin_that_the_source_has_not(destination: int) -> None:
    found = check(pinned(destination), source=pinned(0))
    assert (codes(found), found.mendable, found.quote) == (["load-abort"], False, "")
    (finding,) = found.findings
    assert finding.text.startswith(
        f"header, Interrupt pin, offset 0x3d: source 00, destination 0{destination}: QEMU there"
        " would abort; that is while loading if the guest has MSI or MSI-X on, as"
    )
    assert (finding.verdict, finding.remedy) == ("fail", REMEDY_HARD)


@pytest.mark.parametrize(
    ("enabled", "when"),
    [
        ({}, "abort; that is when the guest turns on MSI or MSI-X or is reset"),
        ({"msi": MSI_FLAGS}, "abort; that is while loading, since"),
        ({"msix": MSIX_FLAGS}, "abort; that is while loading, since"),
    ],
)
@pytest.mark.parametrize("pin", [0, 5, 0xFF])
def test_pin_of_a_stream(enabled: dict[str, int], when: str, pin: int) -> None:
    """A stream tells what the guest uses."""
    found = check(pinned(1), source=pinned(pin, "stream", **enabled))
    assert codes(found) == ["load-abort"]
    assert when in found.findings[0].text


def test_pin_is_not_mended_away() -> None:
    other = make_state(patched(pinned(1).config, VSC_BODY, 0x99))
    found = check(other, False, pinned(0))
    assert (codes(found), found.mendable) == (["vsc-body-differs", "load-abort"], False)
    assert found.findings[0].remedy == ""
    assert codes(check(other, True, pinned(0))) == ["vsc-body-tolerated", "load-abort"]


def test_pin_does_not_matter_where_loading_fails_before() -> None:
    other = make_state(patched(pinned(1).config, PMC, 0x99))
    assert codes(check(other, True, pinned(0))) == ["config-differs"]

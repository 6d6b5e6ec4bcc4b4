"""What a state cannot tell: the other's is taken for it, and said."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.configs import make_config, patched
from unit.makers import make_device, make_extended, make_facts, make_guest, make_state
from vfio_preflight.judge.findings import Finding
from vfio_preflight.judge.model import preflight
from vfio_preflight.judge.undecided import settle
from vfio_preflight.pci.state import Bar, ConfigState

DEVSTA = 0x82  # of the PCIe capability at 0x78
LNKSTA = 0x8A
BAR = Bar(0, 1 << 20, "mem64", True)


def with_bar(register: int, bars: tuple[Bar, ...] = (), evidence: str = "sysfs") -> ConfigState:
    config = bytearray(make_config())
    struct.pack_into("<Q", config, 0x10, register)
    return ConfigState(bytes(config), bars, evidence, "made up")


def texts(source: ConfigState, destination: ConfigState) -> list[str]:
    return [finding.text for finding in settle(source, destination).findings]


def verdict(source: ConfigState, destination: ConfigState) -> str:
    return preflight(make_facts(source, destination)).devices[0].verdict


def findings(source: ConfigState, destination: ConfigState) -> tuple[Finding, ...]:
    return preflight(make_facts(source, destination)).devices[0].findings


KNOWN = with_bar(0xC, (BAR,), "vfio")
STREAM = with_bar(0x38_1230_000C, (), "stream")


def test_what_is_known_stays() -> None:
    for other in (KNOWN, STREAM, with_bar(0x4, (BAR,), "vfio")):
        settled = settle(other, KNOWN)
        assert (settled.source, settled.destination, settled.findings) == (other, KNOWN, ())


@pytest.mark.parametrize("register", [0, 0xC, 0xF600_000C, 0x38_0000_000C])
def test_sizes_and_types_that_are_not_known(register: int) -> None:
    raw = with_bar(register)
    settled = settle(KNOWN, raw)
    assert settled.destination.bars == (BAR,)
    assert settled.destination.config[0x10] == 0xC
    for source, destination in ((KNOWN, raw), (raw, KNOWN), (STREAM, raw), (raw, raw)):
        assert verdict(source, destination) == "pass"


def test_what_is_not_decided_is_said_of_each_side() -> None:
    assert texts(KNOWN, with_bar(0xC)) == [
        "the sizes of the destination's BARs are not known, so that the addresses in them are not"
        " compared, nor the type of a BAR that reads 0"
    ]
    raw = with_bar(0xC)
    assert [text.split("'")[0] for text in texts(raw, raw)] == [
        "the sizes of the source",
        "the sizes of the destination",
    ]
    assert len(texts(STREAM, raw)) == 1


@pytest.mark.parametrize("source", [KNOWN, STREAM])
@pytest.mark.parametrize("register", [0x4, 0xF600_0008, 0x1])
def test_type_that_the_register_shows_decides(source: ConfigState, register: int) -> None:
    assert verdict(source, with_bar(register)) == "fail"
    if source is KNOWN:
        assert verdict(with_bar(register), source) == "fail"


def test_upper_half_is_no_bar() -> None:
    other = with_bar(0, (Bar(0, 64, "mem32"), Bar(1, 64, "mem32")), "vfio")
    assert [bar.number for bar in settle(other, with_bar(0xC)).destination.bars] == [0]
    wide = with_bar(0xC, (BAR,), "vfio")
    two = with_bar(0xF600_0000_0000_0000)
    assert settle(wide, two).destination.config[0x10] == 0


def test_rom_has_the_others_size() -> None:
    rom = Bar(6, 1 << 17, "mem32")
    assert rom in settle(with_bar(0xC, (BAR, rom), "vfio"), with_bar(0xC)).destination.bars


def test_msix_fits_whatever_the_other_says() -> None:
    small = with_bar(0xC, (Bar(0, 64, "mem64", True),), "vfio")
    (bar,) = settle(small, with_bar(0xC)).destination.bars
    assert bar.size == 0x4000  # the table at 0, the PBA at 0x2000


# --- registers of a device in use ----------------------------------------------------------------


def in_use(config: bytes, evidence: str = "sysfs") -> ConfigState:
    return make_state(config, evidence=evidence)


USUAL = in_use(make_config(), "vfio")
FAILED = patched(make_config(), DEVSTA, 0x0F)


def test_device_status_of_a_physical_device_decides_nothing() -> None:
    for source, destination in (
        (USUAL, in_use(FAILED)),
        (in_use(FAILED), USUAL),
        (in_use(FAILED), in_use(make_config())),
        (USUAL._replace(evidence="stream"), in_use(FAILED)),
    ):
        assert verdict(source, destination) == "pass"
    (text,) = texts(USUAL, in_use(FAILED))
    assert text.startswith("the destination's bytes are the physical device's: registers that its")
    assert text.endswith("were not compared (PCIe at 0x78, DEVSTA)")


def test_it_decides_where_vfio_was_asked() -> None:
    for evidence in ("vfio", "catalogue", "file"):
        assert verdict(USUAL, in_use(FAILED, evidence)) == "fail"


def test_link_status_decides() -> None:
    other = patched(make_config(), LNKSTA, 0x42)
    guest = make_guest(make_device(placement="root-port"))
    report = preflight(make_facts(USUAL, in_use(other), guest))
    assert report.devices[0].verdict == "fail"


def test_a_capability_elsewhere_is_not_taken_over() -> None:
    moved = make_config(caps=[("pm", 0x40), ("pcie", 0x80), ("msix", 0xC0)])
    assert verdict(USUAL, in_use(moved)) == "fail"


@pytest.mark.parametrize(
    ("identifier", "body", "at", "value", "expected"),
    [
        (0x01, 0x44, 0x04, 0x20, "pass"),  # AER: uncorrectable errors
        (0x01, 0x44, 0x08, 0x20, "fail"),  # their mask
        (0x01, 0x44, 0x18, 0x04, "pass"),  # the first error
        (0x01, 0x44, 0x18, 0x20, "fail"),  # ECRC generation: what the device can do
        (0x01, 0x44, 0x2B, 0x01, "pass"),  # header log
        (0x01, 0x28, 0x3C, 0x01, "pass"),  # behind the end of the log: another capability's place
        (0x0F, 0x04, 0x07, 0x80, "pass"),  # ATS: on
        (0x0F, 0x04, 0x04, 0x20, "fail"),
        (0x13, 0x0C, 0x04, 0x01, "pass"),
        (0x03, 0x08, 0x05, 0x01, "fail"),  # serial number
    ],
)
def test_extended(identifier: int, body: int, at: int, value: int, expected: str) -> None:
    entries = [(0x100, identifier, bytes(body)), (0x180, 0x08, bytes(0x20))]
    config = make_extended(make_config(4096), entries)
    other = patched(config, 0x100 + at, config[0x100 + at] ^ value)
    assert verdict(in_use(config, "vfio"), in_use(other)) == expected
    assert verdict(in_use(other), in_use(config, "vfio")) == expected


def test_sizes_of_spaces_differ() -> None:
    large = in_use(make_config(4096), "vfio")
    assert settle(USUAL, large) == (USUAL, large, ())
    assert verdict(USUAL, large) == "fail"
    # Of a device without PCI Express there is no more.
    plain = in_use(make_config(caps=()))
    assert settle(plain, large) == (plain, large, ())


def test_dump_of_the_first_256_bytes() -> None:
    """``lspci -xxx`` against ``-xxxx``, or VFIO, of one device: no false refusal, and no pass."""
    large = make_config(4096)
    whole, beginning = in_use(large, "vfio"), in_use(large[:256])
    for one, other, code in (
        (beginning, whole, "source-unknown"),
        (whole, beginning, "destination-unknown"),
    ):
        assert verdict(one, other) == "unknown"
        found = {str(each.code): each.text for each in findings(one, other)}
        assert "only the first 256 bytes" in found[code]
        assert "config-identical" not in found
    # What is known decides.
    revised = in_use(patched(large, 0x08, large[0x08] ^ 1)[:256])
    assert verdict(revised, whole) == "fail"


BYTES = st.binary(min_size=256, max_size=256)
GRADES = st.sampled_from(["stream", "vfio", "sysfs"])


@given(BYTES, GRADES, BYTES, st.sampled_from(["vfio", "sysfs"]), st.booleans())
def test_any_bytes_can_be_settled(
    one: bytes, sent: str, other: bytes, shown: str, sized: bool
) -> None:
    bars = (BAR, Bar(3, 64, "io"), Bar(6, 0x1000, "mem32")) if sized else ()
    source, destination = ConfigState(one, (), sent, ""), ConfigState(other, bars, shown, "")
    settled = settle(source, destination)
    assert sent != "stream" or settled.source == source
    assert shown == "sysfs" or not sized or settled.destination == destination
    # IDs, class and header type are never another's.
    assert (settled.source.config[:0x0D], settled.destination.config[:0x0D]) == (
        one[:0x0D],
        other[:0x0D],
    )
    again = settle(settled.source, settled.destination)
    assert again[:2] == settled[:2]

"""The first line: what, which device, which byte, what to do, in 200 bytes, whatever the names."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.configs import make_config, patched
from unit.makers import (
    PMC,
    VSC_BODY,
    differing,
    make_device,
    make_device_report,
    make_extended,
    make_facts,
    make_guest,
    make_report,
    make_state,
)
from vfio_preflight.judge import codes
from vfio_preflight.judge.codes import CODES
from vfio_preflight.judge.findings import DeviceReport, Finding, Report
from vfio_preflight.judge.model import preflight
from vfio_preflight.judge.policy import Decision
from vfio_preflight.judge.remedies import LONGEST, MENDABLE, OTHERWISE, REMEDIES, in_short
from vfio_preflight.osutil.text import printable
from vfio_preflight.report.firstline import LIMIT, cut, first_line, reasons, short_guest, size
from vfio_preflight.report.schema import ReportDict, as_dict
from vfio_preflight.report.text import HEADLINES, details, headline, refusal, unchecked

BLOCKED = Decision("block")
UUID = "c0ffee00-1111-4222-8333-444455556666"


def judged(offset: int) -> ReportDict:
    guest = make_guest()
    return as_dict(preflight(make_facts(None, differing(offset), guest)), BLOCKED)


def refused(report: Report, decision: Decision = BLOCKED) -> str:
    return refusal(as_dict(report, decision), "migration")[0]


# --- as an operator sees it ----------------------------------------------------------------------


def test_what_device_byte_remedy_in_that_order() -> None:
    assert refusal(judged(VSC_BODY), "migration")[0] == (
        "vfio-preflight: migration blocked: hostdev0 (0000:06:00.4): VSC at 0x60, Vendor Specific"
        " Information, offset 0x63: source 01, destination fe; to do: equal drivers, or mend:"
        " vsc-tolerant = 10de:1eb8"
    )
    # Which fields of the register differ is left to the lines below.
    assert refusal(judged(PMC), "restore")[0] == (
        "vfio-preflight: restore blocked: guest g1, hostdev0 (0000:06:00.4): PM at 0x40, PMC,"
        " offset 0x42: source 03, destination fc; to do: use equal drivers and firmware, or"
        " another destination"
    )


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"host": "0000:06:00.4"}, "guest g1, hostdev0 (0000:06:00.4): "),
        ({"host": UUID}, f"guest g1, hostdev0 ({UUID}): "),
        ({"host": None}, "guest g1, hostdev0: "),
        ({"alias": None, "host": None}, "guest g1, 0000:05:00.0: "),
        ({"alias": "ua-" + "x" * 100, "host": None}, f"guest g1, ua-{'x' * 18}...: "),
    ],
)
def test_device(changes: dict[str, Any], shown: str) -> None:
    (report,) = (make_device_report("source-unknown", device=make_device(**changes)),)
    line = refused(make_report(report))
    assert line.startswith(f"vfio-preflight: migration blocked: {shown}text of source-unknown")


def test_uuid_is_shortened_before_it_is_left_out() -> None:
    device = make_device_report("source-unknown", device=make_device(host=UUID))
    texts = {n: refused(make_report(_saying(device, "x" * n))) for n in (55, 80, 95)}
    assert f"blocked: hostdev0 ({UUID}): xxx" in texts[55]
    assert "blocked: hostdev0 (c0ffee00...): xxx" in texts[80]
    assert "blocked: hostdev0: xxx" in texts[95]


def _saying(device: DeviceReport, text: str) -> DeviceReport:
    return device._replace(findings=(device.findings[0]._replace(text=text),))


def test_finding_on_the_guest() -> None:
    missing = Finding(CODES["machine-missing"], "no pc-q35-11.1", "migrate elsewhere")
    report = make_report(make_device_report("config-differs"), findings=(missing,))
    assert refused(report) == (
        "vfio-preflight: migration blocked: guest g1: no pc-q35-11.1; to do: migrate elsewhere"
    )


def test_is_about_the_verdict_not_the_first_finding() -> None:
    one = make_device_report("source-unknown", device=make_device("a", alias="hostdev0"))
    other = make_device_report("config-differs", device=make_device("b", alias="hostdev1"))
    assert ", hostdev1 " in refused(make_report(one, other))


def test_is_about_what_no_setting_lifts() -> None:
    """A guest is mended as a whole, or not at all."""
    one = make_device_report(
        "vsc-body-differs", device=make_device("a", alias="hostdev0"), mendable=True
    )
    other = make_device_report("config-differs", device=make_device("b", alias="hostdev1"))
    line = refused(make_report(one, other))
    assert ", hostdev1 " in line and "mend" not in line


def test_everything_else_is_below() -> None:
    report = judged(PMC)
    below = refusal(report, "migration")[1:]
    assert below == details(report)
    (finding,) = (f for f in report["devices"][0]["findings"] if f["code"] == "config-differs")
    for part in (finding["text"], finding["remedy"], report["devices"][0]["qemu"]):
        assert any(part in line for line in below), part


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("config-identical", f"pass: {HEADLINES['pass']}"),
        ("vsc-body-tolerated", "tolerated: guest g1, hostdev0 (0000:06:00.4): text of "),
        ("source-unknown", "unknown: guest g1, hostdev0 (0000:06:00.4): text of "),
        ("config-differs", "fail: guest g1, hostdev0 (0000:06:00.4): text of "),
    ],
)
def test_headline_of_each_verdict(code: str, expected: str) -> None:
    assert headline(as_dict(make_report(make_device_report(code)), BLOCKED)).startswith(expected)


def test_mended_guest_needs_nothing_done() -> None:
    report = make_report(make_device_report("vsc-body-differs", mendable=True))
    line = headline(as_dict(report, Decision("mend", ("hostdev0",))))
    assert line.endswith("text of vsc-body-differs; the hook mends it") and "to do" not in line


def test_who_knows_better_what_to_do() -> None:
    line = first_line("x", judged(VSC_BODY), "", "migrate again")
    assert line.endswith("; to do: migrate again")


def test_command_with_a_name_that_can_be_typed() -> None:
    assert in_short("source-unknown", "g1").endswith("record g1")
    assert in_short("source-unknown", "g" * 60).endswith("record GUEST")


def test_code_of_a_newer_version() -> None:
    assert in_short("never-heard-of", "g1") == OTHERWISE


def test_own_remedy_if_it_is_short() -> None:
    for text, used in (("move", True), ("m" * LONGEST, True), ("m" * (LONGEST + 1), False)):
        found = Finding(codes.MACHINE_MISSING, "gone", text)
        line = refused(make_report(findings=(found,)))
        assert line.endswith(f"; to do: {text}" if used else REMEDIES[codes.MACHINE_MISSING])


# --- the on-error policy's -----------------------------------------------------------------------


def test_unchecked() -> None:
    first, *below = unchecked("migration", "g1", "no result\nwithin the deadline", "in full")
    assert first == (
        "vfio-preflight: migration blocked: guest g1: the check could not be made: no result"
        " within the deadline; to do: correct that, or set on-error = allow on the destination"
    )
    assert below == [
        "  guest g1: the check could not be made: no result within the deadline",
        "  to do: in full",
    ]


@given(st.text(max_size=300), st.text(max_size=2000))
def test_unchecked_fits_whatever_failed(guest: str, failure: str) -> None:
    lines = unchecked("migration", guest, failure, "in full")
    assert size(lines[0]) <= LIMIT and all(line.isprintable() for line in lines)
    assert lines[0].endswith(in_short("not-checked", guest))


# --- the table -----------------------------------------------------------------------------------


def test_every_code_that_can_block_has_a_remedy() -> None:
    assert set(REMEDIES) == {code for code in CODES.values() if code.verdict != "pass"}
    assert set(MENDABLE) <= set(REMEDIES)


@pytest.mark.parametrize("table", [REMEDIES, MENDABLE])
def test_remedies_are_short(table: dict[codes.Code, str]) -> None:
    for code, text in table.items():
        # The longest name of a guest that is put into a command.
        shown = text.format(guest="x" * 20, identity="ffff:ffff")
        assert shown.isascii() and size(shown) <= LONGEST and not shown.endswith("."), code


# --- whatever the names --------------------------------------------------------------------------

ODD = st.text(max_size=300) | st.text("aé中\U0001f600", max_size=120)
NAMES = st.one_of(
    ODD, st.sampled_from(("hostdev0", "ua-gpu", "instance-0000abcd", "\x1b[31m\n\u202e\ud800"))
)
HOSTS = st.one_of(st.none(), NAMES, st.sampled_from(("0000:06:00.4", UUID)))
MISMATCHES = st.fixed_dictionaries(
    {
        "offset": st.integers(0, 0xFFF),
        "where": NAMES,
        "register": NAMES,
        "source": st.integers(0, 255),
        "destination": st.integers(0, 255),
        "line": st.just("x"),
    }
)
BLOCKING = sorted(code for code in CODES.values() if code.verdict != "pass")


@given(
    code=st.sampled_from(BLOCKING),
    text=ODD,
    own=ODD,
    device=st.booleans(),
    names=st.tuples(NAMES, NAMES, st.none() | NAMES),
    host=HOSTS,
    mendable=st.booleans(),
    mismatches=st.lists(MISMATCHES, max_size=3),
    what=st.sampled_from(("migration", "restore")),
)
def test_whatever_is_found_of_whatever_device(
    code: codes.Code,
    text: str,
    own: str,
    device: bool,
    names: tuple[str, str, str | None],
    host: str | None,
    mendable: bool,
    mismatches: list[dict[str, Any]],
    what: str,
) -> None:
    guest, key, alias = names
    byte = "".join(_byte(**mismatch) for mismatch in mismatches[:1]) if device else ""
    # As describe() words it: the register, its fields, the byte, and what comes of it.
    text = f"register ({text}), {byte}; {own}" if byte else text
    finding = {"code": str(code), "verdict": code.verdict, "text": text, "remedy": own}
    if byte:
        finding["mismatches"] = mismatches  # type: ignore[assignment]
    shown: dict[str, Any] = dict(as_dict(make_report(make_device_report(code)), BLOCKED))
    one = {**shown["devices"][0], "key": key, "alias": alias, "host": host, "mendable": mendable}
    shown |= {"guest": guest, "findings": [] if device else [finding]}
    shown["devices"] = [{**one, "findings": [finding]}] if device else []
    report = cast(ReportDict, shown)
    short = in_short(code, guest, one["identity"], mendable and device)
    remedy = printable(own if 0 < size(own) <= LONGEST else short)
    # The hook's, and check's.
    checked = f"TOLERATED {short_guest(guest)}"
    for line, opening in (
        (refusal(report, what)[0], f"vfio-preflight: {what} blocked: "),
        (first_line(checked, report, "", names_guest=True), printable(f"{checked}: ")),
    ):
        assert size(line) <= LIMIT and len(line) <= LIMIT and line.isprintable()
        assert line.startswith(opening) and byte in line and line.endswith(f"; to do: {remedy}")


def _byte(offset: int, source: int, destination: int, **_names: str) -> str:
    return f"offset {offset:#x}: source {source:02x}, destination {destination:02x}"


EXPRESS = make_extended(
    make_config(4096),
    [(0x100 + 0x40 * n, cap, bytes(0x3C)) for n, cap in enumerate((1, 3, 0xB, 0x15, 0x19, 0x23))],
)


@pytest.mark.parametrize("what", ["migration", "restore"])
@given(
    offset=st.integers(0, 0x2FF),
    bits=st.integers(1, 255),
    host=st.sampled_from(("0000:06:00.4", UUID, None)),
    alias=st.sampled_from(("hostdev0", "ua-" + "gpu" * 40, None)),
    machine=st.sampled_from(("pc-q35-9.0", "pc-q35-9.1")),
    placement=st.sampled_from(("root-port", "root-complex", "conventional")),
)
def test_every_byte_of_a_device(
    what: str,
    offset: int,
    bits: int,
    host: str | None,
    alias: str | None,
    machine: str,
    placement: str,
) -> None:
    """As the judge finds them: the byte that QEMU would name, its register, and what to do."""
    changed = make_state(patched(EXPRESS, offset, EXPRESS[offset] ^ bits))
    device = make_device(host=host, alias=alias, placement=placement)
    facts = make_facts(make_state(EXPRESS), changed, make_guest(device, machine=machine))
    report = as_dict(preflight(facts), BLOCKED)
    line = refusal(report, what)[0]
    assert size(line) <= LIMIT and line.isprintable()
    reason = next(reasons(report), None)
    if reason is None:
        return
    assert "; to do: " in line
    for mismatch in reason[1].get("mismatches", [])[:1]:
        assert mismatch["register"][:25] in line
        assert f", offset {mismatch['offset']:#x}: source " in line


@given(ODD, st.integers(3, 60))
def test_cut(text: str, room: int) -> None:
    shown = cut(text, room)
    assert size(shown) <= room
    assert shown == text or shown.endswith("...")


def test_cut_at_a_space_if_there_is_one() -> None:
    assert cut("the destination refuses the device", 24) == "the destination..."
    assert cut("x" * 30, 10) == "xxxxxxx..."
    assert cut("a " + "x" * 30, 10) == "a xxxxx..."


@given(NAMES)
def test_short_guest(name: str) -> None:
    assert size(short_guest(name)) <= 24

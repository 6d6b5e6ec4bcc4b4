from __future__ import annotations

import pytest

from lab.configs import make_config, patched
from unit.makers import PMC, VSC_BODY, differing, make_context, make_device, make_state
from vfio_preflight.guest.record import RecordEntry
from vfio_preflight.judge.checks.evidence import (
    check_age,
    check_evidence,
    check_inferred,
    check_strength,
    contradictions,
    contradicts_record,
    is_weaker,
)
from vfio_preflight.judge.facts import DeviceFacts
from vfio_preflight.pci.state import ANY_EVIDENCE, EVIDENCE, ConfigState
from vfio_preflight.qemu.model.vfio_pci import Environment, VirtualConfig, realise
from vfio_preflight.report.text import EVIDENCE as MEANINGS

WORD = make_state(evidence="file")


def test_weaker() -> None:
    for number, minimum in enumerate(EVIDENCE):
        weak = [grade for grade in EVIDENCE if is_weaker(make_state(evidence=grade), minimum)]
        assert weak == list(EVIDENCE[number + 1 :])
    assert not is_weaker(WORD, ANY_EVIDENCE)


def test_what_is_used_of_a_record_speaks_for_or_against_itself() -> None:
    entry = RecordEntry(RECORD, age=8640000, migration="none")
    used = DeviceFacts(make_device(), RECORD, RECORD, entry)
    codes = [finding.code for finding in check_evidence(make_context(), used)]
    assert codes == ["record-late", "device-not-migratable"]
    image = used._replace(source=make_state(evidence="stream"))
    assert check_evidence(make_context(), image) == ()
    for migration in ("stop-copy", ""):
        entry = RecordEntry(RECORD, migration=migration)
        assert (
            check_evidence(make_context(), DeviceFacts(make_device(), RECORD, RECORD, entry)) == ()
        )


def test_every_evidence_has_a_meaning() -> None:
    assert tuple(MEANINGS) == EVIDENCE


def test_strength_of_each_side() -> None:
    seen = make_state(evidence="vfio")
    assert check_strength(seen, seen, "vfio", "pass") == ()
    (finding,) = check_strength(seen, WORD, "sysfs", "fail")
    assert (finding.code, finding.verdict) == ("evidence-weak", "unknown")
    assert finding.text == (
        "the destination's state has evidence file, the policy requires sysfs or better; with"
        " this state the verdict would be fail"
    )
    assert len(check_strength(WORD, WORD, "vfio", "pass")) == 2


def test_inferred() -> None:
    (finding,) = check_inferred(make_state(evidence="inferred"))
    assert (finding.code, finding.verdict) == ("state-inferred", "pass")
    assert check_inferred(WORD) == ()


@pytest.mark.parametrize(
    ("age", "told"),
    [
        (61, "61 seconds"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7199, "119 minutes"),
        (7200, "2 hours"),
        (172799, "47 hours"),
        (8640000, "100 days"),
    ],
)
def test_record_that_was_made_late(age: int, told: str) -> None:
    (finding,) = check_age(age)
    assert (finding.code, finding.verdict) == ("record-late", "pass")
    assert finding.text == (
        f"the source's state was recorded {told} after QEMU started; a change of driver or firmware"
        " before that is not in it"
    )


@pytest.mark.parametrize("age", [0, 60, None])
def test_record_that_was_made_in_time_or_does_not_say(age: int | None) -> None:
    assert check_age(age) == ()


@pytest.mark.parametrize(
    ("config", "part"),
    [
        (make_config(vendor=0x15B3), "vendor:device 10de:1eb8 and 15b3:1eb8"),
        (make_config(device=1), "vendor:device 10de:1eb8 and 10de:0001"),
        (make_config(class_code=0x020000), "class 030200 and 020000"),
        (make_config(4096), "size 256 bytes and 4096 bytes"),
    ],
)
def test_contradictions(config: bytes, part: str) -> None:
    (finding,) = contradictions("source", WORD, make_state(config))
    assert (finding.code, finding.verdict) == ("evidence-contradicts", "unknown")
    assert finding.text.startswith(f"{part}: two states of the source's device disagree; ")
    assert "file (made up), the other of sysfs (made up)" in finding.text


@pytest.mark.parametrize("offset", [0x04, 0x06, 0x08, 0x0C, 0x10, 0x2E, 0x3C, 0x42, 0x63])
def test_what_time_and_drivers_change_is_no_contradiction(offset: int) -> None:
    config = make_config()
    other = make_state(patched(config, offset, config[offset] ^ 0xFF))
    assert contradictions("source", WORD, other) == ()


# --- a stream against the record of what is in it -------------------------------------------------

THERE = Environment("root-port")
RECORD = make_state(evidence="vfio")


def sent(config: bytes | None = None, there: Environment = THERE) -> ConfigState:
    """What QEMU makes of ``config``, in a stream."""
    made = realise(make_state(config), there)
    assert isinstance(made, VirtualConfig)
    return make_state(made.config, evidence="stream")


@pytest.mark.parametrize("size", [256, 4096])
@pytest.mark.parametrize("placement", ["root-port", "root-complex", "conventional"])
def test_stream_is_what_qemu_makes_of_the_record(size: int, placement: str) -> None:
    there = Environment(placement)
    record = make_state(make_config(size), evidence="vfio")
    assert contradicts_record(sent(make_config(size), there), record, there) == ()


def test_what_the_guest_writes_is_no_contradiction() -> None:
    stream = sent()
    for offset in (0x04, 0x3C, 0x10 + 3):  # command, interrupt line, an address
        stream = stream._replace(config=patched(stream.config, offset, 0x06))
    assert contradicts_record(stream, RECORD, THERE) == ()


@pytest.mark.parametrize(
    ("offset", "part"),
    [
        (VSC_BODY, "VSC at 0x60, Vendor Specific Information, offset 0x63: fe and 01"),
        (PMC, "PM at 0x40, PMC, offset 0x42: fc and 03"),
    ],
)
def test_stream_that_is_of_another_device(offset: int, part: str) -> None:
    (finding,) = contradicts_record(sent(differing(offset).config), RECORD, THERE)
    assert (finding.code, finding.verdict) == ("evidence-contradicts", "unknown")
    # The byte comes first, where the first line of a refusal has room for it.
    assert finding.text == (
        f"{part}: two states of the source's device disagree; one is of evidence stream (made up),"
        " the other of vfio (made up)"
    )


def test_contradiction_of_several_bytes_names_the_first() -> None:
    config = patched(differing(VSC_BODY).config, VSC_BODY + 1, 0)
    (finding,) = contradicts_record(sent(config), RECORD, THERE)
    assert "offset 0x63: fe and 01 (and 1 more byte): two states" in finding.text


def test_record_of_what_qemu_would_not_realise() -> None:
    broken = make_state(patched(make_config(), 0x34, 0x41), evidence="vfio")
    (finding,) = contradicts_record(sent(), broken, THERE)
    assert "QEMU would not have realised the recorded one (" in finding.text


def test_record_that_claims_less_is_held_to_less() -> None:
    """sysfs lacks what a driver adds; and a file for the source is no stream."""
    stream = sent(differing(VSC_BODY).config)
    assert contradicts_record(stream, make_state(evidence="sysfs"), THERE) == ()
    assert contradicts_record(stream._replace(evidence="file"), RECORD, THERE) == ()
    other = make_state(make_config(device=1), evidence="sysfs")
    (finding,) = contradicts_record(stream, other, THERE)
    assert "vendor:device" in finding.text

from __future__ import annotations

import pytest

from lab.configs import make_config, patched
from unit.makers import PMC, VSC_BODY, differing, make_state
from vfio_preflight.checks.evidence import (
    check_age,
    check_inferred,
    check_strength,
    contradictions,
    contradicts_record,
    weaker,
)
from vfio_preflight.pci.state import ANY_EVIDENCE, EVIDENCE, ConfigState
from vfio_preflight.qemu.vfio_pci import Environment, VirtualConfig, realise
from vfio_preflight.render import EVIDENCE as MEANINGS

WORD = make_state(evidence="file")


def test_weaker() -> None:
    for number, minimum in enumerate(EVIDENCE):
        weak = [grade for grade in EVIDENCE if weaker(make_state(evidence=grade), minimum)]
        assert weak == list(EVIDENCE[number + 1 :])
    assert not weaker(WORD, ANY_EVIDENCE)


def test_every_evidence_has_a_meaning() -> None:
    assert tuple(MEANINGS) == EVIDENCE


def test_strength_of_each_side() -> None:
    seen = make_state(evidence="vfio")
    assert check_strength(seen, seen, "vfio", "pass") == ()
    (finding,) = check_strength(seen, WORD, "sysfs", "fail")
    assert (finding.code, finding.verdict) == ("evidence-weak", "unknown")
    assert finding.text == (
        "the destination's state has evidence file, the policy demands sysfs or better; going by"
        " it, the verdict would be fail"
    )
    assert len(check_strength(WORD, WORD, "vfio", "pass")) == 2


def test_inferred() -> None:
    (finding,) = check_inferred(make_state(evidence="inferred"))
    assert (finding.code, finding.verdict) == ("state-inferred", "pass")
    assert check_inferred(WORD) == ()


@pytest.mark.parametrize(
    ("age", "told"),
    [
        ("61", "61 seconds"),
        ("119", "119 seconds"),
        ("120", "2 minutes"),
        ("7199", "119 minutes"),
        ("7200", "2 hours"),
        ("172799", "47 hours"),
        ("8640000", "100 days"),
    ],
)
def test_record_that_was_made_late(age: str, told: str) -> None:
    (finding,) = check_age({"age": age})
    assert (finding.code, finding.verdict) == ("record-late", "pass")
    assert finding.text == (
        f"the source's state was recorded {told} after QEMU started; a change of driver or firmware"
        " before that is not in it"
    )


@pytest.mark.parametrize("age", ["0", "60", "", "-100", "1e9", "1" * 13, "٦١", "100\n"])
def test_record_that_was_made_in_time_or_does_not_say(age: str) -> None:
    assert check_age({"age": age}) == ()
    assert check_age({}) == ()


@pytest.mark.parametrize(
    ("config", "part"),
    [
        (make_config(vendor=0x15B3), "vendor:device 10de:1eb8 by one, 15b3:1eb8 by the other"),
        (make_config(device=1), "vendor:device 10de:1eb8 by one, 10de:0001 by the other"),
        (make_config(class_code=0x020000), "class 030200 by one, 020000 by the other"),
        (make_config(4096), "size 256 bytes by one, 4096 bytes by the other"),
    ],
)
def test_contradictions(config: bytes, part: str) -> None:
    (finding,) = contradictions("source", WORD, make_state(config))
    assert (finding.code, finding.verdict) == ("evidence-contradicts", "unknown")
    assert finding.text.endswith(part)
    assert "file (made up) and sysfs (made up)" in finding.text


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
        (VSC_BODY, "VSC at 0x60, Vendor Specific Information, offset 0x63: fe by one, 01 by the"),
        (PMC, "PM at 0x40, PMC, offset 0x42: fc by one, 03 by the other"),
    ],
)
def test_stream_that_is_of_another_device(offset: int, part: str) -> None:
    (finding,) = contradicts_record(sent(differing(offset).config), RECORD, THERE)
    assert (finding.code, finding.verdict) == ("evidence-contradicts", "unknown")
    assert part in finding.text
    assert "the source's state has evidence stream (made up) and vfio (made up)" in finding.text


def test_contradiction_of_several_bytes_names_the_first() -> None:
    config = patched(differing(VSC_BODY).config, VSC_BODY + 1, 0)
    (finding,) = contradicts_record(sent(config), RECORD, THERE)
    assert finding.text.endswith("offset 0x63: fe by one, 01 by the other, and 1 more bytes")


def test_record_of_what_qemu_would_not_realise() -> None:
    broken = make_state(patched(make_config(), 0x34, 0x41), evidence="vfio")
    (finding,) = contradicts_record(sent(), broken, THERE)
    assert "QEMU would have made no device: " in finding.text


def test_record_that_claims_less_is_held_to_less() -> None:
    """sysfs lacks what a driver adds; and a file for the source is no stream."""
    stream = sent(differing(VSC_BODY).config)
    assert contradicts_record(stream, make_state(evidence="sysfs"), THERE) == ()
    assert contradicts_record(stream._replace(evidence="file"), RECORD, THERE) == ()
    other = make_state(make_config(device=1), evidence="sysfs")
    (finding,) = contradicts_record(stream, other, THERE)
    assert "vendor:device" in finding.text

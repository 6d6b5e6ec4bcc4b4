from __future__ import annotations

import pytest

from lab.configs import make_config, patched
from unit.makers import make_state
from vfio_preflight.checks.evidence import (
    check_age,
    check_inferred,
    check_strength,
    contradictions,
    weaker,
)
from vfio_preflight.pci.state import ANY_EVIDENCE, EVIDENCE
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

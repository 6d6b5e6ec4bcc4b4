"""What is said of a guest's twin."""

from __future__ import annotations

import pytest

from unit.makers import make_facts
from vfio_preflight.judge.checks.twin import check_twin, told_more
from vfio_preflight.judge.model import preflight
from vfio_preflight.qemu.twin.told import (
    ACCEPTED,
    BLOCKED,
    CRASHED,
    HUNG,
    LOST,
    NOT_RUN,
    OUTCOMES,
    OUTDATED,
    REFUSED,
    UNMADE,
    Told,
)

TOLD = Told(ACCEPTED, "", "", "QEMU 1", "QEMU 2")


BY = "; QEMU 2, of what QEMU 1 saved"


@pytest.mark.parametrize(
    ("outcome", "code", "text"),
    [
        (ACCEPTED, "twin-accepted", f"the destination's QEMU loads the guest's twin{BY}"),
        (
            REFUSED,
            "twin-refused",
            f"the destination's QEMU refuses the guest's twin: \"the line\"{BY}",
        ),
        (
            CRASHED,
            "twin-refused",
            f"the destination's QEMU crashes on the guest's twin: \"the line\"{BY}",
        ),
        (
            HUNG,
            "twin-refused",
            "the destination's QEMU does not come to an end with the guest's twin:"
            f' "the line"{BY}',
        ),
        (
            UNMADE,
            "twin-undecided",
            "the destination's QEMU does not make the guest's twin: \"the line\"; of the arguments"
            f" that the source's libvirt gave, where its own may give others{BY}",
        ),
        (
            OUTDATED,
            "twin-undecided",
            "the destination's QEMU refuses the guest's twin: \"the line\"; but on the source a"
            f" file changed since the guest started{BY}",
        ),
        (
            BLOCKED,
            "twin-blocked",
            "the source's QEMU refuses to send the guest's twin: \"the line\"; QEMU 1",
        ),
        (
            LOST,
            "twin-blocked",
            "the source's QEMU crashes as it sends the guest's twin, and would end with the guest:"
            ' "the line"; QEMU 1',
        ),
    ],
)
def test_finding(outcome: str, code: str, text: str) -> None:
    told = Told(outcome, "" if outcome == ACCEPTED else "the line", "", "QEMU 1")
    if code != "twin-blocked":
        told = told._replace(destination="QEMU 2")
    (finding,) = check_twin(told)
    assert (finding.code, finding.text) == (code, text)
    assert bool(finding.remedy) is (outcome != ACCEPTED)


def test_when_and_of_which_device() -> None:
    told = Told(REFUSED, "the line", "0000:00:02.0/x", "QEMU 1", "QEMU 2", (), "T")
    (finding,) = check_twin(told)
    assert finding.text.endswith(
        '"the line" (of 0000:00:02.0/x); QEMU 2, of what QEMU 1 saved, tried at T'
    )


def test_what_was_not_run_is_told_to_who_asked_alone() -> None:
    told = TOLD._replace(outcome=NOT_RUN, line="the line")
    assert check_twin(told) == ()
    (finding,) = told_more(told)
    assert (finding.code, finding.verdict) == ("twin-not-run", "pass")
    assert finding.text == "the guest's twin was not tried: the line"


def test_what_was_not_in_it() -> None:
    names = [f"d{n} (x): why" for n in range(5)]
    told = TOLD._replace(uncovered=tuple(names))
    (finding,) = check_twin(told)
    assert finding.text.endswith("; not in it: d0 (x), d1 (x), d2 (x) and 2 more")
    (more,) = told_more(told)
    assert more.text == f"not in the guest's twin: {'; '.join(names)}"


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_in_a_report(outcome: str) -> None:
    facts = make_facts()
    told = [finding.code for finding in preflight(facts).findings]
    twin = preflight(facts._replace(twin=TOLD._replace(outcome=outcome)))
    new = [finding.code for finding in twin.findings if finding.code not in told]
    assert new == [finding.code for finding in check_twin(TOLD._replace(outcome=outcome))]
    verdicts = {ACCEPTED: "pass", NOT_RUN: "pass", UNMADE: "unknown", OUTDATED: "unknown"}
    assert twin.verdict == verdicts.get(outcome, "fail")

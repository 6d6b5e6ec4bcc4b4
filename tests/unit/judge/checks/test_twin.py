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
    NOT_RUN,
    OUTCOMES,
    OUTDATED,
    REFUSED,
    UNMADE,
    Told,
)

TOLD = Told(ACCEPTED, "the line", "", "QEMU 1", "QEMU 2")


@pytest.mark.parametrize(
    ("told", "code", "verdict", "text"),
    [
        (TOLD, "twin-accepted", "pass", "QEMU 2 loads the guest's twin that QEMU 1 saved"),
        (
            TOLD._replace(outcome=REFUSED, device="a/b", time="T"),
            "twin-refused",
            "fail",
            'QEMU 2 refuses the guest\'s twin that QEMU 1 saved (tried at T): "the line" (of a/b)',
        ),
        (
            TOLD._replace(outcome=CRASHED),
            "twin-refused",
            "fail",
            'QEMU 2 crashes on the guest\'s twin that QEMU 1 saved: "the line"',
        ),
        (
            TOLD._replace(outcome=HUNG),
            "twin-refused",
            "fail",
            'QEMU 2 does not come to an end with the guest\'s twin that QEMU 1 saved: "the line"',
        ),
        (
            TOLD._replace(outcome=UNMADE),
            "twin-undecided",
            "unknown",
            "QEMU 2 does not make the guest's twin of the arguments that the source's libvirt gave,"
            ' where its own may give others: "the line"',
        ),
        (
            TOLD._replace(outcome=OUTDATED),
            "twin-undecided",
            "unknown",
            "QEMU 2 refuses the guest's twin that QEMU 1 saved:"
            ' "the line"; but on the source a file changed since the guest started',
        ),
        (
            TOLD._replace(outcome=BLOCKED),
            "twin-blocked",
            "fail",
            'QEMU 1 refuses to send the guest\'s twin: "the line"',
        ),
    ],
)
def test_finding(told: Told, code: str, verdict: str, text: str) -> None:
    (finding,) = check_twin(told)
    assert (finding.code, finding.verdict, finding.text) == (code, verdict, text)
    assert bool(finding.remedy) is (verdict != "pass")


def test_what_was_not_run_is_told_to_who_asked_alone() -> None:
    told = TOLD._replace(outcome=NOT_RUN)
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

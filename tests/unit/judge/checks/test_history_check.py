from __future__ import annotations

import pytest

from unit.makers import PMC, VSC_BODY, differing, make_device, make_facts, make_guest, make_state
from vfio_preflight.judge.codes import REFUSED_BEFORE
from vfio_preflight.judge.facts import Facts, Refused
from vfio_preflight.judge.findings import DeviceReport, Report
from vfio_preflight.judge.model import preflight
from vfio_preflight.judge.policy import Decision, decide
from vfio_preflight.judge.verdicts import DEFAULT_POLICY
from vfio_preflight.pci.state import UNKNOWN, ConfigState, Missing

ONCE = Refused("Bad config data: i=0x1", "2026-11-27T07:00:00Z", "one")
TWICE = Refused("Bad config data: i=0x2", "2026-11-28T07:00:00Z", "two")


def facts(*refused: Refused, destination: ConfigState | None = None) -> Facts:
    made = make_facts(destination=destination)
    return made._replace(devices=tuple(d._replace(refused=refused) for d in made.devices))


def judged(*refused: Refused, destination: ConfigState | None = None) -> DeviceReport:
    (device,) = preflight(facts(*refused, destination=destination)).devices
    return device


def test_never_refused() -> None:
    assert judged().verdict == "pass"


def test_refused_before_is_unknown_with_line_and_date() -> None:
    device = judged(ONCE, TWICE)
    (finding,) = [f for f in device.findings if f.code is REFUSED_BEFORE]
    assert device.verdict == "unknown"
    assert TWICE.line in finding.text and TWICE.time in finding.text
    assert "although" not in finding.text
    assert finding.remedy.endswith("vfio-preflight history forget one two")


@pytest.mark.parametrize("offset", [VSC_BODY, PMC])
def test_what_fails_stays_failed(offset: int) -> None:
    device = judged(ONCE, destination=differing(offset))
    assert device.verdict == "fail"
    assert REFUSED_BEFORE in [finding.code for finding in device.findings]


def decision(report: Report, **policy: str) -> Decision:
    return decide(report, {**DEFAULT_POLICY, **policy}, ("10de:*",))


def test_refusal_before_does_not_keep_a_mend_from_being_made() -> None:
    report = preflight(facts(ONCE, destination=differing(VSC_BODY)))
    assert decision(report, fail="mend", unknown="block").action == "mend"


def test_mend_that_was_refused_is_not_made_again() -> None:
    mended = ONCE._replace(mended=True)
    report = preflight(facts(mended, destination=differing(VSC_BODY)))
    assert decision(report, fail="mend").action == "block"
    assert "although skip-vsc-check was set" in str(report.devices[0].findings)


@pytest.mark.parametrize("mended", [False, True])
def test_mend_that_was_refused_is_not_made_ahead_either(mended: bool) -> None:
    """As far as the record's traits tell, it is the same device; its state is not known here."""
    made = make_facts(destination=Missing(UNKNOWN, "not to be read"))
    refused = (ONCE._replace(mended=mended),)
    known = made._replace(devices=tuple(d._replace(refused=refused) for d in made.devices))
    assert bool(decision(preflight(known), fail="mend").mend) is not mended


def test_refusal_before_asks_for_what_unknown_asks_for() -> None:
    assert decision(preflight(facts(ONCE)), unknown="block").action == "block"


def test_device_that_is_unplugged_is_not_refused() -> None:
    guest = make_guest(make_device(properties={"failover_pair_id": "net0"}))
    made = make_facts(make_state(), make_state(), guest)
    known = made._replace(devices=tuple(d._replace(refused=(ONCE,)) for d in made.devices))
    (device,) = preflight(known).devices
    assert REFUSED_BEFORE not in [finding.code for finding in device.findings]

from __future__ import annotations

import pytest

from unit.makers import PMC, VSC_BODY, differing, make_device, make_facts, make_guest, make_state
from vfio_preflight.guest.domain import GuestDevice
from vfio_preflight.judge.findings import DeviceReport
from vfio_preflight.judge.model import preflight
from vfio_preflight.judge.policy import decide
from vfio_preflight.judge.verdicts import DEFAULT_POLICY
from vfio_preflight.pci.state import ConfigState

LINE = "get_pci_config_device: Bad config data: i=0x78 read: a0 device: 20"


def judged(
    source: int | None,
    destination: int | None,
    device: GuestDevice | None = None,
    state: ConfigState | None = None,
) -> DeviceReport:
    sent = make_state(evidence="vfio")._replace(atomics=source)
    here = (state or make_state())._replace(atomics=destination)
    guest = make_guest(*([device] if device else []))
    return preflight(make_facts(sent, here, guest)).devices[0]


def codes(report: DeviceReport) -> list[str]:
    return [finding.code for finding in report.findings if finding.code != "skip-vsc-check"]


def test_roots_that_differ() -> None:
    report = judged(7, 0)
    assert codes(report) == ["atomic-ops-differ"]
    assert report.quote.startswith(LINE)
    assert report.prediction is not None
    assert report.prediction.outcomes == ("fail",)
    assert report.prediction.lines == (report.quote,)
    (text, *_) = (finding.text for finding in report.findings)
    assert "32 and 64 and 128 bits on the source, no width here" in text


def test_alike() -> None:
    assert codes(judged(3, 3)) == ["config-identical"]
    assert judged(3, 3).prediction == judged(None, None).prediction


def test_line_of_the_port_comes_before_the_device() -> None:
    """Its section does."""
    report = judged(7, 0, state=differing(PMC))
    assert codes(report) == ["atomic-ops-differ", "config-differs"]
    assert report.quote.startswith(LINE)


def test_is_not_mended() -> None:
    """skip-vsc-check would not help."""
    assert judged(3, 3, state=differing(VSC_BODY)).mendable
    sent = make_state()._replace(atomics=7)
    report = preflight(make_facts(sent, differing(VSC_BODY)._replace(atomics=0)))
    assert not report.devices[0].mendable
    decision = decide(report, {**DEFAULT_POLICY, "fail": "mend"}, ("10de:*",))
    assert (decision.action, decision.mend) == ("block", ())


@pytest.mark.parametrize(
    ("source", "destination", "told"), [(7, None, "destination's"), (None, 3, "source's")]
)
def test_one_side_alone_decides_nothing(
    source: int | None, destination: int | None, told: str
) -> None:
    report = judged(source, destination)
    assert codes(report) == ["not-decided", "config-identical"] or codes(report)[::-1] == [
        "not-decided",
        "config-identical",
    ]
    assert report.verdict == "pass"
    (text,) = (finding.text for finding in report.findings if finding.code == "not-decided")
    assert told in text


@pytest.mark.parametrize(("source", "destination"), [(0, None), (None, 0), (None, None)])
def test_nothing_is_said_where_there_are_none(source: int | None, destination: int | None) -> None:
    assert codes(judged(source, destination)) == ["config-identical"]


@pytest.mark.parametrize(
    "device",
    [
        make_device(placement="root-complex"),
        make_device()._replace(port=""),
        make_device(properties={"multifunction": "on"}),
    ],
)
def test_no_root_port_no_difference(device: GuestDevice) -> None:
    assert codes(judged(7, 0, device)) == ["config-identical"]
    assert codes(judged(7, None, device)) == ["config-identical"]


def test_a_device_that_is_not_realised_changes_no_port() -> None:
    config = bytearray(make_state().config)
    config[0x7A] = 0x42
    report = judged(7, 0, state=make_state(bytes(config)))
    assert "atomic-ops-differ" not in codes(report)


def test_other_root_port_and_a_trial() -> None:
    """A trial's port is the usual one, whose register stands elsewhere: both lines will do."""
    report = judged(7, 0, make_device()._replace(port="ioh3420"))
    assert "i=0xb4 read: a0" in report.quote
    assert report.prediction is not None
    assert [line.split()[4] for line in report.prediction.lines] == ["i=0xb4", "i=0x78"]

"""What becomes of a report when the emulator was tried; what it does is made up here."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from conformance.cases import case_from_json
from lab.configs import make_config
from unit.makers import (
    PMC,
    UNASKED,
    VSC_BODY,
    differing,
    make_device,
    make_emulator,
    make_facts,
    make_guest,
    make_state,
)
from vfio_preflight.guest.domain import Global, GuestDevice, Property
from vfio_preflight.judge.confirm import Attempt
from vfio_preflight.judge.facts import Facts
from vfio_preflight.judge.findings import DeviceReport, Finding, Report
from vfio_preflight.judge.pipeline import examine
from vfio_preflight.judge.policy import decide
from vfio_preflight.pci.state import UNKNOWN, ConfigState, Missing
from vfio_preflight.qemu.trial.endings import Result
from vfio_preflight.qemu.trial.workbench import Setting

LOOP = make_state(b"\xff" * 256)
MISMATCH = "get_pci_config_device: Bad config data: i=0x{:x} read: {:x} device: {:x} cmask: ff"
UNPLACED = make_device()._replace(assumption="the device has no PCI <address>")
LATE = "has not come to an end in time"


class Emulator:
    """Stands in for the trial; ``answers`` are given in turn."""

    def __init__(self) -> None:
        self.answers: list[Result | None] = []
        self.settings: list[Setting] = []

    def __call__(self, source: ConfigState, destination: ConfigState, setting: Setting) -> Attempt:
        self.settings.append(setting)
        answer = self.answers.pop(0)
        return Attempt(None, LATE) if answer is None else Attempt(answer)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    made_up = Emulator()
    yield made_up
    assert made_up.answers == []


def prove(emulator: Emulator, facts: Facts, *answers: Result | None) -> DeviceReport:
    emulator.answers = list(answers)
    return examine(facts, "always", emulator).devices[0]


def codes(device: DeviceReport) -> list[str]:
    return [finding.code for finding in device.findings if finding.code != "skip-vsc-check"]


def last(device: DeviceReport) -> Finding:
    return device.findings[-1]


def quote(destination: ConfigState) -> str:
    """The line that the model predicts."""
    return examine(make_facts(destination=destination), "never", Emulator()).devices[0].quote


# --- agreement -----------------------------------------------------------------------------------


def test_accepted_as_predicted(emulator: Emulator) -> None:
    device = prove(emulator, make_facts(), Result("pass"))
    assert codes(device) == ["config-identical", "trial-agrees"]
    assert last(device).text == "QEMU 10.0.2, tried, accepts the device, as predicted"


def test_refused_as_predicted(emulator: Emulator) -> None:
    other = differing(PMC)
    device = prove(emulator, make_facts(destination=other), Result("fail", line=quote(other)))
    assert codes(device) == ["config-differs", "trial-agrees"]
    assert device.quote == quote(other)


def test_hang_as_predicted(emulator: Emulator) -> None:
    facts = make_facts(destination=LOOP)
    device = prove(emulator, facts, Result("hang", "destination"))
    assert codes(device) == ["realise-hang", "trial-agrees"]
    assert "hangs on the device, as predicted" in last(device).text


def test_source_refused_as_predicted(emulator: Emulator) -> None:
    device = prove(emulator, make_facts(source=LOOP), Result("hang", "source"))
    assert codes(device) == ["source-not-realisable", "trial-agrees"]
    assert "hangs on the source's device, as predicted" in last(device).text
    assert device.verdict == "unknown"


def test_sizes_differ_with_whatever_line(emulator: Emulator) -> None:
    facts = make_facts(make_state(evidence="vfio"), make_state(make_config(4096)))
    device = prove(emulator, facts, Result("fail", line=MISMATCH.format(0x100, 1, 2)))
    assert codes(device) == ["config-size-differs", "trial-agrees"]
    assert "i=0x100" in device.quote


# --- disagreement --------------------------------------------------------------------------------


def test_refused_though_nothing_was_seen(emulator: Emulator) -> None:
    line = MISMATCH.format(8, 1, 2)
    device = prove(emulator, make_facts(), Result("fail", line=line))
    assert codes(device) == ["config-identical", "trial-refuses"]
    assert (device.verdict, device.quote) == ("fail", line)


def test_another_line_than_predicted(emulator: Emulator) -> None:
    """Or else the hook would mend what skip-vsc-check does not exempt."""
    line = MISMATCH.format(0x34, 1, 2)
    facts = make_facts(destination=differing(VSC_BODY))
    device = prove(emulator, facts, Result("fail", line=line))
    assert codes(device) == ["vsc-body-differs", "trial-differs"]
    assert (device.verdict, device.quote, device.mendable) == ("fail", line, False)
    report = Report("", "", "", "", (), (device,))
    assert decide(report, {"fail": "mend"}, ("10de:*",)).action == "block"


@pytest.mark.parametrize("outcome", ["error", "abort", "crash", "hang"])
def test_not_realised_where_a_byte_was_to_differ(emulator: Emulator, outcome: str) -> None:
    facts = make_facts(destination=differing(VSC_BODY))
    device = prove(emulator, facts, Result(outcome, "destination", "failed to add"))
    hangs = ["realise-hang"] if outcome == "hang" else []
    assert codes(device) == ["vsc-body-differs", *hangs, "trial-differs"]
    assert (device.quote, device.mendable) == ("failed to add", False)


def test_hang_that_was_not_seen_is_blocked_whatever_the_policy(emulator: Emulator) -> None:
    device = prove(emulator, make_facts(), Result("hang", "destination"))
    assert codes(device) == ["config-identical", "realise-hang", "trial-refuses"]
    assert "hangs on the device" in last(device).text
    report = Report("", "", "", "", (), (device,))
    assert decide(report, {"fail": "allow"}, ()).action == "block"


def test_other_end_than_a_hang(emulator: Emulator) -> None:
    """What does not hang is not called a hang: policy may let it pass."""
    device = prove(emulator, make_facts(destination=LOOP), Result("error", "destination", "no"))
    assert codes(device) == ["trial-differs"]
    assert 'refuses the device: "no"; the model predicts hang destination' in last(device).text


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (make_facts(destination=differing(VSC_BODY)), "vsc-body-differs"),
        (make_facts(destination=differing(PMC)), "config-differs"),
        (make_facts(destination=LOOP), "realise-hang"),
        (make_facts(source=LOOP), "source-not-realisable"),
        (
            make_facts(guest=make_guest(make_device(properties={"x-pci-vendor-id": "x"}))),
            "property-invalid",
        ),
    ],
)
def test_accepted_though_refusal_was_predicted(emulator: Emulator, facts: Facts, code: str) -> None:
    device = prove(emulator, facts, Result("pass"))
    assert codes(device) == ["trial-accepts"]
    assert f"the model predicts {code}, and the emulator is right" in last(device).text
    assert (device.verdict, device.quote, device.mendable) == ("tolerated", "", False)


def test_what_a_trial_leaves_out_is_not_overruled(emulator: Emulator) -> None:
    guest = make_guest(make_device(properties={"enable-migration": "perhaps"}))
    device = prove(emulator, make_facts(guest=guest), Result("pass"))
    assert codes(device) == ["config-identical", "property-invalid", "trial-agrees"]


def test_what_a_global_sets_and_a_trial_leaves_out_is_not_overruled(emulator: Emulator) -> None:
    flags = (Global("vfio-pci", "enable-migration", "perhaps"),)
    device = prove(emulator, make_facts(guest=make_guest(globals_=flags)), Result("pass"))
    assert codes(device) == ["config-identical", "property-invalid", "trial-agrees"]


def test_source_refused_is_no_failure(emulator: Emulator) -> None:
    """No guest can be running with it; what it sends is not known."""
    device = prove(emulator, make_facts(), Result("error", "source", "overlaps"))
    assert codes(device) == ["config-identical", "source-not-realisable"]
    assert (device.verdict, device.quote) == ("unknown", "")
    assert "refuses the source's device" in last(device).text
    assert "overlaps" in last(device).text


def test_source_refused_leaves_a_predicted_failure(emulator: Emulator) -> None:
    facts = make_facts(destination=differing(VSC_BODY))
    device = prove(emulator, facts, Result("error", "source", "overlaps"))
    assert codes(device) == ["vsc-body-differs", "source-not-realisable"]
    assert (device.verdict, device.mendable) == ("fail", False)


# --- what the model leaves open ------------------------------------------------------------------

# An emulator that has the property and does not tell what its machine types set it to.
OPEN = make_facts(destination=differing(VSC_BODY), emulator=make_emulator(compat_props_known=False))


def test_undecided_and_accepted(emulator: Emulator) -> None:
    device = prove(emulator, OPEN, Result("pass"))
    assert (codes(device), device.verdict) == (["trial-agrees"], "pass")


def test_undecided_and_refused(emulator: Emulator) -> None:
    line = quote(differing(VSC_BODY))
    device = prove(emulator, OPEN, Result("fail", line=line), Result("pass"))
    assert codes(device) == ["vsc-body-differs", "trial-agrees"]
    assert (device.verdict, device.quote, device.mendable) == ("fail", line, True)


def test_undecided_and_refused_for_another_byte(emulator: Emulator) -> None:
    device = prove(emulator, OPEN, Result("fail", line=MISMATCH.format(8, 1, 2)))
    assert codes(device) == ["vsc-check-undecided", "trial-refuses"]


# --- mending -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "mendable", "code"),
    [
        (Result("pass"), True, "trial-agrees"),
        (Result("fail", line=MISMATCH.format(0x63, 1, 2)), False, "trial-refuses"),
        (Result("hang", "destination"), False, "trial-refuses"),
        (None, False, "trial-unavailable"),
    ],
)
def test_mending_is_tried(
    emulator: Emulator, answer: Result | None, mendable: bool, code: str
) -> None:
    other = differing(VSC_BODY)
    refused = Result("fail", line=quote(other))
    device = prove(emulator, make_facts(destination=other), refused, answer)
    assert (device.mendable, last(device).code) == (mendable, code)
    tried = [setting.environment.properties for setting in emulator.settings]
    assert tried == [{}, {"skip-vsc-check": "on"}]
    if code == "trial-refuses":
        assert "with skip-vsc-check=on" in last(device).text


def test_mending_is_tried_in_json(emulator: Emulator) -> None:
    other = differing(VSC_BODY)
    prove(
        emulator,
        make_facts(destination=other),
        Result("fail", line=quote(other)),
        Result("pass"),
    )
    assert [setting.json for setting in emulator.settings] == [{}, {"skip-vsc-check": True}]


# --- the form of a device ------------------------------------------------------------------------


def given(emulator: Emulator, device: GuestDevice, *globals_: Global) -> Setting:
    prove(emulator, make_facts(guest=make_guest(device, globals_=globals_)), Result("pass"))
    return emulator.settings[0]


@pytest.mark.parametrize(("form", "value"), [("boolean", True), ("string", "on")])
def test_libvirts_device_in_json(emulator: Emulator, form: str, value: object) -> None:
    device = make_device(properties={"skip-vsc-check": "on"}, form=form)
    assert given(emulator, device).json == {"skip-vsc-check": value}


def test_device_in_options(emulator: Emulator) -> None:
    """Of the command line, or of a libvirt before 8.0, for whose devices alone there is -set."""
    device = make_device(properties={"skip-vsc-check": "on"}, form="boolean")
    mixed = {**device.properties, "x-req": Property("off", "-set")}
    assert given(emulator, device._replace(properties=mixed)).json is None


def test_globals_are_given_as_they_are(emulator: Emulator) -> None:
    found = given(emulator, make_device(), Global("vfio-pci", "rombar", "0"))
    assert found.globals == (("vfio-pci", "rombar", "0"),)
    assert (found.environment.properties, found.json) == ({}, {})


# --- no trial ------------------------------------------------------------------------------------


def test_unavailable(emulator: Emulator) -> None:
    device = prove(emulator, make_facts(), None)
    assert codes(device) == ["config-identical", "trial-unavailable"]
    assert LATE in last(device).text


@pytest.mark.parametrize(
    "facts",
    [
        make_facts(source=Missing(UNKNOWN, "no record")),
        make_facts(guest=make_guest(make_device(properties={"failover_pair_id": "net0"}))),
        make_facts()._replace(evidence="stream"),
        make_facts(destination=differing(0x84), guest=make_guest(UNPLACED)),
    ],
)
def test_not_tried_where_there_is_nothing_to_prove(emulator: Emulator, facts: Facts) -> None:
    assert not [code for code in codes(prove(emulator, facts)) if code.startswith("trial")]


# --- trial mode ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "version", "tried", "advice"),
    [
        ("never", "10.0.2", False, None),
        ("never", "12.0.0", False, "--trial"),
        ("when-unverified", "10.0.2", False, None),
        ("when-unverified", "12.0.0", True, ""),
        ("always", "10.0.2", True, None),
        ("always", "12.0.0", True, ""),
    ],
)
def test_trial_mode(
    emulator: Emulator, mode: str, version: str, tried: bool, advice: str | None
) -> None:
    emulator.answers = [Result("pass")] if tried else []
    facts = make_facts(emulator=make_emulator(version=version))
    report = examine(facts, mode, emulator)
    assert ("trial-agrees" in codes(report.devices[0])) == tried
    remedies = [f.remedy for f in report.findings if f.code == "emulator-unverified"]
    assert len(remedies) == (advice is not None)
    assert all(bool(advice) == bool(remedy) and (advice or "") in remedy for remedy in remedies)


def test_nothing_is_tried_without_an_emulator(emulator: Emulator) -> None:
    facts = make_facts(emulator=UNASKED)
    assert codes(examine(facts, "always", emulator).devices[0]) == ["config-identical"]


# --- the bug report ------------------------------------------------------------------------------


def test_report_can_be_replayed(emulator: Emulator) -> None:
    properties = {"x-pci-device-id": "0x1234", "host": "0000:06:00.4", "vf-token": "s3cret"}
    guest = make_guest(
        make_device(properties=properties),
        globals_=(
            Global("vfio-pci", "rombar", "0"),
            Global("vfio-pci", "x-vga", "on"),
            Global("isa-applesmc", "osk", "s3cret"),
        ),
    )
    facts = make_facts(destination=differing(PMC), guest=guest)
    line = MISMATCH.format(8, 1, 2)
    remedy = last(prove(emulator, facts, Result("fail", line=line))).remedy
    told, _, text = remedy.partition(", case ")
    assert "s3cret" not in remedy
    assert "QEMU 10.0.2, source" in told and "source sysfs" in told
    assert f"predicted fail '{quote(differing(PMC))}', real fail '{line}'" in told
    case = case_from_json(text)
    assert (case.machine_type, case.placement) == ("pc-q35-9.0", "root-port")
    assert case.globals == (("vfio-pci", "rombar", "0"),)
    for device, state in ((case.source, make_state()), (case.destination, differing(PMC))):
        assert (device.config, device.bars) == (state.config, state.bars)
        assert dict(device.properties) == {"x-pci-device-id": "0x1234"}
    assert json.loads(text)["destination"]["size"] == 256


def test_report_of_a_guest_on_i440fx(emulator: Emulator) -> None:
    device = make_device(placement="conventional")
    facts = make_facts(guest=make_guest(device, machine="pc-i440fx-9.0"))
    remedy = last(prove(emulator, facts, Result("fail", line="x"))).remedy
    case = case_from_json(remedy.partition(", case ")[2])
    assert (case.machine_type, case.placement) == ("pc-i440fx-9.0", "i440fx")

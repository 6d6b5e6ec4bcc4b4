"""What the source's QEMU made of the device counts, not what the destination's would make of it."""

from __future__ import annotations

import pytest

from unit.findings_examples import terabyte
from unit.makers import (
    PMC,
    differing,
    make_device,
    make_emulator,
    make_facts,
    make_guest,
    make_machine,
    make_state,
)
from vfio_preflight.guest.record import RecordEntry
from vfio_preflight.judge.confirm import Attempt
from vfio_preflight.judge.context import context_of
from vfio_preflight.judge.facts import Facts
from vfio_preflight.judge.findings import DeviceReport
from vfio_preflight.judge.model import preflight
from vfio_preflight.judge.pipeline import examine
from vfio_preflight.judge.verdicts import ALWAYS
from vfio_preflight.pci.state import ConfigState
from vfio_preflight.qemu.model.versions import behaviours
from vfio_preflight.qemu.trial.endings import Result
from vfio_preflight.qemu.trial.setting import Setting

OLD, NEW = "10.0.2", "11.1.3"
# Seen: FACTS of the two builds, and tests/conformance/regressions/rebar-of-one-terabyte.json.
LINES = {
    (OLD, NEW): "i=0x103 read: 15 device: 14",
    (NEW, OLD): "i=0x103 read: 14 device: 15",
}


def facts(
    sender: str, here: str, state: ConfigState | None = None, other: ConfigState | None = None
) -> Facts:
    sent = (state or terabyte())._replace(evidence="vfio")
    made = make_facts(sent, other or sent, emulator=make_emulator(version=here))
    (known,) = made.devices
    return made._replace(devices=(known._replace(entry=RecordEntry(sent, qemu=sender)),))


def judged(known: Facts) -> DeviceReport:
    return preflight(known).devices[0]


def codes(report: DeviceReport) -> list[str]:
    return [finding.code for finding in report.findings if finding.code != "skip-vsc-check"]


@pytest.mark.parametrize(("sender", "here"), list(LINES))
def test_two_builds(sender: str, here: str) -> None:
    report = judged(facts(sender, here))
    assert codes(report) == ["builds-differ"]
    assert LINES[sender, here] in report.quote
    assert f"QEMU {sender} and QEMU {here} make different bytes" in report.findings[0].text


@pytest.mark.parametrize("version", [OLD, NEW])
def test_one_build(version: str) -> None:
    report = judged(facts(version, version))
    assert codes(report) == ["config-identical"]
    assert report.sent is None


def test_device_that_no_build_treats_otherwise() -> None:
    assert codes(judged(facts(OLD, NEW, make_state()))) == ["config-identical"]


def test_devices_that_differ_anyway() -> None:
    """Then the builds are not to blame."""
    config = bytearray(terabyte().config)
    config[PMC] ^= 0xFF
    report = judged(facts(OLD, NEW, other=make_state(bytes(config))))
    assert codes(report) == ["config-differs"]
    assert codes(judged(facts(OLD, NEW, make_state(), differing(PMC)))) == ["config-differs"]


def test_the_sources_emulator_where_it_was_asked() -> None:
    """It outweighs a record's word, and a trial can run it."""
    known = facts(NEW, NEW)._replace(sender=make_emulator(version=OLD))
    report = judged(known)
    assert codes(report) == ["builds-differ"]
    assert report.sent is None


def test_a_stream_is_what_it_is() -> None:
    stream = judged(facts(OLD, NEW)).sent
    assert stream is not None
    known = facts("", NEW, stream, terabyte())
    known = known._replace(devices=(known.devices[0]._replace(source=stream),))
    assert LINES[OLD, NEW] in judged(known).quote


# --- a release that is not known
# -------------------------------------------------------------------


def test_it_matters_which_qemu_it_is() -> None:
    report = judged(facts("", NEW))
    assert codes(report) == ["config-identical", "source-emulator-unknown"]
    assert report.verdict == "unknown"
    assert "fail if it is like QEMU 10.0" in report.findings[1].text


@pytest.mark.parametrize("state", [make_state(), differing(PMC)])
def test_it_does_not_matter_which_qemu_it_is(state: ConfigState) -> None:
    assert "source-emulator-unknown" not in codes(judged(facts("", NEW, other=state, state=state)))


def test_a_machine_type_is_as_old_as_its_release() -> None:
    """A guest of pc-q35-11.0 runs on no QEMU that hides large resizable BARs."""
    machine = make_machine("pc-q35-11.0")
    known = facts("", NEW)._replace(
        guest=make_guest(machine="pc-q35-11.0"), emulator=make_emulator(machine, version=NEW)
    )
    assert codes(judged(known)) == ["config-identical"]


def test_behaviours_of_releases() -> None:
    found = behaviours("10.0.13")
    assert [version for version, _ in found] == ["11.1", "10.1", "10.0.13"]
    assert found[-1][1].pin_is_checked
    assert not found[-1][1].rebar_may_exceed_512_gb


# --- trials ---------------------------------------------------------------------------------------


def test_trial_is_given_what_the_source_sends() -> None:
    """The destination's binary would make something else of the source's state."""
    given: list[ConfigState] = []

    def tried(source: ConfigState, _there: ConfigState, _setting: Setting) -> Attempt:
        given.append(source)
        return Attempt(Result("fail", line=judged(facts(OLD, NEW)).quote))

    report = examine(facts(OLD, NEW), ALWAYS, tried).devices[0]
    assert "trial-agrees" in codes(report)
    (source,) = given
    assert source.evidence == "stream"
    assert f"as QEMU {OLD} sends it" in source.origin
    assert source.config[0x103] == 0x15
    assert report.source == terabyte()._replace(evidence="vfio")


# --- what machine types set -----------------------------------------------------------------------


def test_compat_table_of_either_side() -> None:
    """A property that changes bytes, set by one build's machine type alone."""
    entry = ("vfio-pci", "x-pci-vendor-id", "0x1234")
    there = make_emulator(make_machine("pc-q35-9.0", entry))
    here = make_emulator(make_machine("pc-q35-9.0"))
    known = make_facts(emulator=here)._replace(sender=there)
    assert "i=0x0 read: 34" in judged(known).quote
    guest = known.guest
    context = context_of(guest, guest.devices[0], here, there)
    assert context.sender.properties == {"x-pci-vendor-id": "0x1234"}
    assert context.environment.properties == {}


def test_compat_table_yields_to_the_guest() -> None:
    emulator = make_emulator(make_machine("pc-q35-9.0", ("vfio-pci", "rombar", "0")))
    for device, rombar in ((make_device(), "0"), (make_device(properties={"rombar": "1"}), "1")):
        context = context_of(make_guest(device), device, emulator)
        assert context.environment.properties["rombar"] == rombar
        # What the guest sets is another matter: checks of its own settings go by that.
        assert ("rombar" in context.properties) is (rombar == "1")

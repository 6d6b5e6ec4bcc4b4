"""started begin: captures at a cold start, the second gate on a migration."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from lab.configs import make_config, patched
from unit import domains
from unit.domains import KEY
from unit.hooked import answered
from unit.makers import HOST, PMC, UUID, VSC_BODY, differing, make_emulator, make_state
from vfio_preflight.configuration import Configuration
from vfio_preflight.gather import here
from vfio_preflight.gather import started as gathered
from vfio_preflight.hook import attempt, gate, started
from vfio_preflight.hook.gate import Gate
from vfio_preflight.hook.supervise import Outcome
from vfio_preflight.host import sightings
from vfio_preflight.host.captures import captured
from vfio_preflight.host.processes import Process
from vfio_preflight.host.vfio_api import VfioDevice, VfioError
from vfio_preflight.judge.confirm import Attempt
from vfio_preflight.judge.verdicts import DEFAULT_POLICY
from vfio_preflight.pci.state import ConfigState
from vfio_preflight.qemu.trial.endings import Result

RECORD = {KEY: make_state()}
OPTIONS = {"driver": "vfio-pci", "id": "hostdev0", "host": HOST}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    monkeypatch.setattr(here, "emulator_facts", lambda *_args, **_options: make_emulator())
    return Configuration(runtime=str(tmp_path / "run"), log=str(tmp_path / "log"))


def make_domain(record: Mapping[str, ConfigState] | None = None) -> bytes:
    uuid = f"<uuid>{UUID}</uuid><name>".encode()
    return domains.make_domain(record).replace(b"<name>", uuid, 1)


class Qemu:
    """The guest's QEMU, and what its device presents."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state: ConfigState | None = make_state(evidence="vfio")
        self.incoming = True
        self.options = OPTIONS
        self.asked: list[bool] = []
        monkeypatch.setattr(started, "find_process", lambda *_: self.process)
        monkeypatch.setattr(gathered, "read_in_use", self.read)

    @property
    def process(self) -> Process:
        devices = {"hostdev0": self.options["host"]}
        return Process(7, "boot:7:1", 0.2, "", self.incoming, devices, {"hostdev0": self.options})

    def read(self, name: str, pid: int, *, migration: bool = True) -> VfioDevice:
        assert (name, pid) == (HOST, 7)
        self.asked.append(migration)
        if self.state is None:
            raise VfioError("not to be read")
        return VfioDevice(self.state, ("stop-copy",) if migration else None, asked=migration)


@pytest.fixture
def qemu(monkeypatch: pytest.MonkeyPatch) -> Qemu:
    return Qemu(monkeypatch)


def presenting(offset: int) -> ConfigState:
    return differing(offset)._replace(evidence="vfio")


def start(settings: Configuration, xml: bytes) -> Outcome:
    return answered(started.started(Gate("g1", settings, time.monotonic() + 5), xml), settings)


def arrive(settings: Configuration, xml: bytes) -> Outcome:
    """The guest comes in by a migration that migrate begin let pass."""
    attempt.leave(settings.runtime, "g1", UUID)
    return start(settings, xml)


# --- a cold start --------------------------------------------------------------------------------


def test_devices_are_captured_at_a_cold_start(settings: Configuration, qemu: Qemu) -> None:
    qemu.incoming = False
    assert start(settings, make_domain()) == Outcome(0)
    found = captured(settings.runtime, "g1", "boot:7:1")
    assert found[HOST].state.config == make_state().config
    assert (found[HOST].offers, found[HOST].age) == ("stop-copy", 0)


def test_cold_start_is_never_failed(settings: Configuration, qemu: Qemu) -> None:
    qemu.incoming, qemu.state = False, None
    assert arrive(settings, make_domain()) == Outcome(0)
    assert captured(settings.runtime, "g1", "boot:7:1") == {}
    assert not attempt.is_waiting(settings.runtime, "g1", make_domain())


# --- the second gate -----------------------------------------------------------------------------


def test_device_that_differs_is_refused(settings: Configuration, qemu: Qemu) -> None:
    qemu.state = presenting(PMC)
    outcome = arrive(settings, make_domain(RECORD))
    assert (outcome.status, outcome.out) == (1, b"")
    first = outcome.err.decode().splitlines()[0]
    assert first.startswith("vfio-preflight: migration blocked: ")
    assert "PM at 0x40" in first and len(first) <= 200
    assert qemu.asked == [False], "a migration is about to begin"


def test_device_that_is_equal_passes(settings: Configuration, qemu: Qemu) -> None:
    assert arrive(settings, make_domain(RECORD)) == Outcome(0)
    assert "started" in Path(settings.log).read_text()


@pytest.mark.parametrize("fail", ["annotate", "allow"])
def test_policy_is_the_operators(fail: str, settings: Configuration, qemu: Qemu) -> None:
    qemu.state = presenting(PMC)
    policy = {**DEFAULT_POLICY, "fail": fail}
    assert arrive(settings._replace(policy=policy), make_domain(RECORD)) == Outcome(0)


def test_qemu_that_runs_has_realised_the_device(settings: Configuration, qemu: Qemu) -> None:
    """Where the model says that it would not, the model is wrong, and has nothing to compare."""
    overlapping = patched(make_config(), 0x7A, 0x42)
    qemu.state = make_state(overlapping, evidence="vfio")
    assert arrive(settings, make_domain(RECORD)) == Outcome(0)


def test_properties_are_those_of_the_process(settings: Configuration, qemu: Qemu) -> None:
    """Mended beforehand: the XML that libvirt passes need not show it."""
    qemu.state = presenting(VSC_BODY)
    assert arrive(settings, make_domain(RECORD)).status == 1
    qemu.options = {**OPTIONS, "skip-vsc-check": "on"}
    assert arrive(settings, make_domain(RECORD)) == Outcome(0)


def test_what_could_be_mended_is_refused_and_known(
    settings: Configuration, qemu: Qemu, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(sightings, "remember_all", lambda states, *_: seen.extend(states))
    qemu.state = presenting(VSC_BODY)
    policy = {**DEFAULT_POLICY, "fail": "mend"}
    mending = settings._replace(policy=policy, vsc_tolerant=("10de:*",))
    outcome = arrive(mending, make_domain(RECORD))
    assert outcome.status == 1
    first, *below = outcome.err.decode().splitlines()
    assert first.endswith(f"; to do: {started.TO_DO[started.MENDED_NEXT]}") and len(first) <= 200
    assert any(started.MENDED_NEXT in line for line in below)
    assert seen == [(HOST, qemu.state)]


@pytest.mark.parametrize(
    ("found", "note"),
    [(differing(VSC_BODY), started.MENDED_NEXT), (make_state(), started.NOT_MENDED)],
)
def test_operator_is_told_what_another_attempt_comes_to(
    found: ConfigState,
    note: str,
    settings: Configuration,
    qemu: Qemu,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``found`` is what migrate begin will find: sysfs, for one, does not show the difference."""
    monkeypatch.setattr(here, "state_of", lambda *_: found)
    qemu.state = presenting(VSC_BODY)
    policy = {**DEFAULT_POLICY, "fail": "mend"}
    mending = settings._replace(policy=policy, vsc_tolerant=("10de:*",))
    outcome = arrive(mending, make_domain(RECORD))
    assert outcome.status == 1
    assert note in outcome.err.decode()


def test_nothing_waits_for_a_restore(settings: Configuration, qemu: Qemu) -> None:
    qemu.state = presenting(PMC)
    assert start(settings, make_domain(RECORD)) == Outcome(0)
    assert qemu.asked == []


@pytest.mark.parametrize(("unknown", "status"), [("annotate", 0), ("block", 1)])
def test_device_that_cannot_be_read_is_unknown(
    unknown: str, status: int, settings: Configuration, qemu: Qemu
) -> None:
    qemu.state = None
    policy = {**DEFAULT_POLICY, "unknown": unknown}
    outcome = arrive(settings._replace(policy=policy), make_domain(RECORD))
    assert outcome.status == status


def test_device_that_cannot_be_read_is_judged_as_before(
    settings: Configuration, qemu: Qemu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What let it pass migrate begin did not become wrong by that."""
    qemu.state = None
    monkeypatch.setattr(here, "state_of", lambda *_: make_state(evidence="catalogue"))
    strict = settings._replace(policy={**DEFAULT_POLICY, "unknown": "block"})
    assert arrive(strict, make_domain(RECORD)) == Outcome(0)
    monkeypatch.setattr(here, "state_of", lambda *_: differing(PMC))
    assert arrive(strict, make_domain(RECORD)).status == 1


@pytest.mark.parametrize(("on_error", "status"), [("allow", 0), ("block", 1)])
def test_failure_of_ours_is_the_on_error_policys(
    on_error: str,
    status: int,
    settings: Configuration,
    qemu: Qemu,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(started, "facts_here", lambda *_args, **_options: 1 // 0)
    assert arrive(settings._replace(on_error=on_error), make_domain(RECORD)).status == status


def test_guest_whose_process_is_gone(
    settings: Configuration, qemu: Qemu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(started, "find_process", lambda *_: None)
    assert arrive(settings, make_domain(RECORD)) == Outcome(0)


# --- who is judged again -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "evidence", "waits"),
    [
        ("when-unsure", "file", True),
        ("when-unsure", "vfio", False),
        ("always", "vfio", True),
        ("never", "file", False),
    ],
)
def test_migrate_begin_leaves_the_attempt(
    wanted: str,
    evidence: str,
    waits: bool,
    settings: Configuration,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(here, "state_of", lambda *_: make_state(evidence=evidence))
    settings = settings._replace(second_gate=wanted, catalogue="/nonexistent")
    record = {KEY: make_state(evidence="vfio")}
    outcome = Gate("g1", settings, time.monotonic() + 5).judge("migrate", make_domain(record))
    assert outcome.status == 0
    assert attempt.is_waiting(settings.runtime, "g1", outcome.out) == waits
    # Such as a revert to a snapshot, if the migration comes to nothing.
    assert not attempt.is_waiting(settings.runtime, "g1", make_domain(record))


def test_attempt_that_is_not_annotated_waits_without_a_token(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(here, "state_of", lambda *_: make_state())
    silent = settings._replace(annotate="never")
    outcome = Gate("g1", silent, time.monotonic() + 5).judge("migrate", make_domain(RECORD))
    assert (outcome.status, outcome.out) == (0, b"")
    assert attempt.is_waiting(settings.runtime, "g1", make_domain(RECORD))


@pytest.mark.parametrize(
    ("offset", "compat_props_known", "waits"),
    [(None, True, True), (PMC, True, False), (VSC_BODY, False, False)],
)
def test_what_a_trial_decided_is_not_left_to_the_model(
    offset: int | None,
    compat_props_known: bool,
    waits: bool,
    settings: Configuration,
    qemu: Qemu,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is no time for another trial at started begin."""
    emulator = make_emulator(compat_props_known=compat_props_known)
    monkeypatch.setattr(here, "emulator_facts", lambda *_args, **_options: emulator)
    monkeypatch.setattr(gate, "trials", lambda *_: lambda *_states: Attempt(Result("pass")))
    here_now = make_state() if offset is None else differing(offset)
    monkeypatch.setattr(here, "state_of", lambda *_: here_now)
    qemu.state = here_now._replace(evidence="vfio")
    strict = settings._replace(trial="always", policy={**DEFAULT_POLICY, "unknown": "block"})
    xml = Gate("g1", strict, time.monotonic() + 5).judge("migrate", make_domain(RECORD)).out
    assert attempt.is_waiting(settings.runtime, "g1", xml) == waits
    assert start(strict, xml) == Outcome(0)


def test_guest_that_could_not_be_checked_is_judged_again(
    settings: Configuration, qemu: Qemu, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu.state = presenting(PMC)
    with monkeypatch.context() as broken:
        broken.setattr(gate, "facts_here", lambda *_args, **_options: 1 // 0)
        xml = Gate("g1", settings, time.monotonic() + 5).judge("migrate", make_domain(RECORD)).out
    assert b"not-checked" in xml
    assert start(settings, xml).status == 1


@pytest.mark.parametrize("operation", ["migrate", "restore"])
def test_no_attempt_waits_after_a_block_or_for_a_restore(
    operation: str, settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt.leave(settings.runtime, "g1", UUID)
    monkeypatch.setattr(here, "state_of", lambda *_: differing(PMC))
    Gate("g1", settings, time.monotonic() + 5).judge(operation, make_domain(RECORD))
    assert not attempt.is_waiting(settings.runtime, "g1", make_domain(RECORD))

"""The service's own reasoning, without libvirt: nothing about one guest ends or delays the others.

Events, restarts and signals: tests/system/test_watch.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vfio_preflight.cli import watch
from vfio_preflight.cli.connection import BusyError, GoneError, LibvirtError
from vfio_preflight.cli.watch import Watch
from vfio_preflight.configuration import Configuration
from vfio_preflight.gather.recorder import Entry


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Domain:
    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        return self._name

    def UUIDString(self) -> str:
        return f"uuid of {self._name}"


class Guests:
    """Guests, and what happens to those who want to record them."""

    def __init__(self) -> None:
        self.outcomes: dict[str, list[Any]] = {}
        self.calls: list[tuple[str, set[str]]] = []

    def record(
        self, domain: Domain, _settings: object, added: Iterable[str], *, patient: bool
    ) -> list[Entry]:
        assert not patient
        self.calls.append((domain.name(), set(added)))
        outcome = self.outcomes[domain.name()].pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome if isinstance(outcome, list) else [Entry("hostdev0", outcome, "a reason")]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watch, "_now", clock)
    return clock


@pytest.fixture
def guests(monkeypatch: pytest.MonkeyPatch) -> Guests:
    guests = Guests()
    monkeypatch.setattr(watch, "record", guests.record)
    return guests


@pytest.fixture
def service(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Watch:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    libvirt = SimpleNamespace(
        virEventRegisterDefaultImpl=lambda: None,
        virEventAddTimeout=lambda *_: 1,
        virEventUpdateTimeout=lambda *_: None,
        libvirtError=OSError,
        VIR_DOMAIN_EVENT_ID_LIFECYCLE=0,
        VIR_DOMAIN_EVENT_ID_DEVICE_ADDED=1,
        VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED=2,
        VIR_CONNECT_CLOSE_REASON_EOF=1,
        VIR_CONNECT_CLOSE_REASON_KEEPALIVE=2,
        VIR_CONNECT_LIST_DOMAINS_ACTIVE=1,
        VIR_DOMAIN_EVENT_STARTED=2,
        VIR_DOMAIN_EVENT_STOPPED=5,
        VIR_DOMAIN_EVENT_RESUMED=4,
        VIR_DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT=2,
        VIR_DOMAIN_EVENT_RESUMED_MIGRATED=1,
        VIR_DOMAIN_EVENT_STARTED_MIGRATED=1,
        VIR_DOMAIN_EVENT_STARTED_RESTORED=2,
        VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT=3,
        open=lambda _uri: SimpleNamespace(
            registerCloseCallback=lambda *_: None,
            setKeepAlive=lambda *_: None,
            domainEventRegisterAny=lambda *_: 1,
            domainEventDeregisterAny=lambda *_: None,
            unregisterCloseCallback=lambda: None,
            close=lambda: None,
            listAllDomains=lambda _flags: [],
            isAlive=lambda: 1,
        ),
    )
    service = Watch(libvirt, "qemu:///system", Configuration())
    service._step()
    return service


def start(service: Watch, name: str) -> None:
    service._on_lifecycle(None, Domain(name), 2, 0, None)


def test_one_guests_failure_is_not_the_others(
    service: Watch, guests: Guests, capsys: pytest.CaptureFixture[str]
) -> None:
    guests.outcomes = {
        "gone": [GoneError("is not running")],
        "odd": [LibvirtError("a line\nand another")],
        "bug": [ZeroDivisionError("oops")],
        "good": ["recorded"],
    }
    for name in guests.outcomes:
        start(service, name)
    for _ in guests.outcomes:
        service._step()
    gone, odd, bug, good = capsys.readouterr().out.splitlines()
    assert gone == "gone: started, and is gone again"
    assert odd == "odd: not recorded: a line?and another; trying again"
    assert bug.startswith("bug: not recorded: internal error (ZeroDivisionError: oops, in test_")
    assert good == "good: started: hostdev0 recorded: a reason"


def visits(service: Watch, guests: Guests, clock: Clock) -> list[float]:
    """When attempts are made in the two minutes from now, in seconds from the first."""
    times = []
    for _ in range(480):
        before = len(guests.calls)
        service._step()
        if len(guests.calls) > before:
            times.append(clock.now)
        clock.now += 0.25
    return [time - times[0] for time in times]


def test_failure_is_tried_again_some_times(
    service: Watch, guests: Guests, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """And told of at first and at last: the log has a line for what happens, not for every try."""
    guests.outcomes = {"g": [LibvirtError("no process here is its QEMU")] * 6}
    service._on_added(None, Domain("g"), "hostdev1", None)
    capsys.readouterr()
    assert visits(service, guests, clock) == [0, 0.25, 0.75, 1.75, 3.75, 7.75]
    assert guests.calls == [("g", {"hostdev1"})] * 6
    assert capsys.readouterr().out.splitlines() == [
        "g: not recorded: no process here is its QEMU; trying again",
        "g: not recorded: no process here is its QEMU; given up; later, run:"
        " vfio-preflight record g",
    ]


def test_failure_that_passes(
    service: Watch, guests: Guests, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    guests.outcomes = {"g": [LibvirtError("a"), BusyError("a job"), LibvirtError("b"), "recorded"]}
    start(service, "g")
    capsys.readouterr()
    assert visits(service, guests, clock) == [0, 0.25, 0.75, 1.75]
    assert capsys.readouterr().out.splitlines() == [
        "g: not recorded: a; trying again",
        "g: started: hostdev0 recorded: a reason",
    ]


def test_guest_that_ends_is_not_tried_again(
    service: Watch, guests: Guests, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    guests.outcomes = {"g": [LibvirtError("a"), GoneError("is not running")]}
    start(service, "g")
    capsys.readouterr()
    assert visits(service, guests, clock) == [0, 0.25]
    assert capsys.readouterr().out.splitlines()[1:] == ["g: started, and is gone again"]


def test_state_that_is_missing_for_now_is_asked_for_again(
    service: Watch, guests: Guests, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two devices of a guest that was found running; of the other nothing is said again."""
    lost = Entry("hostdev1", "missing", "cannot be read", transient=True)
    guests.outcomes = {
        "g": [
            [Entry("hostdev0", "recorded", "from x"), lost],
            *[[Entry("hostdev0", "kept", "recorded on x"), lost]] * 5,
        ]
    }
    service._expect(Domain("g"), watch.FOUND)
    capsys.readouterr()
    assert len(visits(service, guests, clock)) == 6
    assert capsys.readouterr().out.splitlines() == [
        "g: found running: hostdev0 recorded: from x",
        "g: found running: hostdev1 missing: cannot be read; trying again",
        "g: found running: hostdev1 missing: cannot be read; given up; later, run:"
        " vfio-preflight record g",
    ]


def test_state_that_can_be_had_at_last(
    service: Watch, guests: Guests, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = Entry("hostdev0", "missing", "cannot be read", transient=True)
    guests.outcomes = {"g": [[lost], [lost], "recorded"]}
    start(service, "g")
    capsys.readouterr()
    assert visits(service, guests, clock) == [0, 0.25, 0.75]
    assert capsys.readouterr().out.splitlines() == [
        "g: started: hostdev0 missing: cannot be read; trying again",
        "g: started: hostdev0 recorded: a reason",
    ]


def test_state_that_cannot_be_had_is_not_asked_for_again(
    service: Watch, guests: Guests, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    guests.outcomes = {"g": ["missing"]}
    start(service, "g")
    capsys.readouterr()
    assert visits(service, guests, clock) == [0]
    assert capsys.readouterr().out == "g: started: hostdev0 missing: a reason\n"


def test_busy_guest_is_tried_again_ever_later(
    service: Watch, guests: Guests, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    guests.outcomes = {"busy": [BusyError("a job")] * 9 + ["recorded"]}
    service._on_added(None, Domain("busy"), "hostdev1", None)
    times = []
    while guests.outcomes["busy"]:
        before = len(guests.calls)
        service._step()
        if len(guests.calls) > before:
            times.append(clock.now)
        clock.now += 0.25
    delays = [after - before for before, after in zip(times, times[1:])]
    assert delays == [0.25, 0.5, 1, 2, 4, 8, 15, 15, 15]
    assert guests.calls == [("busy", {"hostdev1"})] * 10
    assert "recorded" in capsys.readouterr().out


def test_events_before_a_visit_are_gathered(service: Watch, guests: Guests) -> None:
    guests.outcomes = {"g": ["recorded"]}
    start(service, "g")
    service._on_added(None, Domain("g"), "hostdev1", None)
    service._on_added(None, Domain("g"), "hostdev2", None)
    service._step()
    service._step()
    assert guests.calls == [("g", {"hostdev1", "hostdev2"})]


def test_stopped_guest_is_not_visited(service: Watch, guests: Guests) -> None:
    start(service, "g")
    service._on_lifecycle(None, Domain("g"), 5, 0, None)
    service._step()
    assert guests.calls == []


def test_service_does_not_kill_what_it_asks() -> None:
    """An emulator may try a call that is not allowed, and goes on without it."""
    unit = Path(__file__).parents[3] / "etc/vfio-preflight-watch.service"
    lines = unit.read_text().splitlines()
    assert any(line.startswith("SystemCallFilter=") for line in lines)
    assert "SystemCallErrorNumber=EPERM" in lines


def test_levels_for_journald(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    watch.say("all is well")
    watch.say("it is not", watch.WARNING)
    assert capsys.readouterr().out == "<6>all is well\n<4>it is not\n"


def test_connection_is_tried_again_and_said_once(
    service: Watch, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    works = service._libvirt.open
    attempts = []

    def fails(_uri: str) -> None:
        attempts.append(clock.now)
        raise OSError("no socket")

    service._libvirt.open = fails
    service._on_close(None, 1, None)
    for _ in range(400):
        service._step()
        clock.now += 0.25
    service._libvirt.open = works
    clock.now += 15
    service._step()
    delays = [after - before for before, after in zip(attempts, attempts[1:])]
    assert delays[:7] == [0.25, 0.5, 1, 2, 4, 8, 15]
    assert set(delays[7:]) == {15}
    said = capsys.readouterr().out
    assert said.count("cannot connect") == 1
    assert said.count("connected to") == 1


def test_guest_found_running_is_told_of_even_if_nothing_changes(
    service: Watch, guests: Guests, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reply that its record is stored may have been lost with the connection."""
    guests.outcomes = {"g": [LibvirtError("connection reset"), "kept", "kept"]}
    working = service._connection
    start(service, "g")
    working.isAlive = lambda: 0
    service._step()
    reopened = service._libvirt.open("")
    reopened.listAllDomains = lambda _flags: [Domain("g")]
    service._libvirt.open = lambda _uri: reopened
    service._step()
    clock.now += 15
    service._step()
    service._on_added(None, Domain("g"), "hostdev1", None)
    service._step()
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("g: ")] == [
        "g: found running: hostdev0 kept: a reason"
    ]

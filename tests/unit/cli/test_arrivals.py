from __future__ import annotations

import json
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from unit.expectations import make_expected
from unit.makers import UUID
from vfio_preflight.cli import arrivals
from vfio_preflight.configuration import Configuration
from vfio_preflight.hook import expected, native
from vfio_preflight.host import history
from vfio_preflight.host.processes import Process

LIBVIRT = SimpleNamespace(libvirtError=OSError, VIR_DOMAIN_RUNNING=1)
QEMU = Process(1, "boot:1:1", 0.1, "", True, {})


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    monkeypatch.setattr(arrivals, "find_process", lambda *_: QEMU)
    settings = Configuration(
        runtime=str(tmp_path / "run"),
        history=str(tmp_path / "history"),
        audit_log=str(tmp_path / "audit.jsonl"),
    )
    expected.leave(settings.runtime, "g1", make_expected())
    return settings


def close(settings: Configuration, name: str = "g1", state: int = 1) -> str:
    domain = SimpleNamespace(name=lambda: name, UUIDString=lambda: UUID, state=lambda: [state, 1])
    return arrivals.close(LIBVIRT, domain, settings)


def test_guest_that_runs_has_arrived(settings: Configuration) -> None:
    assert close(settings).startswith("guest 'g1': migration completed, as predicted; history ")
    ((_, entry),) = history.entries(settings.history)
    assert (entry.outcome, entry.agrees) == ("completed", True)
    assert close(settings) == ""


def test_arrival_is_in_the_audit_log(settings: Configuration) -> None:
    close(settings)
    event = json.loads(Path(settings.audit_log).read_text())
    assert (event["event"], event["outcome"], event["prediction"]) == (
        "outcome", "completed", "right",
    )  # fmt: skip
    assert event["history"] == history.all_names(settings.history)[0]


def test_audit_log_that_cannot_be_written_is_told_of(settings: Configuration) -> None:
    Path(settings.audit_log).mkdir()
    assert f"audit log {settings.audit_log} is not in order" in close(settings)


def test_arrival_has_its_fields_in_the_journal(
    settings: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    monkeypatch.setattr(native, "SOCKET", str(tmp_path / "journal"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reader:
        reader.bind(native.SOCKET)
        reader.settimeout(10.0)
        assert close(settings) == ""
        entry = reader.recv(65536).decode()
    assert "MESSAGE=guest 'g1': migration completed, as predicted; history " in entry
    assert "\nVFIO_PREFLIGHT_OUTCOME=completed\n" in entry


def test_without_a_journal_the_line_is_told_as_ever(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    monkeypatch.setattr(native, "SOCKET", "/nonexistent")
    assert close(settings).startswith("guest 'g1': migration completed, as predicted; history ")


def test_guest_that_is_still_loaded_has_not(settings: Configuration) -> None:
    assert close(settings, state=3) == ""
    assert expected.is_waiting(settings.runtime, "g1")


def test_guest_that_is_gone(settings: Configuration) -> None:
    def gone() -> None:
        raise OSError("no domain")

    domain = SimpleNamespace(name=lambda: "g1", UUIDString=lambda: UUID, state=gone)
    assert arrivals.close(LIBVIRT, domain, settings) == ""


@pytest.mark.parametrize("process", [None, QEMU._replace(incoming=False)])
def test_guest_that_was_started_here(
    process: Process | None, settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "find_process", lambda *_: process)
    assert close(settings) == ""
    assert expected.is_waiting(settings.runtime, "g1")


def test_other_guests_cost_nothing(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "find_process", lambda *_: pytest.fail("it looked"))
    assert close(settings, name="g2") == ""

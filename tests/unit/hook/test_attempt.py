"""An attempt on its way from migrate begin to started begin (hook.attempt)."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.makers import UUID
from vfio_preflight.hook import attempt

OTHER = "22222222-2222-3333-4444-555555555555"
TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock that nobody sets, to be set."""
    clock = [1000.0]
    monkeypatch.setattr("time.clock_gettime", lambda _clock: clock[0])
    return clock


def domain(uuid: str = UUID, token: str = "") -> bytes:
    return f"<domain><uuid>{uuid}</uuid><report token='{token}'/></domain>".encode()


def test_attempt_is_taken_once(tmp_path: Path, now: list[float]) -> None:
    runtime = str(tmp_path)
    assert attempt.leave(runtime, "g1", UUID) and attempt.is_waiting(runtime, "g1", domain())
    now[0] += 0.4
    assert attempt.take(runtime, "g1", domain(), 0.3)
    assert not attempt.is_waiting(runtime, "g1", domain())
    assert not attempt.take(runtime, "g1", domain(), 0.3)


@pytest.mark.parametrize(
    ("guest", "uuid", "waited"),
    [
        ("g1", OTHER, 0.4),
        ("g2", UUID, 0.4),
        ("g1", UUID, attempt.SOON + 1),
        ("g1", UUID, -60.0),  # a clock that was set back
    ],
)
def test_attempt_is_for_one_start(
    guest: str, uuid: str, waited: float, tmp_path: Path, now: list[float]
) -> None:
    attempt.leave(str(tmp_path), "g1", UUID)
    now[0] += waited
    assert not attempt.is_waiting(str(tmp_path), guest, domain(uuid))
    assert not attempt.take(str(tmp_path), guest, domain(uuid), 0.3)


def test_qemu_that_ran_before_is_of_no_attempt(tmp_path: Path, now: list[float]) -> None:
    attempt.leave(str(tmp_path), "g1", UUID)
    now[0] += 10.0
    assert not attempt.take(str(tmp_path), "g1", domain(), 60.0)


@pytest.mark.parametrize(("token", "waits"), [(TOKEN, True), (TOKEN[::-1], False), ("", False)])
def test_attempt_is_known_by_its_token(token: str, waits: bool, tmp_path: Path) -> None:
    """A revert to a snapshot loads a state too, and a restore that could not be judged."""
    attempt.leave(str(tmp_path), "g1", UUID, TOKEN)
    assert attempt.is_waiting(str(tmp_path), "g1", domain(token=token)) == waits
    assert attempt.take(str(tmp_path), "g1", domain(token=token), 0.0) == waits


def test_clock_that_is_set_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt.leave(str(tmp_path), "g1", UUID)
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert attempt.take(str(tmp_path), "g1", domain(), 0.0)


def test_attempt_for_another_uuid_is_used_up(tmp_path: Path) -> None:
    attempt.leave(str(tmp_path), "g1", UUID)
    assert not attempt.take(str(tmp_path), "g1", domain(OTHER), 0.0)
    assert not attempt.take(str(tmp_path), "g1", domain(), 0.0)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"uuid": 1, "time": "now"}', '{"time": 1}'])
def test_damaged_file_is_no_attempt(text: str, tmp_path: Path) -> None:
    (tmp_path / "second-gate").mkdir()
    (tmp_path / "second-gate" / "g1.json").write_text(text)
    assert not attempt.take(str(tmp_path), "g1", domain(), 0.0)


@pytest.mark.parametrize("guest", ["", "a/b"])
def test_name_that_is_none_is_no_path(guest: str, tmp_path: Path) -> None:
    assert not attempt.leave(str(tmp_path), guest, UUID)
    attempt.drop(str(tmp_path), guest)
    assert not attempt.take(str(tmp_path), guest, domain(), 0.0)


def test_file_is_where_the_shell_looks_for_it(tmp_path: Path) -> None:
    hook = (Path(__file__).parents[3] / "hooks" / "vfio-preflight").read_text()
    assert "waiting=$run/second-gate/$1.json\n" in hook
    attempt.leave(str(tmp_path), "g 1", UUID)
    assert (tmp_path / "second-gate" / "g 1.json").exists()


def test_name_as_long_as_any_that_is_expected(tmp_path: Path) -> None:
    assert attempt.leave(str(tmp_path), "x" * 250, UUID)
    assert attempt.take(str(tmp_path), "x" * 250, domain(), 0.0)

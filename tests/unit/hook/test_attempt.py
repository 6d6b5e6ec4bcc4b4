"""An attempt on its way from migrate begin to started begin (hook.attempt)."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.makers import UUID
from vfio_preflight.hook import attempt

OTHER = "22222222-2222-3333-4444-555555555555"


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock, to be set."""
    clock = [1000.0]
    monkeypatch.setattr("time.time", lambda: clock[0])
    return clock


def test_attempt_is_taken_once(tmp_path: Path, now: list[float]) -> None:
    runtime = str(tmp_path)
    assert attempt.leave(runtime, "g1", UUID) and attempt.is_waiting(runtime, "g1")
    now[0] += 0.4
    assert attempt.take(runtime, "g1", UUID, 0.3)
    assert not attempt.is_waiting(runtime, "g1")
    assert not attempt.take(runtime, "g1", UUID, 0.3)


@pytest.mark.parametrize(
    ("guest", "uuid", "waited", "age"),
    [
        ("g1", OTHER, 0.4, 0.3),
        ("g2", UUID, 0.4, 0.3),
        ("g1", UUID, attempt.SOON + 1, 0.3),
        ("g1", UUID, 10.0, 60.0),  # a QEMU that ran before
        ("g1", UUID, -60.0, 0.3),  # a clock that was set back
    ],
)
def test_attempt_is_for_one_start(
    guest: str, uuid: str, waited: float, age: float, tmp_path: Path, now: list[float]
) -> None:
    attempt.leave(str(tmp_path), "g1", UUID)
    now[0] += waited
    assert not attempt.take(str(tmp_path), guest, uuid, age)


def test_attempt_for_another_uuid_is_used_up(tmp_path: Path) -> None:
    attempt.leave(str(tmp_path), "g1", UUID)
    assert not attempt.take(str(tmp_path), "g1", OTHER, 0.0)
    assert not attempt.is_waiting(str(tmp_path), "g1")


@pytest.mark.parametrize("guest", ["", "a/b"])
def test_name_that_is_none_is_no_path(guest: str, tmp_path: Path) -> None:
    assert not attempt.leave(str(tmp_path), guest, UUID)
    attempt.drop(str(tmp_path), guest)
    assert not attempt.take(str(tmp_path), guest, UUID, 0.0)


def test_file_is_where_the_shell_looks_for_it(tmp_path: Path) -> None:
    hook = (Path(__file__).parents[3] / "hooks" / "vfio-preflight").read_text()
    assert "waiting=$run/second-gate/g-$1.json\n" in hook
    attempt.leave(str(tmp_path), "g 1", UUID)
    assert (tmp_path / "second-gate" / "g-g 1.json").exists()

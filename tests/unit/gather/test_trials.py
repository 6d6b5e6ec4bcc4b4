"""Trials on this host's emulator: whether one is begun, and what comes of it."""

from __future__ import annotations

import time

import pytest

from unit.makers import EMULATOR, make_state
from vfio_preflight.gather.trials import LEAST, trials
from vfio_preflight.osutil import executable
from vfio_preflight.qemu.model.vfio_pci import Environment
from vfio_preflight.qemu.trial import trial
from vfio_preflight.qemu.trial.endings import Result
from vfio_preflight.qemu.trial.workbench import Setting

SETTING = Setting("pc-q35-9.0", "vfio-pci", Environment("root-port"))


@pytest.fixture(autouse=True)
def emulator(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Stands in for the trial; the list holds the executables tried."""
    tried: list[object] = []

    def accept(*arguments: object, **_options: object) -> Result:
        tried.append(arguments[3])
        return Result("pass")

    monkeypatch.setattr(trial, "trial", accept)
    monkeypatch.setattr(executable, "trusted_executable", lambda path: path)
    return tried


def test_result(emulator: list[object]) -> None:
    attempt = trials(EMULATOR, time.monotonic() + 60)(make_state(), make_state(), SETTING)
    assert (attempt.result, attempt.reason) == (Result("pass"), "")
    assert emulator == [EMULATOR]


def test_no_trial_is_begun_without_the_time_a_hang_takes(emulator: list[object]) -> None:
    """A hang is ended after a second of processor time: 2 seconds are not enough on a busy host."""
    assert LEAST == 3.0
    attempt = trials(EMULATOR, time.monotonic() + 2.5)(make_state(), make_state(), SETTING)
    assert (attempt.result, attempt.reason) == (None, "no time was left")
    assert emulator == []


def test_emulator_that_must_not_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    attempt = trials("relative", time.monotonic() + 60)(make_state(), make_state(), SETTING)
    assert attempt.result is None and "not an absolute path" in attempt.reason

"""Jobs in processes of their own; each test ends what it begins, or shows that it was ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from unit.hooked import PLUGIN
from unit.patience import PATIENCE
from vfio_preflight.cli import workers
from vfio_preflight.cli.connection import LibvirtError
from vfio_preflight.cli.workers import Answer, side_by_side


def test_answers_are_in_the_order_of_the_jobs() -> None:
    done: list[int] = []

    def late() -> str:
        time.sleep(0.1)
        return "late"

    def refused() -> str:
        raise LibvirtError("no way")

    def broken() -> str:
        raise ValueError("s3cret")

    answers = side_by_side([late, lambda: {"a": 1}, refused, broken], 20, done.append)
    assert answers == [
        Answer("late"),
        Answer({"a": 1}),
        Answer(None, "no way"),
        Answer(None, "internal error (ValueError); please report it"),
    ]
    assert done == [1, 2, 3, 4]


def test_more_jobs_than_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "AT_ONCE", 2)
    answers = side_by_side([lambda n=n: n for n in range(7)], 20)  # type: ignore[misc]
    assert [answer.value for answer in answers] == list(range(7))


def test_large_answer() -> None:
    assert side_by_side([lambda: "x" * 300_000], 20)[0].value == "x" * 300_000


def test_job_that_is_late_ends_with_what_it_started(tmp_path: Path) -> None:
    def hang() -> None:
        with subprocess.Popen(["/usr/bin/sleep", "600"]) as process:
            (tmp_path / "pid").write_text(str(process.pid))

    (answer,) = side_by_side([hang], 0.3)
    assert answer == Answer(None, "no answer within 0 s")
    wait(lambda: not is_alive(int((tmp_path / "pid").read_text())))


def test_worker_that_was_killed() -> None:
    (answer,) = side_by_side([lambda: os.kill(os.getpid(), signal.SIGKILL)], 20)
    assert answer.error == "the check was killed"


PROGRAM = """
import signal, subprocess, sys, time
from vfio_preflight.cli.dryrun import _uninterrupted
from vfio_preflight.cli.workers import side_by_side
place = sys.argv[1]
def hang():
    process = subprocess.Popen(["/usr/bin/sleep", "600"])
    with _uninterrupted():
        with open(place + "/defined", "w") as file: file.write(str(process.pid))
        time.sleep(0.5)
        with open(place + "/removed", "w") as file: file.write("x")
    time.sleep(600)
side_by_side([hang, hang], 600)
print("went on")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_when_killed(number: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(PLUGIN)},
    )
    wait((tmp_path / "defined").exists)
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert (out, process.returncode != 0) == (b"", True)
    # What was defined is removed first, also where the program itself is gone.
    wait((tmp_path / "removed").exists)
    wait(lambda: not is_alive(int((tmp_path / "defined").read_text())))


def test_signal_that_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        jobs = [lambda: signal.getsignal(signal.SIGHUP) == signal.SIG_IGN]
        assert side_by_side(jobs, 20) == [Answer(True)]
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def wait(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"

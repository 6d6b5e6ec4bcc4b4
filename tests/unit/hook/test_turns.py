"""Turns: who waits for whom, and that nobody waits for ever."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unit.patience import ends
from vfio_preflight.hook import turns
from vfio_preflight.osutil.locks import is_taken, lock_file


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(turns, "DIRECTORY", str(tmp_path / "turns"))
    return tmp_path / "turns"


@pytest.fixture
def forked() -> Iterator[Callable[[Callable[[], object]], int]]:
    """Runs a function in a process of its own, ended at the end; its process id."""
    children: list[int] = []

    def fork(work: Callable[[], object]) -> int:
        child = os.fork()
        if child == 0:
            try:
                work()
            finally:
                os._exit(0)
        children.append(child)
        return child

    yield fork
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def waited(operation: str = "migrate") -> float:
    begun = time.monotonic()
    turns.take(operation)
    return time.monotonic() - begun


def hold(name: str) -> int:
    lock = lock_file(turns.DIRECTORY, name)
    assert is_taken(lock)
    return lock


def hold_all() -> list[int]:
    return [hold(f"place-{number}") for number in range(turns.places())]


def test_some_work_at_the_same_time(forked: Callable[[Callable[[], object]], int]) -> None:
    """As many as there are places; the next waits until one of them has ended."""
    done, write = os.pipe()

    def work() -> None:
        turns.take("migrate")
        os.write(write, b"x")
        time.sleep(60)

    workers = [forked(work) for _ in range(turns.places() + 1)]
    with ends():
        for _ in range(turns.places()):
            assert os.read(done, 1)
        os.set_blocking(done, False)
        time.sleep(0.2)
        with pytest.raises(BlockingIOError):
            os.read(done, 1)
        os.set_blocking(done, True)
        # All but the one that waits, whichever that is.
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
    os.close(done)
    os.close(write)
    assert waited() < turns.PATIENCE


def test_place_of_one_that_was_killed_is_free(
    forked: Callable[[Callable[[], object]], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "places", lambda: 1)
    held, write = os.pipe()

    def work() -> None:
        turns.take("migrate")
        os.write(write, b"x")
        time.sleep(60)

    worker = forked(work)
    os.read(held, 1)
    os.kill(worker, signal.SIGKILL)
    with ends():
        turns.take("migrate")
    assert is_free("place-0") is False
    os.close(held)
    os.close(write)


def is_free(name: str) -> bool:
    lock = lock_file(turns.DIRECTORY, name)
    try:
        return is_taken(lock)
    finally:
        os.close(lock)


def test_forked_process_that_is_stuck_keeps_no_place(
    forked: Callable[[Callable[[], object]], int],
) -> None:
    place = turns.take("migrate")
    gone, write = os.pipe()

    def work() -> None:
        turns.let_go(place)
        os.write(write, b"x")
        time.sleep(60)

    forked(work)
    os.read(gone, 1)
    assert not is_free("place-0")
    turns.let_go(place)
    assert is_free("place-0")
    turns.let_go(-1)
    os.close(gone)
    os.close(write)


@pytest.mark.parametrize(("operation", "patience"), [("migrate", 0.4), ("started", 0.1)])
def test_patience_ends(
    monkeypatch: pytest.MonkeyPatch, directory: Path, operation: str, patience: float
) -> None:
    """Behind others in the queue, or at its head: what has waited long enough goes ahead."""
    monkeypatch.setattr(turns, "PATIENCE", 0.4)
    monkeypatch.setattr(turns, "PATIENCE_STARTED", 0.1)
    before = len(os.listdir("/proc/self/fd"))
    for held in ([hold("queue")], hold_all()):
        with ends():
            assert waited(operation) >= patience
        for lock in held:
            os.close(lock)
    assert len(os.listdir("/proc/self/fd")) == before
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


def test_alarm_that_is_blocked_and_ignored_still_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook inherits both from its caller."""
    monkeypatch.setattr(turns, "PATIENCE", 0.1)
    queue = hold("queue")
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    try:
        with ends():
            assert waited() >= 0.1
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    os.close(queue)


def test_head_of_the_queue_takes_what_becomes_free(monkeypatch: pytest.MonkeyPatch) -> None:
    held = hold_all()
    naps = iter(range(3))

    def nap(_: float) -> None:
        if next(naps) == 2:
            os.close(held.pop())

    monkeypatch.setattr(time, "sleep", nap)
    turns.take("migrate")
    assert not is_free(f"place-{turns.places() - 1}")
    assert is_free("queue")
    for lock in held:
        os.close(lock)


def test_where_no_lock_can_be_made_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "others").mkdir()
    (tmp_path / "others").chmod(0o777)
    for name in ("file", "others"):
        monkeypatch.setattr(turns, "DIRECTORY", str(tmp_path / name))
        with ends(turns.PATIENCE_STARTED):
            turns.take("migrate")


@pytest.mark.parametrize(("processors", "places"), [(1, 2), (2, 4), (64, 8)])
def test_places(monkeypatch: pytest.MonkeyPatch, processors: int, places: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(processors)})
    assert turns.places() == places

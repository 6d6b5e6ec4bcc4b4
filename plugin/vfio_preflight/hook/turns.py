"""A turn for each of many hooks that libvirt calls at once, as when a host is drained.

A check takes a tenth of a second of processor time, and some 15 MB; an emulator that it starts
takes 40 MB more. All of a few hundred at the same time would be as long about it as the last of
them, and take more memory than they may. So no more than a few (:func:`places`) work at the same
time, and the others wait in the order in which they came, before they have loaded anything.

Each place is a lock that the kernel frees with its holder, and so is the head of the queue. A hook
that has waited for its patience goes ahead without a turn, as do all where no lock can be made:
what is at stake here is time, and never a verdict. Guests without VFIO devices do not wait.
"""

from __future__ import annotations

import fcntl
import os
import time

from ..osutil.locks import is_taken, lock_file

DIRECTORY = "/run/vfio-preflight/turns"
# Seconds: 300 checks on two processors take about 15. While "started begin" waits, libvirt keeps
# the guest locked, and "virsh list" waits with it.
PATIENCE = 60.0
PATIENCE_STARTED = 15.0
_MOST = 8  # places, however many processors there are
_POLL = 0.005  # seconds between two looks of the one at the head of the queue


def places() -> int:
    """How many hooks work at the same time: more than processors, as some wait for an emulator."""
    return min(2 * len(os.sched_getaffinity(0)), _MOST)


def take(operation: str) -> int:
    """Wait for a turn, which lasts until this process has ended.

    Returns the descriptor of the place, -1 without one. A process that is forked lets go of it: one
    that is stuck in the kernel must not keep the place.
    """
    patience = PATIENCE_STARTED if operation == "started" else PATIENCE
    try:
        return _take(time.monotonic() + patience)
    except OSError:
        return -1


def let_go(place: int) -> None:
    """Close what :func:`take` returned; another process that has it open keeps the turn."""
    if place >= 0:
        os.close(place)


def _take(end: float) -> int:
    queue = lock_file(DIRECTORY, "queue")
    try:
        if not is_taken(queue):
            _wait_in(queue, end - time.monotonic())
        return _take_one(end)
    finally:
        os.close(queue)


def _wait_in(queue: int, seconds: float) -> None:
    """Wait for the head of the queue, without a processor. Raises TimeoutError."""
    # Not signal, whose enumerations would take half a megabyte in each of those who wait.
    signals = __import__("_signal")

    def give_up(_number: int, _frame: object) -> None:
        raise TimeoutError

    # The caller may have left it blocked or ignored, and both would be inherited.
    signals.signal(signals.SIGALRM, give_up)
    signals.pthread_sigmask(signals.SIG_UNBLOCK, (signals.SIGALRM,))
    try:
        signals.setitimer(signals.ITIMER_REAL, max(0.001, seconds))
        # flock(2) serves those who wait in their order; whoever polled would be passed by others.
        fcntl.flock(queue, fcntl.LOCK_EX)
    finally:
        signals.setitimer(signals.ITIMER_REAL, 0)
        signals.signal(signals.SIGALRM, signals.SIG_DFL)


def _take_one(end: float) -> int:
    """Take one of the places; no lock is left open but that one's."""
    locks: list[int] = []
    try:
        for number in range(places()):
            locks.append(lock_file(DIRECTORY, f"place-{number}"))
            if is_taken(locks[-1]):
                return locks.pop()
        return _take_first_free(locks, end)
    finally:
        for lock in locks:
            os.close(lock)


def _take_first_free(locks: list[int], end: float) -> int:
    """Take the first to become free off the list; -1 if that is not before ``end``."""
    while time.monotonic() < end:
        free = next((lock for lock in locks if is_taken(lock)), None)
        if free is not None:
            locks.remove(free)
            return free
        time.sleep(_POLL)
    return -1

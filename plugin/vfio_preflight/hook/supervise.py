"""Runs a function in a child process with a deadline, so that it cannot block libvirt.

libvirt waits for a hook without a time-out, and for every process that still holds its stdout or
stderr. The child therefore gets pipes instead of them, in a process group of its own that is killed
when time is up; the parent relays the result only once it is whole, and does not end without the
child, however it ends. A child that crashes, runs out of memory or hangs in the kernel is a result
like any other. Memory is bounded by the bound on the input; a resource limit would be inherited by
the emulator, which reserves 1 GiB under TCG.

The deadline counts what the child could do: while it is ready to run and the processors are busy
with others, its clock stands still, up to a bound (:data:`STRETCH`).

Temporary files of the child lie in a directory of its own, which the child removes, the parent
where the child was killed, and a later hook where both were.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable

from ..errors import PreflightError
from ..osutil import leftovers
from ..osutil.lifeline import SIGKILL, tie
from ..osutil.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import NoReturn

# Seconds that a child may take for what it does after its answer.
AFTERWARDS = 5
# How many times the deadline is added to it at most, for a child that gets no processor.
STRETCH = 2.0
# Seconds to wait for a killed child; one that is stuck in the kernel is not waited for.
GRACE = 0.3
# The exit status of what came to no result, EX_SOFTWARE.
FAILED = 70
_WARNING = b"!"


class Outcome(NamedTuple):
    """What the child did; ``failure`` is empty if it came to a result of its own.

    ``after`` is what the child does once it has answered; nobody waits for that. ``log`` is the
    line that tells of this outcome, as a ``warning`` or not: the parent writes it, because a child
    that is killed between the line and the answer would have told of what never was. ``event`` is
    what it is about (``hook.telling``).
    """

    status: int
    out: bytes = b""
    err: bytes = b""
    failure: str = ""
    after: Callable[[], object] | None = None
    log: str = ""
    warning: bool = False
    event: str = ""


def supervised(work: Callable[[], Outcome], deadline: float) -> Outcome:
    """Run ``work`` in a child for at most ``deadline`` seconds and return its outcome."""
    scratch = _scratch()
    try:
        return _supervised(work, deadline, scratch)
    finally:
        _remove(scratch)


def _supervised(work: Callable[[], Outcome], deadline: float, scratch: str) -> Outcome:
    # Output, errors, the exit status, the log's line.
    reads, writes = zip(*(os.pipe() for _ in range(4)))
    # Buffered output would otherwise be written twice, by the parent and by the child.
    sys.stdout.flush()
    sys.stderr.flush()
    # Nobody writes to it; only the parent keeps its write end.
    theirs, lifeline = os.pipe()
    # fork() rather than a new interpreter, which would have to import everything again.
    child = os.fork()
    if child == 0:
        # The child's copies of the read ends would hide the end of file from the parent.
        _close(reads)
        _child(work, writes, (theirs, lifeline), scratch)
    _close((*writes, theirs))
    begun = time.monotonic()
    # While the child works, so that nobody waits for it.
    leftovers.sweep()
    try:
        return _watch(child, reads, begun, deadline)
    finally:
        os.close(lifeline)


def _close(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _scratch() -> str:
    """A new directory for temporary files, created before the child can be killed; or none."""
    path = os.path.join(leftovers.place(), f"{leftovers.SCRATCH}{os.urandom(8).hex()}")
    try:
        os.mkdir(path, 0o700)
        # mkdir()'s mode is subject to the umask, which a hook inherits from the daemon.
        os.chmod(path, 0o711)  # noqa: S103 - to be passed through by the emulators' user
    except OSError:
        return ""
    return path


def _remove(scratch: str) -> None:
    try:
        # Normally empty: what remains is the files of a child that was killed.
        os.rmdir(scratch)
    except FileNotFoundError:
        return
    except OSError:
        import shutil

        shutil.rmtree(scratch, ignore_errors=True)


def _child(
    work: Callable[[], Outcome], pipes: tuple[int, ...], line: tuple[int, int], scratch: str
) -> NoReturn:
    status = FAILED
    out, err, answer, log = pipes
    try:
        # A group of its own, so that what it forks can be killed with it. Programs that it starts
        # see to that themselves (osutil.program).
        os.setpgid(0, 0)
        # Not the group: a process that writes a line of the log is part of it at first.
        tie(*line)
        if scratch:
            os.environ["TMPDIR"] = scratch
        # stderr first: an error in between is then already reported to the parent.
        os.dup2(err, 2)
        os.dup2(out, 1)
        outcome = work()
        # Written at the end and as a whole, so a killed child leaves no half XML for libvirt.
        _write(1, outcome.out)
        _write(2, outcome.err)
        if outcome.log:
            _write(log, _packed(outcome))
        status = outcome.status
        # Last, when all else is there: it may take long until the process itself has ended, whose
        # open devices the kernel has to reset.
        os.write(answer, bytes([status]))
        if outcome.after is not None:
            # The lifeline before the pipes, after whose end the parent ends.
            _let_go((line[0], 0, 1, 2, *pipes))
            outcome.after()
    except PreflightError as error:
        # The parent turns this, and the child's own faults below, into the on-error policy.
        _write(2, f"{error}\n".encode("utf-8", "replace"))
    # BaseException: MemoryError and SystemExit must become a result as well.
    except BaseException as error:
        _write(2, f"{type(error).__name__}: {error}\n".encode("utf-8", "replace"))
    finally:
        _remove(scratch)
        # Not sys.exit(): the child must not run the parent's cleanup handlers.
        os._exit(status)


def _packed(outcome: Outcome) -> bytes:
    """The line for the log, behind a byte that says how loud it is; and NUL and the event."""
    text = outcome.log.replace("\0", "?") + "\0" + outcome.event
    return (_WARNING if outcome.warning else b"-") + text.encode("utf-8", "replace")


def _let_go(descriptors: tuple[int, ...]) -> None:
    """Hold the pipes no longer, for whose end the parent waits; and do not go on for ever."""
    # Not signal, whose enumerations take half a millisecond, and the parent waits yet.
    __import__("_signal").alarm(AFTERWARDS)
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(null, descriptor)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _watch(child: int, pipes: tuple[int, ...], begun: float, deadline: float) -> Outcome:
    end = begun + deadline
    received = {descriptor: bytearray() for descriptor in pipes}
    waiting = list(pipes)
    try:
        # Until all pipes are closed: an emulator that inherited one would keep it open.
        while waiting:
            left = end - time.monotonic()
            ready = select.select(waiting, [], [], left)[0] if left > 0 else []
            if not ready:
                later = begun + deadline + min(_starved(child), STRETCH * deadline)
                if later > max(end, time.monotonic()):
                    end = later
                    continue
                _kill(child)
                _reap(child)
                return Outcome(FAILED, failure="no result within the deadline")
            for descriptor in ready:
                data = os.read(descriptor, 65536)
                received[descriptor] += data
                if not data:
                    waiting.remove(descriptor)
    finally:
        _close(pipes)
    out, err, answer, log = (bytes(received[descriptor]) for descriptor in pipes)
    if answer:
        line, _, event = log[1:].decode("utf-8", "replace").partition("\0")
        outcome = _outcome(answer[0], out, err)
        told = outcome._replace(log=line, warning=log[:1] == _WARNING, event=event)
        return outcome if outcome.failure else told
    # It is gone, or is stuck in its end; an emulator that it had started may wait for commands yet.
    _kill(child)
    return _failed(_reap(child), err)


def _starved(child: int) -> float:
    """Seconds in which the child was ready to run, and waited for a processor.

    0.0 where the kernel does not tell (CONFIG_SCHED_INFO). Source: sched-stats.rst of Linux.
    """
    try:
        with open(f"/proc/{child}/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _kill(child: int) -> None:
    """Kill the child and what it started."""
    # killpg() fails if the child had no time for setpgid(); kill() then reaches it alone.
    for send in (os.killpg, os.kill):
        try:
            send(child, SIGKILL)
        except OSError:
            continue


def _reap(child: int) -> int | None:
    """Wait for a child that is gone or was killed; not for long, it may be stuck in the kernel.

    Return its wait status, None if it is.
    """
    end = time.monotonic() + GRACE
    # Polling, as SIGCHLD or a pidfd would not help with a process stuck in the kernel (state D).
    while True:
        try:
            pid, status = os.waitpid(child, os.WNOHANG)
        # Where the hook's caller ignores SIGCHLD, and that was inherited, nothing is to be reaped.
        except ChildProcessError:
            return None
        if pid or time.monotonic() >= end:
            return status if pid else None
        time.sleep(0.005)


def _failed(wait_status: int | None, err: bytes) -> Outcome:
    """The outcome of a child that gave no answer."""
    if wait_status is not None and os.WIFEXITED(wait_status):
        return _outcome(os.WEXITSTATUS(wait_status) or FAILED, b"", err)
    signal = "" if wait_status is None else f" by signal {os.WTERMSIG(wait_status)}"
    return Outcome(FAILED, failure=f"ended{signal}")


def _outcome(status: int, out: bytes, err: bytes) -> Outcome:
    # FAILED: the child's own failure; anything but 0 and 1 is not the hook's answer.
    if status not in (0, 1):
        return Outcome(status, failure=err.decode("utf-8", "replace").strip() or f"exit {status}")
    return Outcome(status, out, err)

"""Runs a function in a child process with a deadline, so that it cannot block libvirt.

libvirt waits for a hook without a time-out, and for every process that still holds its stdout or
stderr. The child therefore gets pipes instead of them, in a process group of its own that is killed
when time is up; the parent relays the result only once it is whole. A child that crashes, runs out
of memory or hangs in the kernel is a result like any other. Memory is bounded by the bound on the
input; a resource limit would be inherited by the emulator, which reserves 1 GiB under TCG.

Temporary files of the child lie in a directory of its own, which the child removes, and the parent
where the child was killed.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable

from ..errors import PreflightError
from ..osutil.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import NoReturn

# Seconds to wait for a killed child; one that is stuck in the kernel is not waited for.
GRACE = 0.3


class Outcome(NamedTuple):
    """What the child did; ``failure`` is empty if it came to a result of its own."""

    status: int
    out: bytes = b""
    err: bytes = b""
    failure: str = ""


def supervised(work: Callable[[], Outcome], deadline: float) -> Outcome:
    """Run ``work`` in a child for at most ``deadline`` seconds and return its outcome."""
    scratch = _scratch()
    try:
        return _supervised(work, deadline, scratch)
    finally:
        _remove(scratch)


def _supervised(work: Callable[[], Outcome], deadline: float, scratch: str) -> Outcome:
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    # Buffered output would otherwise be written twice, by the parent and by the child.
    sys.stdout.flush()
    sys.stderr.flush()
    # fork() rather than a new interpreter, which would have to import everything again.
    child = os.fork()
    if child == 0:
        # The child's copies of the read ends would hide the end of file from the parent.
        os.close(out_read)
        os.close(err_read)
        _child(work, out_write, err_write, scratch)
    os.close(out_write)
    os.close(err_write)
    return _watch(child, out_read, err_read, time.monotonic() + deadline)


def _scratch() -> str:
    """A new directory for temporary files, created before the child can be killed; or none."""
    place = os.environ.get("TMPDIR", "/tmp")  # noqa: S108 - a name that nobody can guess follows
    path = os.path.join(place, f"vfio-preflight-{os.urandom(8).hex()}")
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


def _child(work: Callable[[], Outcome], out: int, err: int, scratch: str) -> NoReturn:
    status = 70
    try:
        # A group of its own, so that the emulators it starts can be killed with it.
        os.setpgid(0, 0)
        if scratch:
            os.environ["TMPDIR"] = scratch
        # stderr first: an error in between is then already reported to the parent.
        os.dup2(err, 2)
        os.dup2(out, 1)
        outcome = work()
        # Written at the end and as a whole, so a killed child leaves no half XML for libvirt.
        _write(1, outcome.out)
        _write(2, outcome.err)
        status = outcome.status
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


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _watch(child: int, out: int, err: int, end: float) -> Outcome:
    received = {out: bytearray(), err: bytearray()}
    waiting = [out, err]
    try:
        # Until both pipes are closed: an emulator that inherited one would keep it open.
        while waiting:
            left = end - time.monotonic()
            ready = select.select(waiting, [], [], left)[0] if left > 0 else []
            if not ready:
                _kill(child)
                _reap(child)
                return Outcome(70, failure="no result within the deadline")
            for descriptor in ready:
                data = os.read(descriptor, 65536)
                received[descriptor] += data
                if not data:
                    waiting.remove(descriptor)
    finally:
        os.close(out)
        os.close(err)
    # WNOWAIT keeps the zombie, so the process group's id cannot be reused before the kill.
    ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    if ended is not None and ended.si_code != os.CLD_EXITED:
        _kill(child)  # it is gone; the emulator that it had started may wait for commands yet
    return _outcome(os.waitpid(child, 0)[1], bytes(received[out]), bytes(received[err]))


def _kill(child: int) -> None:
    """Kill the child and what it started."""
    # killpg() fails if the child had no time for setpgid(); kill() then reaches it alone.
    for send in (os.killpg, os.kill):
        try:
            send(child, signal.SIGKILL)
        except OSError:
            continue


def _reap(child: int) -> None:
    """Wait for a child that was killed; not for long, it may be stuck in the kernel."""
    end = time.monotonic() + GRACE
    # Polling, as SIGCHLD or a pidfd would not help with a process stuck in the kernel (state D).
    while os.waitpid(child, os.WNOHANG)[0] == 0 and time.monotonic() < end:
        time.sleep(0.005)


def _outcome(wait_status: int, out: bytes, err: bytes) -> Outcome:
    if os.WIFSIGNALED(wait_status):
        return Outcome(70, failure=f"ended by signal {os.WTERMSIG(wait_status)}")
    status = os.WEXITSTATUS(wait_status)
    # 70, EX_SOFTWARE: the child's own failure; anything but 0 and 1 is not the hook's answer.
    if status not in (0, 1):
        return Outcome(status, failure=err.decode("utf-8", "replace").strip() or f"exit {status}")
    return Outcome(status, out, err)

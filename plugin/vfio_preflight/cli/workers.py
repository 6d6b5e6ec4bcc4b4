"""Jobs side by side, each in a process of its own, of which nothing is left behind.

    >>> side_by_side([job, another], within=60.0)
    [Answer(value={...}, error=''), Answer(value=None, error='no answer within 60 s')]

A process, because libvirt blocks without end on a host that does not answer, and because what a
stand-in for a guest needs to be removed reliably are signals, which only a main thread has. Each
worker leads a session of its own, so that the ssh that libvirt starts in it ends with it. One that
is told to end first removes what it has defined (``cli.dryrun``). Where this process is killed, so
that it can tell nobody, a thread of the worker's sees it, and ends the session.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from ..errors import PreflightError
from ..osutil.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

# Workers at a time; each is a connection to the source as well.
AT_ONCE = 16
# Seconds that a worker has to remove what it defined: a question to a hook takes its deadline.
GRACE = 15.0
# The signals by which a terminal, a service manager or timeout(1) ends a program.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_BLOCK = 1 << 16

Job = Callable[[], object]
# Held by a worker while something is defined that it will have to remove.
defining = threading.RLock()


class Answer(NamedTuple):
    """What a job returned, through JSON; or why there is nothing."""

    value: Any
    error: str = ""


class _Worker:
    """A process at work on the job of this ``number``; ``end`` is when it has to be done."""

    def __init__(self, number: int, pid: int, pipe: int, end: float, leads: bool) -> None:
        self.number, self.pid, self.pipe, self.end, self.leads = number, pid, pipe, end, leads
        self.data = bytearray()

    def tell(self, what: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, what)

    def reap(self) -> None:
        """Kill what is left of its session, and it; both are gone afterwards."""
        if self.leads:
            # Before it is reaped: from then on its number could be another process's.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self.tell(signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.pipe)


class _Ended(BaseException):
    """A signal that is to end this program."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def side_by_side(
    jobs: Sequence[Job],
    within: float,
    tell: Callable[[int], None] = lambda _done: None,
    own_session: bool = True,
) -> list[Answer]:
    """The answers to ``jobs``, in their order; each has ``within`` seconds.

    ``tell`` is called with how many are done. Without ``own_session`` workers keep the terminal, so
    that ssh can ask for a password there.
    """
    answers: list[Answer] = [Answer(None, "not asked")] * len(jobs)
    life = os.pipe()
    workers: dict[int, _Worker] = {}
    waiting = list(enumerate(jobs))
    with _ended_cleanly(workers, life), selectors.DefaultSelector() as selector:
        while workers or waiting:
            while waiting and len(workers) < AT_ONCE:
                number, job = waiting.pop(0)
                worker = _begin(number, job, within, life, own_session)
                workers[worker.pid] = worker
                selector.register(worker.pipe, selectors.EVENT_READ, worker)
            for worker in _done(selector, workers):
                selector.unregister(worker.pipe)
                answers[worker.number] = _answer(worker, within)
                worker.reap()
                del workers[worker.pid]
                tell(len(jobs) - len(workers) - len(waiting))
    return answers


def _begin(number: int, job: Job, within: float, life: tuple[int, int], leads: bool) -> _Worker:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _work(job, writer, life, leads)
    os.close(writer)
    return _Worker(number, pid, reader, time.monotonic() + within, leads)


def _work(job: Job, writer: int, life: tuple[int, int], leads: bool) -> None:
    """The worker's life; does not return."""
    try:
        if leads:
            os.setsid()
        # Nobody but the parent has this end open: it closes when that ends, however it does.
        os.close(life[1])
        threading.Thread(target=_end_with_parent, args=(life[0], leads), daemon=True).start()
        for number in _heeded():
            # At once, also while libvirt blocks; dryrun delays it where something is defined.
            signal.signal(number, signal.SIG_DFL)
        with open(writer, "wb") as pipe:
            pipe.write(json.dumps(_tried(job)).encode())
    finally:
        # Not by SystemExit: handlers and buffers are the parent's.
        os._exit(0)


def _end_with_parent(life: int, leads: bool) -> None:
    """Wait for the parent's end, and then, when nothing is defined, end everything here.

    A thread can: libvirt-python lets others run while it blocks.
    """
    os.read(life, 1)
    # Never released: nothing can be defined any more.
    defining.acquire()
    # ssh in it would otherwise go on for as long as it takes to connect.
    if leads:
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _tried(job: Job) -> Answer:
    try:
        return Answer(job())
    except (PreflightError, OSError) as error:
        return Answer(None, str(error))
    # Other destinations are not to suffer from a fault that shows with one.
    except Exception as error:
        return Answer(None, f"internal error ({type(error).__name__}); please report it")


def _done(selector: selectors.BaseSelector, workers: dict[int, _Worker]) -> Iterator[_Worker]:
    """Wait for the next workers that have answered, have ended, or are late."""
    now = time.monotonic()
    soonest = min(worker.end for worker in workers.values())
    for key, _ in selector.select(max(0.0, soonest - now)):
        worker: _Worker = key.data
        block = os.read(worker.pipe, _BLOCK)
        worker.data += block
        if not block:
            yield worker
    for worker in list(workers.values()):
        if time.monotonic() >= worker.end:
            _end([worker])
            yield worker


def _answer(worker: _Worker, within: float) -> Answer:
    try:
        return Answer(*json.loads(bytes(worker.data)))
    except (ValueError, TypeError):
        late = time.monotonic() >= worker.end
        return Answer(None, f"no answer within {within:.0f} s" if late else "the check was killed")


def _end(workers: Sequence[_Worker]) -> None:
    """Tell workers to end, and wait until they have, for a while."""
    for worker in workers:
        worker.tell(signal.SIGTERM)
    patience = time.monotonic() + GRACE
    for worker in workers:
        descriptor = os.pidfd_open(worker.pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(descriptor, selectors.EVENT_READ)
                selector.select(max(0.0, patience - time.monotonic()))
        finally:
            os.close(descriptor)


def _heeded() -> list[signal.Signals]:
    """Those that end this program: with nohup(1), SIGHUP does not."""
    return [number for number in ENDING if signal.getsignal(number) != signal.SIG_IGN]


@contextlib.contextmanager
def _ended_cleanly(workers: dict[int, _Worker], life: tuple[int, int]) -> Iterator[None]:
    """However this program is ended in here, workers are ended first; they watch ``life``."""

    def raise_ended(number: int, _frame: FrameType | None) -> None:
        raise _Ended(number)

    before = {number: signal.signal(number, raise_ended) for number in _heeded()}
    ended = 0
    try:
        yield
    except _Ended as signalled:
        ended = signalled.number
    finally:
        # Impatience does not help: what is defined has to be removed.
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        left = list(workers.values())
        _end(left)
        for worker in left:
            worker.reap()
        for end in life:
            os.close(end)
        for number, handler in before.items():
            signal.signal(number, handler)
        if ended:
            signal.raise_signal(ended)

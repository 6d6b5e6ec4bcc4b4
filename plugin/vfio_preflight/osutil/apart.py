"""Work on foreign bytes in a process without privilege, which gives back a JSON value.

    >>> apart(lambda: len(zlib.decompress(data)), deadline, ImageError)
    4096

What is already open can be read there, and nothing of root's be opened, written or signalled. It
ends with its caller. Whatever happens in there, a library's crash among it, is an error here. What
comes back is a foreigner's word as before: who asks checks it.

A caller who is not root has nothing to give up.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable

from ..errors import PreflightError
from .executable import User, unprivileged_user
from .lifeline import tie
from .light import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, NoReturn

# Bytes of an answer: a guest has 1,024 devices at most, each of 4096 bytes, in hexadecimal.
MAX_ANSWER = 16 << 20
# Seconds: work that has the same deadline is left the time to say what took too long.
GRACE = 0.4


def apart(work: Callable[[], object], deadline: float, error: type[PreflightError]) -> Any:  # noqa: ANN401
    """What ``work`` returns there, as JSON has it.

    ``deadline`` is on the clock of ``time.monotonic()``. Raises ``error`` with the text of
    a PreflightError that ``work`` raises, or with what became of the process.
    """
    user = unprivileged_user()
    reads, writes = os.pipe()
    theirs, lifeline = os.pipe()
    # fork() rather than a new interpreter, which would have to import everything again.
    child = os.fork()
    if child == 0:
        os.close(reads)
        _work(work, writes, user, (theirs, lifeline))
    os.close(writes)
    os.close(theirs)
    try:
        answer = _answer(reads, max(deadline, time.monotonic()) + GRACE)
    finally:
        os.close(reads)
        # One that has answered is at its end; one that has not is killed.
        os.close(lifeline)
        os.waitpid(child, 0)
    if answer is None:
        raise error("took too long, and was stopped")
    try:
        kind, value = json.loads(answer)
    # Cut short: it was killed, by a limit or by a fault.
    except ValueError:
        raise error("what reads it ended before it had an answer") from None
    if kind == "error":
        raise error(str(value))
    return value


def _work(
    work: Callable[[], object], pipe: int, user: User | None, line: tuple[int, int]
) -> NoReturn:
    try:
        _give_up(user)
        tie(*line)
        try:
            answer = ["value", work()]
        except PreflightError as error:
            answer = ["error", str(error)]
        data = json.dumps(answer).encode()
        while data:
            data = data[os.write(pipe, data) :]
    finally:
        # Not sys.exit(): nothing of the caller's is to be run here.
        os._exit(0)


def _give_up(user: User | None) -> None:
    import resource

    # It would hold what is being read.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if user is not None:
        # In this order: without root's privilege groups could no longer be given up. The kernel
        # takes all capabilities away as the last user ID is not root's any more (capabilities(7)).
        os.setgroups([])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)


def _answer(pipe: int, deadline: float) -> bytes | None:
    """All that is written to the pipe; None if that takes too long."""
    data = bytearray()
    while len(data) <= MAX_ANSWER:
        left = deadline - time.monotonic()
        wait = None if left == float("inf") else max(0.0, left)
        if not select.select([pipe], [], [], wait)[0]:
            return None
        part = os.read(pipe, 1 << 16)
        if not part:
            break
        data += part
    return bytes(data)

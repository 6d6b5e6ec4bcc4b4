"""A pipe on which a process's life hangs: the kernel kills it as the last write end is closed.

Nobody ever writes to the pipe, and only whoever started the process keeps a write end: the process
ends by its :func:`os.close`, or as its starter ends, be it by SIGKILL. Unlike PR_SET_PDEATHSIG this
can reach a whole process group, and holds through an execve(2) that changes an AppArmor domain.

Source: fcntl(2), F_SETOWN and F_SETSIG; ``pipe_release()``, fs/pipe.c of Linux.
"""

from __future__ import annotations

import fcntl
import os

# Importing signal makes enumerations of all signals, which takes half a millisecond.
SIGKILL = 9


def hang_on(lifeline: int, whom: int) -> None:
    """Have process ``whom``, or process group -``whom``, killed when the pipe loses its writers.

    To be called after a change of the user: the kernel takes the signal for one of that user's, who
    may send it to what is his, in a container's user namespace too.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, whom)
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def tie(lifeline: int, write_end: int) -> None:
    """Hang this process on a pipe of which it has inherited both ends."""
    hang_on(lifeline, os.getpid())
    # Only now, so that a starter that has ended meanwhile is noticed.
    os.close(write_end)

"""External programs that run for a short time: emulators, decompressors, a compiler.

    >>> limits = Limits(cpu=10, memory=1 << 30, file_size=0)
    >>> program = start(["/usr/bin/zstd", "-dcq"], user, limits, stdin=file)
    >>> program.process.stdout.read()
    >>> end(program)

They inherit nothing from the caller: an environment of two variables, no descriptor but their three
pipes, no supplementary group, no core file. Each runs in a session of its own with what it starts,
and none outlives its caller, however that ends: see :func:`_ties`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from ..errors import PreflightError
from .light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import subprocess
    from typing import IO

    from .executable import User

ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
# Seconds for what follows without delay: the exit after the end of its output, the end by SIGKILL.
GRACE = 1.0


class ProgramError(PreflightError):
    """A program that cannot be started; the text continues a sentence that begins with its name."""


class Limits(NamedTuple):
    """What a program may take: seconds of processor time, bytes of address space and of each file
    that it writes; None for what is not limited."""

    cpu: int | None = None
    memory: int | None = None
    file_size: int | None = None


class Program(NamedTuple):
    """A program that was started; ``lifeline`` is the descriptor on which its life hangs."""

    process: subprocess.Popen[bytes]
    lifeline: int


def start(
    argv: Sequence[str],
    user: User | None,
    limits: Limits,
    *,
    stdin: IO[bytes] | int | None = None,
    environment: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
) -> Program:
    """Start ``argv`` with pipes for what it writes, and for its input unless ``stdin`` is given.

    ``user`` is the user to run it as, None for the caller. Raises :class:`ProgramError`, also if
    the program cannot be executed.
    """
    import subprocess

    theirs = lifeline = -1
    try:
        theirs, lifeline = os.pipe()
        process = subprocess.Popen(  # noqa: S603 - trusted_executable() has approved argv[0]
            argv,
            stdin=subprocess.PIPE if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # select() and poll() see the pipe, not Python's buffer: data left in a buffer would be
            # missed.
            bufsize=0,
            # The caller's working directory may be one that the unprivileged user cannot enter.
            cwd="/",
            env={**ENVIRONMENT, **(environment or {})},
            pass_fds=(*descriptors, theirs),
            user=user.uid if user else None,
            group=user.gid if user else None,
            # Without this the child keeps root's supplementary groups after setuid.
            extra_groups=[] if user else None,
            start_new_session=True,
            # Called in the child after the change of the user. With a change of the user, Popen
            # forks anyway. The only other thread in here sleeps in read(2) (cli.watch).
            preexec_fn=_ties(theirs, limits),
        )
    except (OSError, subprocess.SubprocessError) as error:
        _close(lifeline)
        who = f" as user {user.name}" if user else ""
        why = getattr(error, "strerror", None) or str(error)
        raise ProgramError(f"cannot be started{who}: {why}") from error
    finally:
        _close(theirs)
    return Program(process, lifeline)


def _ties(lifeline: int, limits: Limits) -> Callable[[], None]:
    """What a new process does to itself before it becomes the program.

    ``lifeline`` is inherited by the program, whose whole process group hangs on it: it is killed by
    :func:`end`, or as the caller ends (``osutil.lifeline``). There is no moment in which that does
    not hold: the new process has a write end itself until execve(2) closes that.
    """
    import resource

    from .lifeline import hang_on

    wanted = (
        # A core file of a decompressor would contain guest RAM.
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, limits.cpu),
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_FSIZE, limits.file_size),
    )

    def tie() -> None:
        hang_on(lifeline, -os.getpid())
        for kind, value in wanted:
            if value is not None:
                # Raising a limit that the caller was given would take a privilege.
                hard = resource.getrlimit(kind)[1]
                limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
                resource.setrlimit(kind, (limit, limit))

    return tie


def wait(program: Program, seconds: float = GRACE) -> int | None:
    """Its exit status, None if it does not end in time.

    ``Popen.wait(timeout)`` polls with sleeps; a process's descriptor becomes readable at its end.
    """
    import select

    process = program.process
    # First, because pidfd_open() fails with ESRCH for a child that has already been reaped.
    if process.poll() is not None:
        return process.returncode
    descriptor = os.pidfd_open(process.pid)
    try:
        select.select([descriptor], [], [], seconds)
    finally:
        os.close(descriptor)
    return process.poll()


def end(program: Program) -> None:
    """Kill it and what it started, close its pipes and reap it. One that is stuck in the kernel
    dies later."""
    process = program.process
    # Killing comes before the pipes are closed: a program can catch SIGPIPE and go on. The group is
    # killed by its pipe, not by its number, which may be another's by now.
    os.close(program.lifeline)
    process.kill()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    wait(program)


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)

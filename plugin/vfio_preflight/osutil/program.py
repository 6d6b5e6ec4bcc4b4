"""External programs that run for a short time: emulators and decompressors.

    >>> limits = Limits(cpu=10, memory=1 << 30, file_size=0)
    >>> process = start(["/usr/bin/zstd", "-dcq"], user, limits, stdin=file)
    >>> ...
    >>> end(process)

They inherit nothing from the caller: an environment of two variables, no descriptor but their three
pipes, no supplementary group, no core file. They stay in the caller's process group, so that
a kill of that group (by the hook's supervisor) reaches them; they are ended by process id.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

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


def start(
    argv: Sequence[str],
    user: User | None,
    limits: Limits,
    *,
    stdin: IO[bytes] | int | None = None,
    environment: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start ``argv`` with pipes for what it writes, and for its input unless ``stdin`` is given.

    ``user`` is the user to run it as, None for the caller. Raises :class:`ProgramError`, also if
    the program cannot be executed.
    """
    import subprocess

    try:
        # The shell sets the limits and then executes the program; argv[0] is only its $0.
        return subprocess.Popen(  # noqa: S603 - trusted_executable() has approved argv[0]
            ("/bin/sh", "-c", _limiting(limits), argv[0], *argv),
            stdin=subprocess.PIPE if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # select() and poll() see the pipe, not Python's buffer: data left in a buffer would be
            # missed.
            bufsize=0,
            # The caller's working directory may be one that the unprivileged user cannot enter.
            cwd="/",
            env={**ENVIRONMENT, **(environment or {})},
            pass_fds=descriptors,
            user=user.uid if user else None,
            group=user.gid if user else None,
            # Without this the child keeps root's supplementary groups after setuid.
            extra_groups=[] if user else None,
        )
    except (OSError, subprocess.SubprocessError) as error:
        who = f" as user {user.name}" if user else ""
        why = getattr(error, "strerror", None) or str(error)
        raise ProgramError(f"cannot be started{who}: {why}") from error


def _limiting(limits: Limits) -> str:
    """A shell script that becomes the program ("$@") within the limits.

    Lowering its own limits takes no privilege. prlimit(2) from outside would, for a process of
    another user, take CAP_SYS_RESOURCE, which containers lack, and come too late for its start;
    ``preexec_fn`` is slow, and not safe beside threads.
    """
    options = (
        # A core file of a decompressor would contain guest RAM.
        ("-c", 0),
        ("-t", limits.cpu),
        # -v is not in POSIX, but dash and bash both have it.
        ("-v", None if limits.memory is None else limits.memory >> 10),  # KiB
        # bash, started as sh, is in POSIX mode, where -f counts blocks of 512 bytes as in dash.
        ("-f", None if limits.file_size is None else limits.file_size >> 9),  # blocks of 512 bytes
    )
    steps = [f"ulimit {name} {value}" for name, value in options if value is not None]
    return "; ".join([*steps, 'exec "$@"'])


def wait(process: subprocess.Popen[bytes], seconds: float = GRACE) -> int | None:
    """Its exit status, None if it does not end in time.

    ``Popen.wait(timeout)`` polls with sleeps; a process's descriptor becomes readable at its end.
    """
    import select

    # First, because pidfd_open() fails with ESRCH for a child that has already been reaped.
    if process.poll() is not None:
        return process.returncode
    descriptor = os.pidfd_open(process.pid)
    try:
        select.select([descriptor], [], [], seconds)
    finally:
        os.close(descriptor)
    return process.poll()


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill it, close its pipes and reap it. One that is stuck in the kernel dies later."""
    # SIGKILL comes before the pipes are closed: a program can catch SIGPIPE and go on.
    process.kill()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    wait(process)

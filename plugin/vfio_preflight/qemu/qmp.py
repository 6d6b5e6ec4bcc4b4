"""One conversation with an emulator over QMP, and nothing of it left afterwards.

All queries are in the pipe before the first answer is read, which saves round trips. ``quit`` is
not among them: QEMU obeys it at once, and what of the answers is not in the pipe by then, which
holds less than they take, is lost; a reader that is slow, on a busy host, would lose the verdict.
The emulator stays in the caller's process group, so that whoever kills that group (a hook's
supervisor) reaches it too; a session of its own would let it get away. For the same reason it is
killed by process id: of a wrapper script that does not ``exec`` its emulator, only the script is
killed here, and the emulator ends on ``quit`` or with the caller's group.

Source: docs/interop/qmp-spec.rst of QEMU.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import PreflightError

if TYPE_CHECKING:
    import subprocess

    from .executable import User

_MAX_OUTPUT = 32 << 20  # bytes; query-machines of QEMU 10.0 takes half a megabyte
_MAX_STDERR = 64 << 10
_CHUNK = 1 << 20
_QUIT = b'{"execute": "quit"}\n'
_GRACE = 0.3  # seconds for what follows without delay: the exit after EOF, the end after SIGKILL
_ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


class QmpError(PreflightError):
    """A conversation that failed; the text says what the program did, to follow its name."""


class Command(NamedTuple):
    """A QMP command."""

    execute: str
    arguments: Mapping[str, object]


class Answers(NamedTuple):
    """The greeting, and for each command the whole of its success or error message."""

    greeting: Any
    replies: tuple[Mapping[str, Any], ...]


def converse(
    argv: Sequence[str], commands: Sequence[Command], *, deadline: float, user: User | None
) -> Answers:
    """Run ``argv``, whose standard input and output are QMP, put ``commands`` to it, and end it.

    ``deadline`` is on the clock of ``time.monotonic()``, in seconds. ``user`` is whom to run it
    as, or None for the caller; it gets no supplementary groups, an environment without anything of
    the caller's, no descriptor but its three pipes, and leaves no core.

    Raises QmpError if it cannot be started, ends, talks anything but QMP, says more than 32 MiB,
    or has not answered everything by the deadline. It is dead when this returns or raises.
    """
    import time

    started = time.monotonic()
    if started >= deadline:
        raise QmpError("was not asked: no time was left")
    process = _start(argv, user)
    try:
        _limit(process.pid, deadline - started)
        return _talk(process, commands, started, deadline)
    finally:
        _end(process)


def _start(argv: Sequence[str], user: User | None) -> subprocess.Popen[bytes]:
    import subprocess

    try:
        return subprocess.Popen(  # noqa: S603 - trusted_executable() has approved argv[0]
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            env=_ENVIRONMENT,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
    except (OSError, subprocess.SubprocessError) as error:
        who = f" as user {user.name}" if user else ""
        why = getattr(error, "strerror", None) or str(error)
        raise QmpError(f"cannot be started{who}: {why}") from error


def _limit(pid: int, seconds: float) -> None:
    """No core file, and no endless loop should the caller be killed; set from outside.

    Doing it between fork and exec would take ``preexec_fn``, which is slow and unsafe.
    """
    import resource

    cpu = int(min(seconds, 3600.0)) + 2
    try:
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        resource.prlimit(pid, resource.RLIMIT_CPU, (cpu, cpu))
    except (OSError, ValueError):
        return  # it has ended already, or a lower limit is in force


def _talk(
    process: subprocess.Popen[bytes], commands: Sequence[Command], started: float, deadline: float
) -> Answers:
    import json

    greeting: Any = None
    replies: dict[int, Mapping[str, Any]] = {}
    errors = bytearray()
    _send(process, commands)
    for line in _lines(process, errors, deadline):
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise QmpError(f"answers something that is not QMP: {_excerpt(line)!r}")
        if "QMP" in message:
            greeting = message["QMP"]
        elif message.get("id") in range(len(commands)):
            replies[message["id"]] = message
        elif "error" in message:
            raise QmpError(f"refuses to talk QMP: {_excerpt(line)!r}")
        if len(replies) == len(commands):
            return Answers(greeting, tuple(replies[i] for i in range(len(commands))))
    raise QmpError(_ended(process, errors))


def _send(process: subprocess.Popen[bytes], commands: Sequence[Command]) -> None:
    import json

    lines: list[dict[str, object]] = [{"execute": "qmp_capabilities"}]
    for number, command in enumerate(commands):
        lines.append({"id": number, **command._asdict()})
    _write(process, "\n".join(map(json.dumps, lines)).encode() + b"\n")


def _write(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    try:
        os.write(process.stdin.fileno(), data)
    except BrokenPipeError:
        return  # it has ended: its standard error will tell why


def _lines(process: subprocess.Popen[bytes], errors: bytearray, deadline: float) -> Iterator[bytes]:
    """Yield the complete lines of standard output, until it is closed; collect standard error."""
    pending = bytearray()
    total = 0
    for chunk in _chunks(process, errors, deadline):
        total += len(chunk)
        if total > _MAX_OUTPUT:
            raise QmpError(f"says more than {_MAX_OUTPUT >> 20} MiB")
        pending += chunk
        if b"\n" in chunk:
            *lines, pending = pending.split(b"\n")
            yield from (bytes(line) for line in lines if line.strip())


def _chunks(
    process: subprocess.Popen[bytes], errors: bytearray, deadline: float
) -> Iterator[bytes]:
    import selectors
    import time

    assert process.stdout is not None and process.stderr is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                chunk = os.read(key.fd, _CHUNK)
                if key.fileobj is process.stderr:
                    errors += chunk[: _MAX_STDERR - len(errors)]
                    if not chunk:
                        selector.unregister(process.stderr)
                elif chunk:
                    yield chunk
                else:
                    return
    raise QmpError(f"did not answer in time and was stopped{_said(errors)}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process, whatever it is at; it has nothing to lose. ``quit`` is for its children."""
    _write(process, _QUIT)
    process.kill()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    _wait(process)  # one that is stuck in the kernel dies when that lets go


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    """Exit status, None if it does not end in time; without Popen.wait()'s polling with sleeps."""
    import select

    if process.poll() is not None:
        return process.returncode
    descriptor = os.pidfd_open(process.pid)
    try:
        select.select([descriptor], [], [], _GRACE)
    finally:
        os.close(descriptor)
    return process.poll()


def _ended(process: subprocess.Popen[bytes], errors: bytearray) -> str:
    import signal

    status = _wait(process)
    _drain(process, errors)
    if status is None:
        return f"closed its output before it had answered{_said(errors)}"
    if status < 0:
        return f"was killed by {signal.Signals(-status).name} before it answered{_said(errors)}"
    return f"ended with exit status {status} before it answered{_said(errors)}"


def _drain(process: subprocess.Popen[bytes], errors: bytearray) -> None:
    """Take what is left in the pipe of standard error, without waiting for its other holders."""
    assert process.stderr is not None
    descriptor = process.stderr.fileno()
    os.set_blocking(descriptor, False)
    try:
        errors += os.read(descriptor, _MAX_STDERR)
    except BlockingIOError:
        return


def _said(errors: bytearray) -> str:
    lines = bytes(errors).strip().splitlines()
    return f", saying: {_excerpt(lines[0])}" if lines else ""


def _excerpt(line: bytes) -> str:
    """Text of a line that is fit for a message: short, and without control characters."""
    text = "".join(c if c.isprintable() else "?" for c in line.decode(errors="replace"))
    return text if len(text) <= 200 else f"{text[:200]}…"

"""An emulator that runs for a moment: started with nothing of the caller's, watched, ended.

    >>> with Emulator(argv, user=user, environment={}) as emulator:
    ...     emulator.send("qmp_capabilities")
    ...     wait(lambda: emulator.ended or emulator.replies, [emulator], deadline)

Several are watched by one :func:`wait`, which reads whatever any of them says, so that none blocks
on a full pipe. As in ``qemu.qmp``, an emulator stays in the caller's process group and is killed by
process id. Its limits are set by ``fakevfio.c``, among them how long it lives, in case the caller
itself is killed first.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from ..errors import PreflightError
from .executable import User

_CHUNK = 1 << 16
_MAX_STDERR = 64 << 10
_TICK = 0.05  # seconds between two looks at a condition that no pipe announces
_GRACE = 1.0  # seconds for what follows SIGKILL
_ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


class ProcessError(PreflightError):
    """An emulator that cannot be started, or talks something else than QMP."""


class Emulator:
    """One process, with QMP on its standard input and output; a context manager.

    ``replies`` holds the answers to the commands sent so far, in order, ``errors`` what it wrote on
    standard error. ``status`` is its exit status (negative: the signal) once it has ended.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        user: User | None,
        environment: Mapping[str, str],
        descriptors: Sequence[int] = (),
    ) -> None:
        self.replies: list[Mapping[str, Any]] = []
        self.errors = bytearray()
        self.status: int | None = None
        self._pending = b""
        self._process = _start(argv, user, environment, descriptors)

    def __enter__(self) -> Emulator:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def ended(self) -> bool:
        """Whether it has ended and everything it said has been read."""
        if self.status is None and not self.outputs():
            self.status = self._process.poll()
        return self.status is not None

    @property
    def pid(self) -> int:
        """Its process id, or that of the wrapper script that started it."""
        return self._process.pid

    @property
    def stderr(self) -> str:
        """What it wrote on standard error so far."""
        return self.errors.decode(errors="replace")

    def send(self, command: str, **arguments: object) -> None:
        """Send a QMP command; one that has ended meanwhile tells so itself."""
        assert self._process.stdin is not None
        line = json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
        try:
            self._process.stdin.write(line)
        except BrokenPipeError:
            return

    def ask(self, command: str, deadline: float, **arguments: object) -> Mapping[str, Any] | None:
        """Send a command and wait for its answer; None if there is none by ``deadline``."""
        number = len(self.replies)
        self.send(command, **arguments)
        wait(lambda: self.ended or len(self.replies) > number, [self], deadline)
        return self.replies[number] if len(self.replies) > number else None

    def cpu_seconds(self) -> float:
        """Processor time used so far; 0.0 of one that is gone."""
        try:
            with open(f"/proc/{self._process.pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """End it, whatever it is at; it has nothing to lose."""
        self.send("quit")  # to one that a wrapper script started and waits for
        self._process.kill()
        for pipe in self._pipes():
            pipe.close()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            return  # stuck in the kernel: it dies when that lets go

    # --- for wait() ---------------------------------------------------------------------------

    def outputs(self) -> list[int]:
        """Descriptors that have more to say."""
        pipes = (self._process.stdout, self._process.stderr)
        return [pipe.fileno() for pipe in pipes if pipe is not None and not pipe.closed]

    def read(self, descriptor: int) -> None:
        """Take what there is."""
        chunk = os.read(descriptor, _CHUNK)
        out, err = self._process.stdout, self._process.stderr
        assert out is not None and err is not None
        pipe = out if not out.closed and descriptor == out.fileno() else err
        if not chunk:
            pipe.close()
        elif pipe is err:
            self.errors += chunk[: _MAX_STDERR - len(self.errors)]
        else:
            self._parse(chunk)

    def _parse(self, chunk: bytes) -> None:
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        for line in lines:
            message = _message(line) if line.strip() else {}
            if "return" in message or "error" in message:
                self.replies.append(message)

    def _pipes(self) -> list[Any]:
        process = self._process
        return [pipe for pipe in (process.stdin, process.stdout, process.stderr) if pipe]


def wait(
    done: Callable[[], object], emulators: Sequence[Emulator], deadline: float, also: int = -1
) -> bool:
    """Read what the emulators say until ``done()`` or until ``deadline`` (``time.monotonic()``).

    ``also`` is one more descriptor whose becoming readable is worth a look at ``done()``. Returns
    whether ``done()`` came true.
    """
    while not done():
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        _pump(emulators, also, min(remaining, _TICK))
    return True


def _pump(emulators: Sequence[Emulator], also: int, seconds: float) -> None:
    with selectors.DefaultSelector() as selector:
        for emulator in emulators:
            for descriptor in emulator.outputs():
                selector.register(descriptor, selectors.EVENT_READ, emulator)
        if also >= 0:
            selector.register(also, selectors.EVENT_READ)
        for key, _ in selector.select(seconds):
            if key.data is not None:
                key.data.read(key.fd)


def signal_name(status: int) -> str:
    """``SIGSEGV`` for -11."""
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _start(
    argv: Sequence[str],
    user: User | None,
    environment: Mapping[str, str],
    descriptors: Sequence[int],
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 - trusted_executable() has approved argv[0]
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            env={**_ENVIRONMENT, **environment},
            pass_fds=descriptors,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
    except (OSError, subprocess.SubprocessError) as error:
        who = f" as user {user.name}" if user else ""
        why = getattr(error, "strerror", None) or str(error)
        raise ProcessError(f"{argv[0]} cannot be started{who}: {why}") from error


def _message(line: bytes) -> Mapping[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise ProcessError(f"answers something that is not QMP: {line[:200]!r}")
    return message

"""The QMP client: an emulator that runs for a moment, watched and ended.

    >>> with Emulator(argv, user=user) as emulator:
    ...     emulator.send("qmp_capabilities")
    ...     wait(lambda: emulator.ended or emulator.replies, [emulator], deadline)

Several emulators are watched by one :func:`wait`, which reads whatever any of them writes, so that
none blocks on a full pipe. A wrapper script that does not ``exec`` its emulator is ended with it.

Source: docs/interop/qmp-spec.rst of QEMU.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from ...errors import PreflightError
from ...osutil import program
from ...osutil.executable import User
from ...osutil.light import TYPE_CHECKING
from ...osutil.program import Limits, ProgramError
from ...osutil.text import printable

if TYPE_CHECKING:
    from typing import IO, Any

_CHUNK = 1 << 20
# The binary is named by the guest's XML: what is kept of its output has a bound.
_MAX_OUTPUT = 32 << 20  # bytes; query-machines of QEMU 10.0 takes half a megabyte
_MAX_STDERR = 64 << 10
_TICK = 0.05  # seconds between two looks at a condition that no pipe announces
_EXCERPT = 200  # characters of what an emulator wrote that go into an error


class ProcessError(PreflightError):
    """An emulator that cannot be started, or whose output is not QMP.

    The text continues a sentence that begins with the emulator's name.
    """


class Emulator:
    """One process, with QMP on its standard input and output; a context manager.

    ``greeting`` is what it announced itself with, ``replies`` the answers to the commands sent so
    far, in order (QMP answers in order unless out-of-band execution was negotiated), ``errors``
    what it wrote on standard error. ``status`` is its exit status (negative: the signal) once it
    has ended. ``cpu`` is the processor time that it may take, in seconds.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        user: User | None,
        environment: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
        cpu: int | None = None,
    ) -> None:
        self.greeting: Any = None
        self.replies: list[Mapping[str, Any]] = []
        self.errors = bytearray()
        self.status: int | None = None
        self._pending = b""
        self._received = 0
        try:
            self._program = program.start(
                argv, user, Limits(cpu=cpu), environment=environment, descriptors=descriptors
            )
        except ProgramError as error:
            raise ProcessError(str(error)) from error
        self._process = self._program.process

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
        """Whether it has ended and everything it wrote has been read."""
        # Both pipes at their end first: a status alone would leave unread why it ended.
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
        """Send a QMP command; one that has ended meanwhile ignores it."""
        self._write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")

    def send_all(self, commands: Sequence[tuple[str, Mapping[str, object]]]) -> None:
        """Send many commands at once, which saves a round trip for each but the first."""
        lines = (json.dumps({"execute": name, "arguments": args}) for name, args in commands)
        self._write("".join(f"{line}\n" for line in lines).encode())

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
                # proc_pid_stat(5): the name in field 2 may hold blanks and parentheses. utime and
                # stime are fields 14 and 15; what is left here begins with field 3.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """End it, whatever it is doing; it has nothing to lose."""
        program.end(self._program)

    @property
    def is_silent(self) -> bool:
        """Whether it has closed its standard output: no answer will follow.

        Standard error may stay open, in a child of the emulator's.
        """
        return self._pipes()[0].closed

    def failure(self) -> str:
        """Why it gave no answer, with the first line it wrote on standard error."""
        what = "did not answer in time and was stopped"
        if self.is_silent:
            # Its pipes are closed before it can be waited for.
            status = program.wait(self._program)
            self._drain()
            if status is None:
                what = "closed its output before it had answered"
            elif status < 0:
                what = f"was killed by {signal_name(status)} before it answered"
            else:
                what = f"ended with exit status {status} before it answered"
        lines = self.stderr.strip().splitlines()
        return f"{what} (stderr: {printable(lines[0], _EXCERPT)})" if lines else what

    def _drain(self) -> None:
        """Take what is left of standard error, without waiting for others that hold the pipe."""
        pipe = self._pipes()[1]
        if not pipe.closed:
            os.set_blocking(pipe.fileno(), False)
            try:
                self.errors += os.read(pipe.fileno(), _MAX_STDERR)
            except BlockingIOError:
                return

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
        except BrokenPipeError:
            return  # it has ended: its standard error says why

    # --- for wait() ---------------------------------------------------------------------------

    def outputs(self) -> list[int]:
        """Descriptors that may have more to read."""
        return [pipe.fileno() for pipe in self._pipes() if not pipe.closed]

    def read(self, descriptor: int) -> None:
        """Take what can be read. Raises :class:`ProcessError` for what is not QMP."""
        chunk = os.read(descriptor, _CHUNK)
        out, err = self._pipes()
        pipe = out if not out.closed and descriptor == out.fileno() else err
        if not chunk:
            pipe.close()
        elif pipe is err:
            # Read even if nothing is kept of it: a full pipe would block the emulator.
            self.errors += chunk[: _MAX_STDERR - len(self.errors)]
        else:
            self._parse(chunk)

    def _parse(self, chunk: bytes) -> None:
        self._received += len(chunk)
        if self._received > _MAX_OUTPUT:
            raise ProcessError(f"writes more than {_MAX_OUTPUT >> 20} MiB")
        # One long line must not be searched from its beginning with every chunk.
        if b"\n" not in chunk:
            self._pending += chunk
            return
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        for line in lines:
            message = _message(line) if line.strip() else {}
            if "QMP" in message:
                self.greeting = message["QMP"]
            # What has neither is an event, which answers no command.
            elif "return" in message or "error" in message:
                self.replies.append(message)

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        out, err = self._process.stdout, self._process.stderr
        assert out is not None and err is not None
        return out, err


def wait(
    done: Callable[[], object], emulators: Sequence[Emulator], deadline: float, also: int = -1
) -> bool:
    """Read what the emulators write until ``done()`` or until ``deadline`` (``time.monotonic()``).

    ``also`` is one more descriptor whose becoming readable is a reason to look at ``done()``.
    Returns whether ``done()`` came true. Raises :class:`ProcessError` as ``read`` does.
    """
    while not done():
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        _pump(emulators, also, min(remaining, _TICK))
    return True


def _pump(emulators: Sequence[Emulator], also: int, seconds: float) -> None:
    import selectors

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
    # Real-time signals have no names but the first and the last.
    except ValueError:
        return f"signal {-status}"


def _message(line: bytes) -> Mapping[str, Any]:
    try:
        message = json.loads(line)
    # Deep nesting makes json raise RecursionError.
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        excerpt = printable(line.decode(errors="replace"), _EXCERPT)
        raise ProcessError(f"answers something that is not QMP: {excerpt!r}")
    return message

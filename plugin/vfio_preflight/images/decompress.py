"""The first and the last part of a compressed save image's content.

Python's modules decompress gzip, bzip2 and xz; zstd and lzop need the programs of these names
in /usr/bin, as libvirt does it, but run as an unprivileged user, with limits on memory and CPU
time, and have ended when this module returns. However large the output is, no more than its last
32 MiB are kept.

Source: libvirt 11.3.0, ``qemuSaveImageGetCompressionCommand()``.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from ..errors import PreflightError
from ..osutil import program
from ..osutil.executable import ExecutableError, trusted_executable, unprivileged_user
from ..osutil.light import TYPE_CHECKING, NamedTuple
from ..osutil.program import Limits, Program, ProgramError
from .stream import MAX_SLACK

if TYPE_CHECKING:
    from typing import IO

KEPT = 32 << 20  # bytes at the end: all devices' sections and their description
HEAD = 512
_CHUNK = 1 << 20  # bytes unpacked at once
_INPUT = 64 << 10  # bytes read at once; what is left of them is copied for each stream in them
_MEMORY = 1 << 30  # bytes of address space for a program; zstd's largest default window is 128 MiB
_XZ_MEMORY = 256 << 20  # bytes; what ``xz -9`` needs to decompress is 65 MiB
_GRACE = 5.0  # seconds for a program to exit once it has written everything


class DecompressError(PreflightError):
    """Compressed data that is damaged, takes too long, or for which there is no program."""


class Ends(NamedTuple):
    """The first and last bytes of decompressed data; they overlap where it is small."""

    head: bytes
    tail: bytes


class _Decompressor(Protocol):
    """What ``bz2.BZ2Decompressor``, ``lzma.LZMADecompressor`` and ours of gzip have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def read_ends(file: IO[bytes], name: str, deadline: float, root: str = "/") -> Ends:
    """The ends of what ``file`` holds from where it stands, compressed in the way of ``name``.

    ``name`` is libvirt's: gzip, bzip2, xz, zstd, lzop. ``deadline`` is on the clock of
    ``time.monotonic()``, ``math.inf`` for none; programs are looked for below ``root``. Raises
    DecompressError.
    """
    if name not in _READERS:
        raise DecompressError(f"its format is {name!a}, for which nothing is known that reads it")
    head, tail = b"", bytearray()
    try:
        for chunk in _READERS[name](file, deadline, root):
            # Python's modules do not take a deadline, so it is checked after each step of 1 MiB.
            if time.monotonic() > deadline:
                raise DecompressError(f"decompressing it ({name}) took too long and was stopped")
            head += chunk[: HEAD - len(head)]
            tail += chunk
            # Trimmed only when twice the size is reached: each byte is then moved about once.
            if len(tail) > 2 * KEPT:
                del tail[:-KEPT]
    except (OSError, EOFError, ValueError, MemoryError) as error:
        raise DecompressError(f"its {name} data is damaged or cut short: {error}") from error
    return Ends(head, bytes(tail[-KEPT:]))


class _GzipMember:
    """``zlib`` with the interface of the others, of one member of a gzip file."""

    def __init__(self) -> None:
        import zlib

        # 16: zlib expects a gzip header and trailer (zlib manual, inflateInit2).
        self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._error = zlib.error

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        try:
            # The unconsumed rest must be given again: zlib's object does not keep it, bz2 and lzma
            # do.
            return self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)
        except self._error as error:
            raise ValueError(str(error)) from error


def _gzip(file: IO[bytes], _deadline: float, _root: str) -> Iterator[bytes]:
    return _streams(file, _GzipMember)


def _bzip2(file: IO[bytes], _deadline: float, _root: str) -> Iterator[bytes]:
    import bz2

    return _streams(file, bz2.BZ2Decompressor)


def _xz(file: IO[bytes], _deadline: float, _root: str) -> Iterator[bytes]:
    import lzma

    try:
        # A header can demand a dictionary of up to 4 GiB.
        yield from _streams(file, lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY))
    except lzma.LZMAError as error:
        raise ValueError(str(error)) from error


def _streams(file: IO[bytes], make: Callable[[], _Decompressor]) -> Iterator[bytes]:
    """One compressed stream after another, as their programs take them; zeros may follow.

    Yields after every step, if only nothing: there may be no end of input that unpacks to nothing,
    and it is between steps that the caller looks at the clock.
    """
    data = file.read(_INPUT)
    while data:
        # gzip, bzip2 and xz allow concatenated streams; pbzip2, for one, writes them.
        decompressor = make()
        while not decompressor.eof:
            if decompressor.needs_input and not data:
                data = file.read(_INPUT)
                if not data:
                    raise EOFError("it ends too early")
            yield decompressor.decompress(data, _CHUNK)
            # bz2 and lzma keep input they have not used; giving it twice would corrupt the output.
            data = b""
        data = _next_stream(decompressor.unused_data, file)


def _next_stream(data: bytes, file: IO[bytes]) -> bytes:
    """What follows behind zeros, which are no more than may follow an image at all."""
    slack = 0
    # Padding may follow a compressed image just as one that is not compressed.
    while not data.lstrip(b"\0"):
        slack += len(data)
        if slack > MAX_SLACK:
            raise ValueError(f"more than {MAX_SLACK} zeros follow it")
        data = file.read(_INPUT)
        if not data:
            break
    return data.lstrip(b"\0")


def _program(name: str, *arguments: str) -> Callable[[IO[bytes], float, str], Iterator[bytes]]:
    def run(file: IO[bytes], deadline: float, root: str) -> Iterator[bytes]:
        started = _start(name, arguments, file, root, deadline)
        try:
            yield from _output(started, name, deadline)
        # Also when the caller abandons the generator, so that no program survives it.
        finally:
            program.end(started)

    return run


_READERS = {
    "gzip": _gzip,
    "bzip2": _bzip2,
    "xz": _xz,
    "zstd": _program("zstd", "-dcq"),
    # libvirt passes --ignore-warn to lzop, too.
    "lzop": _program("lzop", "-dcq", "--ignore-warn"),
}


def _start(
    name: str, arguments: tuple[str, ...], file: IO[bytes], root: str, deadline: float
) -> Program:
    path = f"/usr/bin/{name}"
    # Checked separately to name the missing package rather than a failed stat().
    if not os.path.exists(os.path.join(root, path.lstrip("/"))):
        raise DecompressError(f"it is compressed with {name}, and this host has no {path}")
    try:
        # The path is libvirt's, but as root nothing is executed without this check.
        executable = trusted_executable(path, root)
        argv = (executable.realpath, *arguments)
        # A hostile image must not fill memory or disk by way of the decompressor.
        limits = Limits(cpu=_cpu_seconds(deadline), memory=_MEMORY, file_size=0)
        return program.start(argv, unprivileged_user(), limits, stdin=file)
    except (ExecutableError, ProgramError) as error:
        raise DecompressError(f"{name} cannot be run: {error}") from error


def _cpu_seconds(deadline: float) -> int | None:
    """Processor time for a program that has until ``deadline``, with some seconds to spare."""
    if deadline == math.inf:
        return None
    # Above the wall-clock limit: the deadline decides.
    return int(max(0.0, deadline - time.monotonic())) + 2


def _output(started: Program, name: str, deadline: float) -> Iterator[bytes]:
    """What the program writes; its error output is discarded, so that the pipe never fills up."""
    import select

    process = started.process
    assert process.stdout is not None and process.stderr is not None
    poll = select.poll()
    poll.register(process.stdout, select.POLLIN)
    poll.register(process.stderr, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        ready = poll.poll(None if left == math.inf else left * 1000) if left > 0 else []
        if not ready:
            raise DecompressError(f"{name} took too long to decompress it, and was stopped")
        if any(descriptor == process.stderr.fileno() for descriptor, _ in ready):
            # Unregistered at its end, or poll() would report it without end.
            if not os.read(process.stderr.fileno(), _CHUNK):
                poll.unregister(process.stderr)
            continue
        chunk = os.read(process.stdout.fileno(), _CHUNK)
        if not chunk:
            break
        yield chunk
    # The status is known only after the exit; a damaged image may still have produced output.
    status = program.wait(started, _GRACE)
    if status is None:
        raise DecompressError(f"{name} has written everything and does not exit; it was stopped")
    if status != 0:
        raise ValueError(f"{name} ended with status {status}")

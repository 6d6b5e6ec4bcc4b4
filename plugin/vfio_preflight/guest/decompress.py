"""The first and the last part of what a compressed save image holds.

gzip, bzip2 and xz are undone by Python's own modules; zstd and lzop by the programs of these names
in /usr/bin, as libvirt does it, but run as an unprivileged user, with limits on memory and CPU
time, and dead when this module returns. Whatever an image unpacks to, no more than its last 32 MiB
are kept.

Source: libvirt 11.3.0, ``qemuSaveImageGetCompressionCommand()``.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, NamedTuple, Protocol

from ..errors import PreflightError
from ..qemu.executable import EmulatorError, trusted_executable, unprivileged_user
from ..qemu.stream import MAX_SLACK

if TYPE_CHECKING:
    import subprocess

KEPT = 32 << 20  # bytes at the end: all devices' sections and their description
HEAD = 512
_CHUNK = 1 << 20  # bytes unpacked at once
_INPUT = 64 << 10  # bytes read at once; what is left of them is copied for each stream in them
_MEMORY = 1 << 30  # bytes of address space for a program; zstd's largest default window is 128 MiB
_XZ_MEMORY = 256 << 20  # bytes; what ``xz -9`` needs to decompress is 65 MiB
_GRACE = 5.0  # seconds for a killed program to be gone
_ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}


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
            if time.monotonic() > deadline:
                raise DecompressError(f"decompressing it ({name}) took too long and was stopped")
            head += chunk[: HEAD - len(head)]
            tail += chunk
            if len(tail) > 2 * KEPT:
                del tail[:-KEPT]
    except (OSError, EOFError, ValueError, MemoryError) as error:
        raise DecompressError(f"its {name} data is damaged or cut short: {error}") from error
    return Ends(head, bytes(tail[-KEPT:]))


class _GzipMember:
    """``zlib`` with the interface of the others, of one member of a gzip file."""

    def __init__(self) -> None:
        import zlib

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
        decompressor = make()
        while not decompressor.eof:
            if decompressor.needs_input and not data:
                data = file.read(_INPUT)
                if not data:
                    raise EOFError("it ends too early")
            yield decompressor.decompress(data, _CHUNK)
            data = b""
        data = _next_stream(decompressor.unused_data, file)


def _next_stream(data: bytes, file: IO[bytes]) -> bytes:
    """What follows behind zeros, which are no more than may follow an image at all."""
    slack = 0
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
        process = _start(name, arguments, file, root)
        try:
            _limit(process.pid, deadline)
            yield from _output(process, name, deadline)
        finally:
            _end(process)

    return run


_READERS = {
    "gzip": _gzip,
    "bzip2": _bzip2,
    "xz": _xz,
    "zstd": _program("zstd", "-dcq"),
    "lzop": _program("lzop", "-dcq", "--ignore-warn"),
}


def _start(
    name: str, arguments: tuple[str, ...], file: IO[bytes], root: str
) -> subprocess.Popen[bytes]:
    import subprocess

    path = f"/usr/bin/{name}"
    if not os.path.exists(os.path.join(root, path.lstrip("/"))):
        raise DecompressError(f"it is compressed with {name}, and this host has no {path}")
    try:
        program = trusted_executable(path, root)
        user = unprivileged_user()
    except EmulatorError as error:
        raise DecompressError(f"{name} cannot be run: {error}") from error
    return subprocess.Popen(  # noqa: S603 - a fixed path that only root can change
        [program.realpath, *arguments],
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        cwd="/",
        env=_ENVIRONMENT,
        user=user.uid if user else None,
        group=user.gid if user else None,
        extra_groups=[] if user else None,
    )


def _limit(pid: int, deadline: float) -> None:
    """Set from outside, as ``preexec_fn`` is slow and unsafe."""
    import resource

    limits = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_FSIZE, 0),
    ]
    if deadline < math.inf:
        limits.append((resource.RLIMIT_CPU, int(max(0.0, deadline - time.monotonic())) + 2))
    for limit, value in limits:
        try:
            resource.prlimit(pid, limit, (value, value))
        except (OSError, ValueError):
            return  # it has ended already, or a lower limit is in force


def _output(process: subprocess.Popen[bytes], name: str, deadline: float) -> Iterator[bytes]:
    import select
    import subprocess

    assert process.stdout is not None
    poll = select.poll()
    poll.register(process.stdout, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(None if left == math.inf else left * 1000):
            raise DecompressError(f"{name} took too long to decompress it, and was stopped")
        chunk = os.read(process.stdout.fileno(), _CHUNK)
        if not chunk:
            break
        yield chunk
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        raise DecompressError(f"{name} has said all and does not end; it was stopped") from None
    if process.returncode != 0:
        raise ValueError(f"{name} ended with status {process.returncode}")


def _end(process: subprocess.Popen[bytes]) -> None:
    import subprocess

    process.kill()
    if process.stdout is not None:
        process.stdout.close()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        return  # stuck in the kernel: it dies when that lets go

"""The audit log: a line of JSON for each event, appended for good by whichever process it concerns.

A file that is full is renamed to ``PATH.1``, the one before to ``PATH.2``, and so on. A lock makes
the look at the size, the renaming and the line one step, so that whoever finds ``PATH.1`` will find
nothing new in it any more, and no line is lost. It may be renamed by others as well, as every line
is written to what has the name then.

Nothing here decides about a guest: what cannot be written raises OSError, and the caller does not
wait for it (:mod:`vfio_preflight.hook.journal`).
"""

from __future__ import annotations

import errno
import os
import stat
import time

from ..osutil.locks import is_taken, lock_file

# Bytes of a file, and files that are kept beside the one that is written.
MAX_BYTES = 10 * 1024 * 1024
KEPT = 9
LOCK = "audit.lock"
_POLL = 0.001  # seconds
_READING = 1.0
# A link planted in its place is refused, and a FIFO not waited for.
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def stamped(event: str, took: tuple[float, float] | None = None) -> bytes:
    """The line of an event, a JSON object: with the time now, and how long its decision took.

    That is in seconds: of work, and until the hook's turn came.
    """
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    times = f',"seconds":{took[0]:.6f},"waited":{took[1]:.6f}' if took else ""
    # Put together by hand: no JSON module is loaded for it.
    return f'{{"time":"{stamp}.{int(now % 1 * 1e6):06d}Z",{event[1:-1]}{times}}}\n'.encode()


def append(path: str, line: bytes, locks: str, patience: float) -> None:
    """Append ``line``; ``locks`` is the directory of the lock. Raises OSError.

    Without the lock, after ``patience`` seconds, it is appended all the same; nothing is renamed.
    """
    lock = _lock(locks, patience)
    try:
        descriptor = _opened(path)
        problem = None
        if lock >= 0 and os.fstat(descriptor).st_size + len(line) > MAX_BYTES:
            descriptor, problem = _renamed(path, descriptor)
        try:
            _write(descriptor, line, path, alone=lock >= 0)
        finally:
            os.close(descriptor)
        if problem is not None:
            raise problem
    finally:
        if lock >= 0:
            os.close(lock)


def files(path: str, locks: str) -> list[int]:
    """Descriptors of the log's files, opened for reading, the newest first: ``path`` itself.

    All of one moment, between two lines. The caller closes them. What is no file of ours is left
    out.
    """
    lock = _lock(locks, _READING)
    found = []
    try:
        for name in (path, *(f"{path}.{number}" for number in range(1, KEPT + 1))):
            try:
                found.append(_checked(os.open(name, _FLAGS & ~os.O_RDWR), name))
            except OSError:
                continue
    finally:
        if lock >= 0:
            os.close(lock)
    return found


def _lock(directory: str, patience: float) -> int:
    """The lock, -1 where it cannot be had. Whoever has it works for a fraction of a millisecond."""
    try:
        lock = lock_file(directory, LOCK)
    except OSError:
        return -1
    end = time.monotonic() + patience
    while not is_taken(lock):
        if time.monotonic() >= end:
            os.close(lock)
            return -1
        time.sleep(_POLL)
    return lock


def _opened(path: str, flags: int = 0) -> int:
    try:
        return _checked(os.open(path, _FLAGS | os.O_CREAT | flags, 0o640), path)
    except FileNotFoundError:
        # Its own directory alone: what is above is not ours to make.
        os.mkdir(os.path.dirname(path), 0o750)
        return _checked(os.open(path, _FLAGS | os.O_CREAT | flags, 0o640), path)


def _checked(descriptor: int, path: str) -> int:
    info = os.fstat(descriptor)
    problem = 0 if stat.S_ISREG(info.st_mode) else errno.EINVAL
    # Metrics are made of it: what others may write is not ours.
    if info.st_uid not in (0, os.geteuid()) or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = errno.EPERM
    if problem:
        os.close(descriptor)
        raise OSError(problem, os.strerror(problem), path)
    return descriptor


def _renamed(path: str, descriptor: int) -> tuple[int, OSError | None]:
    """Make room: the descriptor of a new file; ``descriptor`` itself, and why, if it cannot be."""
    old = os.fstat(descriptor)
    try:
        for number in range(KEPT, 1, -1):
            if os.path.lexists(f"{path}.{number - 1}"):
                os.rename(f"{path}.{number - 1}", f"{path}.{number}")
        os.rename(path, f"{path}.1")
        new = _opened(path, os.O_EXCL)
    except OSError as error:
        return descriptor, error
    os.close(descriptor)
    try:
        # Whoever was let read the old one reads the new one.
        os.fchown(new, -1, old.st_gid)
        os.fchmod(new, stat.S_IMODE(old.st_mode) & 0o640)
    except OSError as error:
        return new, error
    return new, None


def _write(descriptor: int, line: bytes, path: str, *, alone: bool) -> None:
    size = os.fstat(descriptor).st_size
    # A crash or a full disk may have left a part of a line, which must not spoil this one.
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        line = b"\n" + line
    written = os.write(descriptor, line)
    if written < len(line):
        if alone:
            os.ftruncate(descriptor, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

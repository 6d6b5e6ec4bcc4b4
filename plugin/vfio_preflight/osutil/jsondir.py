"""A directory of small JSON files, in which a file that cannot be trusted counts as absent.

Safe with any number of processes: a file is written under a temporary name and renamed. Nothing is
read that a user other than root or the caller could have written. Nothing here ever raises for a
directory that is missing, damaged, full, read-only or not ours: it then counts as empty.
"""

from __future__ import annotations

import os
import stat
import time

from .light import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_MAX_BYTES = 1 << 20
_MAX_ENTRIES = 16
# Seconds that nobody takes to write a file.
_WRITING = 300
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_SUFFIX, _PARTIAL = ".json", ".tmp"


def load(directory: str, name: str) -> Any:  # noqa: ANN401 - it is JSON
    """Return the value stored under ``name``, or None."""
    import json

    try:
        return json.loads(_read(_path(directory, name), directory))
    # RecursionError: json raises it for deeply nested arrays.
    except (OSError, ValueError, RecursionError):
        return None


def store(directory: str, name: str, value: object, limit: int = _MAX_ENTRIES) -> bool:
    """Store ``value`` under ``name`` (no slash), and drop the oldest entries beyond ``limit``.

    Return whether it was stored.
    """
    import json

    # A random name: two processes that store the same entry must not write into one file.
    temporary = os.path.join(directory, f".{os.urandom(8).hex()}{_PARTIAL}")
    path = _path(directory, name)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        # An existing directory may belong to another user, who could replace files in it.
        _require_ours(os.stat(directory))
        try:
            _write(temporary, json.dumps(value, separators=(",", ":")).encode())
            # rename(2) is atomic: readers see the old file or the new one, never a part.
            os.replace(temporary, path)
        except BaseException:
            _remove(temporary)
            raise
        _prune(directory, limit, path)
    except OSError:
        return False
    return True


def names(directory: str) -> list[str]:
    """Return the names of all entries, sorted."""
    try:
        files = os.listdir(directory)
    except OSError:
        return []
    return sorted(name[: -len(_SUFFIX)] for name in files if name.endswith(_SUFFIX))


def used(directory: str, name: str) -> None:
    """Make the entry the newest, so that unused entries are dropped before it."""
    try:
        # A symbolic link planted here must not have the time of its target changed.
        os.utime(_path(directory, name), follow_symlinks=False)
    except OSError:
        return


def remove(directory: str, name: str) -> bool:
    """Remove an entry; return whether it was there."""
    return _remove(_path(directory, name))


def sweep(directory: str) -> None:
    """Remove what writers that were killed left behind, as :func:`store` does in its directory."""
    try:
        _require_ours(os.stat(directory))
        with os.scandir(directory) as files:
            _sweep([file.path for file in files if file.name.endswith(_PARTIAL)])
    except OSError:
        return


def _path(directory: str, name: str) -> str:
    return os.path.join(directory, name + _SUFFIX)


def _read(path: str, directory: str) -> bytes:
    _require_ours(os.stat(directory))
    # O_NOFOLLOW refuses a planted link; O_NONBLOCK keeps open() from waiting on a FIFO.
    descriptor = os.open(path, _READING)
    with open(descriptor, "rb", buffering=0) as file:
        info = os.fstat(descriptor)
        _require_ours(info)
        # The size is limited before reading; the content goes to the JSON parser as a whole.
        if not stat.S_ISREG(info.st_mode) or info.st_size > _MAX_BYTES:
            raise OSError("not a file of ours")
        return file.read(_MAX_BYTES)


def _write(path: str, content: bytes) -> None:
    # O_EXCL: never writes to an existing file, nor through a symbolic link.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)


def _require_ours(info: os.stat_result) -> None:
    if info.st_uid not in (0, os.geteuid()) or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("writable by other users")


def _prune(directory: str, limit: int, new: str) -> None:
    """Remove the oldest entries beyond the limit, and what writers that were killed left behind.

    Never ``new``, which looks like the oldest of all after the clock was set back.
    """
    paths = [os.path.join(directory, name) for name in os.listdir(directory)]
    # Oldest first; used() sets the time, so this is an LRU order.
    entries = sorted((p for p in paths if p.endswith(_SUFFIX) and p != new), key=_mtime)
    for path in entries[: max(0, len(entries) + 1 - limit)]:
        _remove(path)
    _sweep([path for path in paths if path.endswith(_PARTIAL)])


def _sweep(leftovers: list[str]) -> None:
    # The clock may have been set meanwhile: what is of the future is none of today's either.
    for path in leftovers:
        if abs(time.time() - _mtime(path)) > _WRITING:
            _remove(path)


def _mtime(path: str) -> float:
    try:
        # Another process may have removed the file since listdir().
        return os.lstat(path).st_mtime
    except OSError:
        return 0.0


def _remove(path: str) -> bool:
    try:
        os.unlink(path)
    except OSError:
        return False
    return True

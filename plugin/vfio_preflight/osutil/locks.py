"""Locks between processes: files that hold nothing, locked with flock(2).

The kernel frees a lock with its holder, so nothing is left locked by a process that was killed. The
files stay where they are: removing one while somebody waits for it would make two locks of it.
"""

from __future__ import annotations

import fcntl
import os
import stat


def lock_file(directory: str, name: str) -> int:
    """A descriptor of the lock ``name`` in ``directory``, both made if need be.

    Raises OSError where that is not possible, or where another user could hold the lock: whoever
    can open its file could have everybody wait.
    """
    os.makedirs(directory, mode=0o700, exist_ok=True)
    _require_ours(os.stat(directory))
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(os.path.join(directory, name), flags, 0o600)
    try:
        info = os.fstat(descriptor)
        _require_ours(info)
        if not stat.S_ISREG(info.st_mode) or info.st_mode & 0o077:
            raise PermissionError(f"{name} in {directory} is no lock of ours")
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def is_taken(descriptor: int) -> bool:
    """Take the lock if it is free, and return whether it is held now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _require_ours(info: os.stat_result) -> None:
    if info.st_uid not in (0, os.geteuid()) or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("writable by other users")

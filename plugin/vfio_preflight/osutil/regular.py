"""How the hook reads every file: at once, a regular one alone, and never more than was asked for.

To open a FIFO without a writer would block, and so may a device. A file that is not the operator's
is not believed: whoever can write to it, to a directory on the way to it, or to where a symbolic
link on that way stands, could have put something else there.
"""

from __future__ import annotations

import errno
import os
import stat

from .light import TYPE_CHECKING

if TYPE_CHECKING:
    from io import FileIO

_CHUNK = 1 << 16  # /proc/sys refuses to be read by more than 4 MiB at a time (ENOMEM)
_MAX_LINKS = 40  # as Linux has it (MAXSYMLINKS)


def open_regular(path: str) -> FileIO:
    """A regular file, opened for reading, unbuffered. Raises OSError, also for any other kind."""
    file = open(path, "rb", buffering=0, opener=_at_once)  # noqa: SIM115 - it is returned
    # fstat() on the open descriptor: a stat() by path could see another file than open() did.
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return file


def read_start(path: str, size: int) -> bytes:
    """The first ``size`` bytes of a regular file, or all that it has. Raises OSError."""
    data = bytearray()
    with open_regular(path) as file:
        # sysfs and /proc give less than was asked for, and a file's size says nothing there.
        while len(data) < size:
            part = file.read(min(size - len(data), _CHUNK))
            if not part:
                break
            data += part
    return bytes(data)


def read_regular(path: str, limit: int = 1 << 20) -> bytes:
    """A regular file of ``limit`` bytes at most. Raises OSError, also for a larger one."""
    data = read_start(path, limit + 1)
    # Not the first part of it, which would mean something else than the whole.
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has over {limit} bytes", path)
    return data


def whose(path: str) -> str:
    """Why the file at ``path`` may be another's than root's or the caller's; empty if it is not.

    It, its directory, every directory above, and every symbolic link on the way must belong to root
    or the caller; the file and its directory must not be writable by group or others, the others
    only with the sticky bit, which keeps what is root's from being replaced. Raises OSError where
    that cannot be found out.
    """
    links = 0
    # The directory that somebody is in may be gone.
    here, left = "/", _parts(path if path.startswith("/") else os.path.join(os.getcwd(), path))
    while left:
        part = left.pop(0)
        # What stands in "here" has no link in it any more, so that this is its parent.
        here = os.path.dirname(here) if part == ".." else os.path.join(here, part)
        info = os.lstat(here)
        if info.st_uid not in (0, os.geteuid()):
            return f"{here} belongs to user {info.st_uid}"
        if stat.S_ISLNK(info.st_mode):
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink(here)
            here = "/" if target.startswith("/") else os.path.dirname(here)
            left = [*_parts(target), *left]
        # The last two: the file, and the directory in which names may come to be that were not.
        elif _is_open(info, sticky=len(left) > 1):
            return f"{here} is writable by users other than root"
    return ""


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _is_open(info: os.stat_result, *, sticky: bool) -> bool:
    """Whether others than the owner may write; ``sticky`` is whether they may with that bit."""
    if sticky and stat.S_ISDIR(info.st_mode) and info.st_mode & stat.S_ISVTX:
        return False
    return bool(info.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _at_once(path: str, flags: int) -> int:
    # O_NONBLOCK: open() of a FIFO returns at once. O_NOCTTY: a terminal does not become ours.
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)

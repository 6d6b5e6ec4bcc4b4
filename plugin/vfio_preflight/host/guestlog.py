"""QEMU's log of a guest, ``/var/log/libvirt/qemu/NAME.log``: what was written since a moment.

All attempts to start a guest append to one file. A :class:`Mark` remembers where it ended; what
stands behind that is the next attempt's. The file may have been rotated since: virtlogd renames it
to ``NAME.log.0`` and begins a new one, logrotate as libvirt ships it copies and truncates it.

Source: libvirt, ``src/logging/log_handler.c``, ``src/util/virrotatingfile.c``,
``src/remote/libvirtd.qemu.logrotate.in``.
"""

from __future__ import annotations

import os

from ..osutil.light import NamedTuple
from ..osutil.regular import open_regular

LOGS = "var/log/libvirt/qemu"
# What a failed attempt writes is its command line and some messages: kilobytes.
MAX_TEXT = 1 << 20
# Bytes before a mark that have to be the same for the log to be the same.
_TAIL = 64
# Names of a rotated log that are looked at, virtlogd's and logrotate's.
_ROTATED = (".0", ".1")


class Mark(NamedTuple):
    """Where a log ended: inode, size, and the last bytes in hexadecimal.

    Empty for a log that did not exist yet. The bytes show that a log was truncated that has grown
    beyond its size again: every attempt's lines have their time.
    """

    inode: int = 0
    size: int = 0
    tail: str = ""


class Written(NamedTuple):
    """What was written since a mark.

    ``whole`` is whether nothing of it is missing; ``problem`` is why there is no text.
    """

    text: str
    whole: bool
    problem: str = ""


def mark(guest: str, root: str = "/") -> Mark:
    """Where the guest's log ends now."""
    try:
        with open_regular(_path(guest, root)) as file:
            info = os.fstat(file.fileno())
            return Mark(info.st_ino, info.st_size, _tail(file.fileno(), info.st_size))
    except OSError:
        # libvirt creates it when it starts the guest; a directory that cannot be read now cannot
        # be read later either.
        return Mark()


def since(guest: str, mark: Mark, root: str = "/") -> Written:
    """What was written to the guest's log since ``mark``; of much of it the end."""
    path = _path(guest, root)
    try:
        parts, whole = _parts(path, mark)
    except OSError as error:
        return Written("", False, f"{path} cannot be read: {error.strerror or error}")
    data = b"".join(parts)
    cut = len(data) > MAX_TEXT
    return Written(data[-MAX_TEXT:].decode("utf-8", "replace"), whole and not cut)


def _parts(path: str, mark: Mark) -> tuple[list[bytes], bool]:
    """The bytes behind the mark, in the order of writing, and whether that is all of them."""
    inode, is_continued, data = _read(path, mark)
    if inode == mark.inode:
        # Truncated, by logrotate's copytruncate: what was cut off went into a compressed copy.
        return [data], is_continued
    if not mark.inode:
        return [data], True
    for suffix in _ROTATED:
        try:
            inode, is_continued, older = _read(path + suffix, mark)
        except OSError:
            continue
        if inode == mark.inode:
            return [older, data], is_continued
    return [data], False


def _read(path: str, mark: Mark) -> tuple[int, bool, bytes]:
    """A log's inode, whether it goes on from the mark, and what it has: from there, or all."""
    with open_regular(path) as file:
        info = os.fstat(file.fileno())
        is_continued = (
            info.st_ino == mark.inode
            and info.st_size >= mark.size
            and _tail(file.fileno(), mark.size) == mark.tail
        )
        # One byte more than is kept shows that something was cut off.
        file.seek(max(mark.size if is_continued else 0, info.st_size - MAX_TEXT - 1))
        return info.st_ino, is_continued, file.read(MAX_TEXT + 1)


def _tail(descriptor: int, size: int) -> str:
    begin = max(0, size - _TAIL)
    return os.pread(descriptor, size - begin, begin).hex()


def _path(guest: str, root: str) -> str:
    # libvirt has no guest with a slash in its name; a hook's argument might.
    return os.path.join(root, LOGS, f"{guest.replace('/', '_')}.log")

"""QEMU's log of a guest, ``/var/log/libvirt/qemu/NAME.log``: what was written since a moment.

All attempts to start a guest append to one file. A :class:`Mark` remembers where it ended; what
stands behind that is the next attempt's. The file may have been rotated since: virtlogd renames it
to ``NAME.log.0`` and begins a new one, logrotate as libvirt ships it copies and truncates it.

Source: libvirt, ``src/logging/log_handler.c``, ``src/util/virrotatingfile.c``,
``src/remote/libvirtd.qemu.logrotate.in``.
"""

from __future__ import annotations

import os
import stat

from ..osutil.light import NamedTuple

LOGS = "var/log/libvirt/qemu"
# What a failed attempt writes is its command line and some messages: kilobytes.
MAX_TEXT = 1 << 20
# Names of a rotated log that are looked at, virtlogd's and logrotate's.
_ROTATED = (".0", ".1")


class Mark(NamedTuple):
    """Where a log ended: inode and size; both 0 for a log that did not exist yet."""

    inode: int = 0
    size: int = 0


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
        info = os.stat(_path(guest, root))
    except OSError:
        # libvirt creates it when it starts the guest; a directory that cannot be read now cannot
        # be read later either.
        return Mark()
    return Mark(info.st_ino, info.st_size)


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
    inode, size, data = _read(path, mark)
    if inode == mark.inode:
        # Truncated, by logrotate's copytruncate: what was cut off went into a compressed copy.
        return [data], size >= mark.size
    if not mark.inode:
        return [data], True
    for suffix in _ROTATED:
        try:
            inode, size, older = _read(path + suffix, mark)
        except OSError:
            continue
        if inode == mark.inode:
            return [older, data], size >= mark.size
    return [data], False


def _read(path: str, mark: Mark) -> tuple[int, int, bytes]:
    """Inode and size of a log, and what stands in it: behind the mark, if it is the mark's."""
    # O_NONBLOCK: open() of a FIFO returns at once.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    with open(descriptor, "rb", buffering=0) as file:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise OSError("not a regular file")
        is_same = info.st_ino == mark.inode and info.st_size >= mark.size
        begin = max(mark.size if is_same else 0, info.st_size - MAX_TEXT - 1)
        file.seek(begin)
        # One byte more than is kept shows that something was cut off.
        return info.st_ino, info.st_size, file.read(MAX_TEXT + 1)


def _path(guest: str, root: str) -> str:
    # libvirt has no guest with a slash in its name; a hook's argument might.
    return os.path.join(root, LOGS, f"{guest.replace('/', '_')}.log")

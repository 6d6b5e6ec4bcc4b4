"""The program of a running process whose file was replaced since, as by a package's upgrade.

    >>> with replaced_executable(pid) as program:
    ...     start([program.executable.realpath, …], descriptors=[program.descriptor])

The kernel keeps the file for as long as something runs it; it is run by its descriptor.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from .executable import Executable, ExecutableError
from .light import NamedTuple


class Replaced(NamedTuple):
    """``executable`` has a path that leads to ``descriptor``, in a process that inherits that."""

    executable: Executable
    descriptor: int


@contextmanager
def replaced_executable(pid: int, root: str = "/") -> Iterator[Replaced]:
    """The program that process ``pid`` runs.

    Raises ExecutableError if it cannot be had, or is not one that only root could have changed.
    """
    path = os.path.join(root, "proc", str(pid), "exe")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ExecutableError(f"{path}: {error.strerror}") from error
    try:
        info = os.fstat(descriptor)
        loose = info.st_mode & (stat.S_IWGRP | stat.S_IWOTH | stat.S_ISUID | stat.S_ISGID)
        # By its own owner and mode: it has no directory any more that somebody could own.
        if not stat.S_ISREG(info.st_mode) or info.st_uid not in (0, os.geteuid()) or loose:
            raise ExecutableError(f"{path}: not a program that only root can have changed")
        there = f"/proc/self/fd/{descriptor}"
        identity = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
        yield Replaced(Executable(path, there, identity, script=False), descriptor)
    finally:
        os.close(descriptor)

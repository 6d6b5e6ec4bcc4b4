"""Reading regular files only: opening a FIFO without a writer would block."""

from __future__ import annotations

import os
import stat


def read_regular(path: str, limit: int = 1 << 20) -> bytes:
    """The first ``limit`` bytes of a regular file. Raises OSError, also for any other kind."""
    with open(path, "rb", opener=_at_once) as file:
        # fstat() on the open descriptor: a stat() by path could see another file than open() did.
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is not a regular file")
        return file.read(limit)


def _at_once(path: str, flags: int) -> int:
    # O_NONBLOCK: open() of a FIFO returns at once. O_NOCTTY: a terminal does not become ours.
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)

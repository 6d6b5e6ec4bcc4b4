"""Reading a file without waiting for it, as a FIFO that nobody writes would have its readers do."""

from __future__ import annotations

import os
import stat


def read_regular(path: str, limit: int = 1 << 20) -> bytes:
    """The first ``limit`` bytes of a regular file. Raises OSError, also for any other kind."""
    with open(path, "rb", opener=_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is not a regular file")
        return file.read(limit)


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)

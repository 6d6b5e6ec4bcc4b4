"""Tests of what must end: how long they wait is no measure of speed, only of a hang."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Seconds that no machine needs, however busy, for what takes milliseconds; a hang takes longer.
PATIENCE = 30.0


@contextmanager
def ends(seconds: float = PATIENCE) -> Iterator[None]:
    """Fail if the body takes ``seconds`` or more."""
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < seconds, "it should have ended long ago"


def appears(path: Path) -> bool:
    """Whether a file that another process writes comes to be there."""
    end = time.monotonic() + PATIENCE
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.01)
    return path.exists()


def is_alive(pid: int) -> bool:
    """Whether a process has neither ended nor is a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"

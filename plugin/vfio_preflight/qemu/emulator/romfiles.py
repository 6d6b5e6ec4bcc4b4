"""The option ROMs among a host's files, which other packages than QEMU's bring and renew."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from .roms import ROMS

_NAMES = sorted(set(ROMS.values()))


def sizes(directories: Sequence[str]) -> list[list[int]]:
    """The size in bytes of each option ROM in each directory, -1 where there is none."""
    return [[_size(os.path.join(directory, name)) for name in _NAMES] for directory in directories]


def found_in(directories: Sequence[str]) -> dict[str, int]:
    """The size in bytes of each option ROM, of the first directory that has it.

    Source: ``qemu_find_file()``, system/datadir.c.
    """
    found: dict[str, int] = {}
    for own in sizes(directories):
        for name, size in zip(_NAMES, own):
            if size > 0:
                found.setdefault(name, size)
    return found


def _size(path: str) -> int:
    try:
        info = os.stat(path)
    except (OSError, ValueError):
        return -1
    return info.st_size if stat.S_ISREG(info.st_mode) else -1

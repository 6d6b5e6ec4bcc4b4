"""What a hook that was killed could not remove, and the next one does, once nobody waits for it.

Only the directories of temporary files: what lies in the runtime directory is swept by those who
write there (``refusals``, ``osutil.jsondir``).
"""

from __future__ import annotations

import os
import stat
import time

from .supervise import SCRATCH

# Seconds; no check takes longer than 600 (configuration).
AGE = 3600
_HEX = set("0123456789abcdef")


def sweep(place: str) -> None:
    """Remove the caller's own old directories of temporary files in ``place``."""
    now = time.time()
    try:
        names = [name for name in os.listdir(place) if name.startswith(SCRATCH)]
    except OSError:
        return
    for name in names:
        if not set(name[len(SCRATCH) :]) <= _HEX or len(name) != len(SCRATCH) + 16:
            continue
        path = os.path.join(place, name)
        try:
            info = os.lstat(path)
        except OSError:
            continue
        # The clock may have been set meanwhile: what is of the future is none of today's either.
        is_old = abs(now - info.st_mtime) > AGE
        if is_old and stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid():
            import shutil

            # It follows no link, and others cannot replace what is ours in a sticky /tmp.
            shutil.rmtree(path, ignore_errors=True)

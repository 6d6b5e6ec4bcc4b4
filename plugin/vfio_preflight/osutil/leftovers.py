"""What processes of ours that were killed have left behind, removed by those that come later.

Only what is ours by name and owner, and older than any process of ours gets.
"""

from __future__ import annotations

import os
import stat
import time
from itertools import islice

SCRATCH = "vfio-preflight-"
"""How the names of all directories for temporary files begin."""

# Seconds; a hook lives for some minutes at most, whatever is configured.
AGE = 3600.0
# Entries of a directory that are looked at in one call.
_MOST = 1000


def place() -> str:
    """The directory in which directories for temporary files are made."""
    path = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - names that nobody can guess follow
    above, name = os.path.split(path)
    # In the hook's child TMPDIR is such a directory itself.
    return above if name.startswith(SCRATCH) else path


def sweep(directory: str = "", prefix: str = SCRATCH, age: float = AGE) -> None:
    """Remove files and directories in ``directory``, by default :func:`place`, with such a name.

    They must be the caller's own, and untouched for ``age`` seconds. Raises nothing.
    """
    directory = directory or place()
    try:
        with os.scandir(directory) as entries:
            names = [e.name for e in islice(entries, _MOST) if e.name.startswith(prefix)]
    except OSError:
        return
    for name in names:
        _remove(os.path.join(directory, name), age)


def _remove(path: str, age: float) -> None:
    try:
        info = os.lstat(path)
        # Of a directory the time tells when something was last made in it.
        if info.st_uid != os.geteuid() or time.time() - info.st_mtime < age:
            return
        if stat.S_ISREG(info.st_mode):
            os.unlink(path)
        elif stat.S_ISDIR(info.st_mode):
            import shutil

            # It follows no symbolic link, whoever put one there meanwhile.
            shutil.rmtree(path, ignore_errors=True)
    except OSError:
        return

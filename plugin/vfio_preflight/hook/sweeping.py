"""What processes of ours that were killed have left in our directories, removed by a later one.

A file that is half written is believed by nobody, and goes when its directory is next written to.
That may be never: an emulator's answer is kept once, an entry of the catalogue seldom changes. So
every hook looks, when it has answered and nobody waits for it.
"""

from __future__ import annotations

import os

from ..configuration import Configuration
from ..host import captures
from ..host.history import SUBDIRECTORIES
from ..osutil import jsondir
from ..qemu.emulator.typefacts import SUBDIRECTORY
from . import attempt, expected, refusals


def sweep(settings: Configuration) -> None:
    """Remove what is older than any process of ours takes to write it. Raises nothing."""
    kept = (settings.cache, os.path.join(settings.cache, SUBDIRECTORY), settings.catalogue)
    learned = (os.path.join(settings.history, name) for name in SUBDIRECTORIES)
    kinds = (attempt.KIND, expected.KIND, captures.KIND)
    passed = (os.path.join(settings.runtime, kind) for kind in kinds)
    for directory in (*kept, *learned, *passed):
        jsondir.sweep(directory)
    refusals.sweep(settings.runtime)

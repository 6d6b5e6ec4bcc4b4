"""``watch`` keeps emulators' answers at hand: at its start, and when a package has replaced one.

Then, too, it has the twins of guests tried that the old file still runs (``cli.succession``).
"""

from __future__ import annotations

from collections.abc import Callable

from ..configuration import Configuration
from ..gather.warming import Warmed, warm
from ..hook.sweeping import sweep as sweep_state
from ..osutil.leftovers import sweep
from .connection import Library
from .succession import Succession

# Milliseconds between two looks at emulators' files.
EVERY = 60_000


class Warmth:
    """On the event loop of ``watch``; ``tell`` is given what an operator should know."""

    def __init__(
        self, libvirt: Library, uri: str, settings: Configuration, tell: Callable[[str], object]
    ) -> None:
        self._libvirt, self._settings, self._tell = libvirt, settings, tell
        self._succession = Succession(libvirt, uri, settings, tell)
        self._before: Warmed | None = None
        # At once, but from the event loop: guests that start meanwhile are seen all the same.
        self._timer = libvirt.virEventAddTimeout(1, self.look, None)

    def look(self, timer: int, _opaque: object = None) -> None:
        """Ask what has changed, and come back later."""
        before, self._before = self._before, warm(self._settings, self._before)
        if before is None or before.identities != self._before.identities:
            self._succession.begin()
        for problem in self._before.problems:
            self._tell(f"nothing was learned of an emulator: {problem}")
        sweep()
        sweep_state(self._settings)
        self._libvirt.virEventUpdateTimeout(timer, EVERY)

"""``watch`` writes the metrics, and shows by them that it is at work."""

from __future__ import annotations

from collections.abc import Callable

from ..configuration import Configuration
from ..errors import PreflightError
from .connection import Library
from .export import export, is_wanted, passed

# Milliseconds from one time to the next: no longer than Prometheus usually takes.
EVERY = 15_000


class Metering:
    """On the event loop of ``watch``; ``tell`` is given what an operator should know.

    ``is_connected`` is whether ``watch`` could see a guest start now. While it cannot, or does not
    come back to its event loop, the time of its last pass stays what it is.
    """

    def __init__(
        self,
        libvirt: Library,
        settings: Configuration,
        is_connected: Callable[[], bool],
        tell: Callable[[str], object],
    ) -> None:
        self._libvirt, self._settings = libvirt, settings
        self._is_connected, self._tell = is_connected, tell
        self._problem = ""
        self._timer = libvirt.virEventAddTimeout(1, self.look, None)

    def look(self, timer: int, _opaque: object = None) -> None:
        """Write them, and come back later. Nothing that goes wrong ends the service."""
        problem = ""
        try:
            if is_wanted(self._settings):
                if self._is_connected():
                    passed(self._settings)
                export(self._settings)
        except (PreflightError, OSError) as error:
            problem = str(error)
        # Once for each problem, not four times a minute.
        if problem and problem != self._problem:
            self._tell(f"no metrics are written: {problem}")
        self._problem = problem
        self._libvirt.virEventUpdateTimeout(timer, EVERY)

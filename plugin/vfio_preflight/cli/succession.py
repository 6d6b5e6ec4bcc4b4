"""``watch`` has guests' twins tried when a package has replaced the emulator that runs them.

Such a guest runs on with the old file. Whether the new one takes it is what will count when it is
saved and restored here, or moves to a host that was upgraded alike. What comes of it is kept for
the hook (``host.twins``), which finds it at a restore of the guest; a refusal is told at once.

One guest at a time on the event loop of ``watch``: each takes some half a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from ..configuration import Configuration
from ..errors import PreflightError
from ..guest.xml import parse_domain
from ..judge.verdicts import FAIL
from ..osutil.light import TYPE_CHECKING
from .connection import Connection, Domain, Library, connected

if TYPE_CHECKING:
    from ..qemu.twin.told import Told

WHY = (
    "its QEMU was replaced since it started; saved and restored here, or moved to a host that was"
    " upgraded alike"
)
# Milliseconds between two guests, in which other events have their turn.
PAUSE = 500
# Seconds for a half.
WITHIN = 10.0


class Succession:
    """On the event loop of ``watch``; ``tell`` is given what an operator should know."""

    def __init__(
        self, libvirt: Library, uri: str, settings: Configuration, tell: Callable[[str], object]
    ) -> None:
        self._libvirt, self._uri, self._settings, self._tell = libvirt, uri, settings, tell
        self._waiting: list[str] = []
        self._timer = libvirt.virEventAddTimeout(-1, self._next, None)

    def begin(self) -> None:
        """Look for guests whose emulator was replaced, and have their twins tried one by one."""
        try:
            with connected(self._uri) as connection:
                self._waiting = list(_replaced(self._libvirt, connection))
        # libvirt is down: the guests are looked at when an emulator changes again, or at a start.
        except (PreflightError, self._libvirt.libvirtError):
            return
        self._rest()

    def _next(self, _timer: int, _opaque: object = None) -> None:
        if self._waiting:
            self._try(self._waiting.pop(0))
        self._rest()

    def _rest(self) -> None:
        self._libvirt.virEventUpdateTimeout(self._timer, PAUSE if self._waiting else -1)

    def _try(self, uuid: str) -> None:
        from ..judge.checks.twin import check_twin

        try:
            with connected(self._uri) as connection:
                domain = connection.lookupByUUIDString(uuid)
                told = _tried(self._libvirt, domain, self._settings)
        # The guest has ended, or is not to be tried: nothing will be known of it.
        except (PreflightError, OSError, self._libvirt.libvirtError):
            return
        for finding in check_twin(told):
            if finding.verdict == FAIL:
                self._tell(f"{domain.name()}: {WHY}: {finding.text}")


def _replaced(libvirt: Library, connection: Connection) -> Iterator[str]:
    from ..host.processes import find_process

    for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        process = find_process(domain.name(), domain.UUIDString())
        # Its path is empty where the file is gone.
        if process is not None and not process.executable:
            yield domain.UUIDString()


def _tried(libvirt: Library, domain: Domain, settings: Configuration) -> Told:
    from ..gather.twins import load_here, save_running
    from ..qemu.twin.told import Told

    live = parse_domain(domain.XMLDesc().encode())
    migratable = parse_domain(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE).encode())
    made = save_running(live, migratable, time.monotonic() + WITHIN)
    if isinstance(made, Told):
        return made
    return load_here(made, settings, time.monotonic() + WITHIN)

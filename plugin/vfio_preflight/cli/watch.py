"""``watch``: the service that keeps the records of all running guests up to date.

Events only say which guest to look at; what has to be done follows from its state (``recorder``).
So a superfluous event does no harm, and what was missed while the service or libvirtd was down is
done on connecting: callbacks first, then every running guest.

One thread does everything, from libvirt's event loop, which sleeps in poll(2) between events. Calls
to libvirt can take long, so the end does not wait for them: SIGTERM and SIGINT reach a thread that
ends the process. There is nothing to clean up.
"""

from __future__ import annotations

import os
import time
import traceback
from argparse import Namespace, _SubParsersAction
from collections.abc import Collection

from ..configuration import Configuration, load
from ..errors import PreflightError
from ..gather.recorder import DROPPED, KEPT, MISSING, RECORDED, Entry
from ..osutil.light import NamedTuple
from ..osutil.text import printable
from . import arrivals
from .connection import (
    LOCAL,
    BusyError,
    Connection,
    Domain,
    GoneError,
    Library,
    library,
    require_local,
)
from .ending import end_on_signals
from .metering import Metering
from .record import record
from .warmth import Warmth

# Seconds between attempts: to connect, and to store a record while libvirt is busy with the guest.
FIRST_DELAY, LAST_DELAY = 0.25, 15.0
# More attempts, at the same delays, if something else was in the way: some 8 seconds in all.
RETRIES = 5
# A libvirtd that hangs is noticed after 5 * (3 + 1) seconds.
KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 5, 3

INFO, WARNING = 6, 4
MIGRATING, RESTORED, REVERTED = "migrating in", "restored", "reverted to a snapshot"
FOUND, RESUMED = "found running", "resumed"
# Occasions on which an entry that stays as it is gets a line too: the guest came from elsewhere,
# or an earlier run, or one whose connection broke, may have stored it without coming to say so.
ARRIVALS = (MIGRATING, RESTORED, REVERTED, FOUND)


class Visit(NamedTuple):
    """A guest to look at, not before ``due`` (``time.monotonic()``); ``added`` as in ``record``.

    ``failures`` counts the attempts that failed, beyond those that found libvirt busy; ``reported``
    are the devices for which one of them wrote a line.
    """

    domain: Domain
    why: str
    added: frozenset[str] = frozenset()
    due: float = 0.0
    delay: float = FIRST_DELAY
    failures: int = 0
    reported: frozenset[str] = frozenset()

    @property
    def then(self) -> str:
        """The text on what happens next if this attempt fails."""
        if self.failures < RETRIES:
            return "trying again"
        return f"given up; later, run: vfio-preflight record {self.domain.name()}"

    @property
    def is_to_tell(self) -> bool:
        """Whether to log that this attempt failed: only the first and the last failure are."""
        return self.failures in (0, RETRIES)


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare the command."""
    parser = commands.add_parser(
        "watch",
        help="service: record every guest as it starts",
        description="Keeps the records of all guests that run on this host: see 'record'. Runs"
        " until SIGTERM or SIGINT.",
    )
    parser.add_argument("--connect", metavar="URI", default=LOCAL, help=f"libvirt URI ({LOCAL})")
    parser.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Carry the command out; it returns only if it cannot begin."""
    require_local(options.connect)
    libvirt, settings = library(), load()
    watch = Watch(libvirt, options.connect, settings)
    Warmth(libvirt, options.connect, settings, lambda line: say(line, WARNING))
    Metering(libvirt, settings, watch.is_connected, lambda line: say(line, WARNING))
    end_on_signals()
    watch.run()
    return 0


def say(text: str, level: int = INFO) -> None:
    """One line on standard output, with its level for journald if that is who reads it."""
    # systemd sets JOURNAL_STREAM and reads the level from a prefix (sd-daemon(3)).
    line = printable(text)
    print(f"<{level}>{line}" if "JOURNAL_STREAM" in os.environ else line, flush=True)


class Watch:
    """The service, on one libvirt; ``run`` never returns."""

    def __init__(self, libvirt: Library, uri: str, settings: Configuration) -> None:
        self._libvirt, self._uri, self._settings = libvirt, uri, settings
        self._connection: Connection = None
        self._callbacks: list[int] = []
        self._lost = ""
        self._connect_at, self._delay = 0.0, FIRST_DELAY
        self._visits: dict[str, Visit] = {}
        # Before the connection is opened: libvirt attaches it to the event loop that exists then.
        libvirt.virEventRegisterDefaultImpl()
        self._alarm = libvirt.virEventAddTimeout(-1, self._on_alarm, None)

    def run(self) -> None:
        """Connect, look at guests, sleep; does not return."""
        while True:
            self._step()
            self._libvirt.virEventRunDefaultImpl()

    def is_connected(self) -> bool:
        """Whether events of guests reach this service."""
        return not self._lost and self._connection is not None and bool(self._connection.isAlive())

    def _step(self) -> None:
        """Connect or look at one guest, if that is due; set the alarm for what is due next."""
        # Not in the close callback, which runs in the middle of libvirt's own event dispatch.
        if self._lost:
            self._disconnect()
        if self._connection is None and _now() >= self._connect_at:
            self._connect()
        due = (uuid for uuid, visit in self._visits.items() if visit.due <= _now())
        # One guest at a time, so that events are read between two of them.
        uuid = next(due, None)
        if uuid is not None:
            self._look_at(uuid, self._visits.pop(uuid))
        self._set_alarm()

    def _set_alarm(self) -> None:
        if self._lost:
            wait = 0.0
        elif self._connection is None:
            wait = self._connect_at - _now()
        elif self._visits:
            wait = min(visit.due for visit in self._visits.values()) - _now()
        else:
            self._libvirt.virEventUpdateTimeout(self._alarm, -1)
            return
        # At least 1 ms: a timeout of 0 would run the loop without a pause.
        self._libvirt.virEventUpdateTimeout(self._alarm, max(1, int(wait * 1000) + 1))

    def _on_alarm(self, _timer: int, _opaque: object) -> None:
        # It has done its work by waking the loop.
        self._libvirt.virEventUpdateTimeout(self._alarm, -1)

    # --- the connection ------------------------------------------------------------------------

    def _connect(self) -> None:
        try:
            self._connection = self._libvirt.open(self._uri)
            # Events first, list second: a guest that starts in between is seen at least once.
            self._subscribe(self._connection)
            active = self._libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
            guests = self._connection.listAllDomains(active)
        except self._libvirt.libvirtError as error:
            # A connection that broke half-way through leaves callbacks to be removed.
            self._disconnect()
            self._connect_at = _now() + self._delay
            # Once for each outage, not for each attempt.
            if self._delay == FIRST_DELAY:
                then = f"trying again, every {LAST_DELAY:g} s in the end"
                say(f"cannot connect to {self._uri}: {error}; {then}", WARNING)
            self._delay = min(2 * self._delay, LAST_DELAY)
            return
        self._delay = FIRST_DELAY
        say(f"connected to {self._uri}; guests running: {len(guests)}")
        for domain in guests:
            self._expect(domain, FOUND)

    def _subscribe(self, connection: Connection) -> None:
        connection.registerCloseCallback(self._on_close, None)
        # Without keepalive a hung libvirtd would block this service forever.
        connection.setKeepAlive(KEEPALIVE_INTERVAL, KEEPALIVE_COUNT)
        for event, callback in (
            (self._libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle),
            (self._libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, self._on_added),
            (self._libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self._on_removed),
        ):
            self._callbacks.append(connection.domainEventRegisterAny(None, event, callback, None))

    def _disconnect(self) -> None:
        """Release a connection, even one partly set up; pending visits are requested anew later."""
        connection, self._connection = self._connection, None
        callbacks, self._callbacks = self._callbacks, []
        # All running guests are visited again after the next connect.
        self._visits.clear()
        if self._lost:
            say(f"connection to {self._uri} lost ({self._lost})", WARNING)
            self._lost, self._connect_at = "", _now() + self._delay
        if connection is None:
            return
        undo = [lambda each=each: connection.domainEventDeregisterAny(each) for each in callbacks]
        for each in (*undo, connection.unregisterCloseCallback, connection.close):
            try:
                each()
            except self._libvirt.libvirtError:
                # The other end may be gone; this end must be freed nevertheless.
                continue

    def _on_close(self, _connection: object, reason: int, _opaque: object) -> None:
        names = {
            self._libvirt.VIR_CONNECT_CLOSE_REASON_EOF: "libvirtd ended",
            self._libvirt.VIR_CONNECT_CLOSE_REASON_KEEPALIVE: "libvirtd does not answer",
        }
        self._lost = names.get(reason, "error")

    # --- guests --------------------------------------------------------------------------------

    def _on_lifecycle(
        self, _conn: object, domain: Domain, event: int, detail: int, _: object
    ) -> None:
        if event == self._libvirt.VIR_DOMAIN_EVENT_STARTED:
            self._expect(domain, self._began(detail))
        elif event == self._libvirt.VIR_DOMAIN_EVENT_RESUMED and detail in (
            # Sent where a guest is reverted to a snapshot; its devices may be others than before.
            self._libvirt.VIR_DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT,
            # Sent where a guest that migrated in begins to run, long after it was "started".
            self._libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED,
        ):
            self._expect(domain, RESUMED)
        elif event == self._libvirt.VIR_DOMAIN_EVENT_STOPPED:
            self._visits.pop(domain.UUIDString(), None)

    def _began(self, detail: int) -> str:
        return {
            self._libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED: MIGRATING,
            self._libvirt.VIR_DOMAIN_EVENT_STARTED_RESTORED: RESTORED,
            self._libvirt.VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT: REVERTED,
        }.get(detail, "started")

    def _on_added(self, _conn: object, domain: Domain, alias: str, _: object) -> None:
        self._expect(domain, f"{alias} plugged in", alias)

    def _on_removed(self, _conn: object, domain: Domain, alias: str, _: object) -> None:
        self._expect(domain, f"{alias} unplugged")

    def _expect(self, domain: Domain, why: str, added: str = "") -> None:
        """Schedule a visit to a guest, once and soon: callbacks must not take long."""
        before = self._visits.get(domain.UUIDString())
        # Merged: a guest can have several devices plugged in before it is looked at.
        aliases = (before.added if before else frozenset()) | ({added} if added else set())
        # That it came from elsewhere is told even if it began to run before it was looked at.
        if before and before.why in ARRIVALS and why == RESUMED:
            why = before.why
        self._visits[domain.UUIDString()] = Visit(domain, why, aliases)
        # Callbacks run in the event loop, where a call to libvirt would delay all others.
        self._libvirt.virEventUpdateTimeout(self._alarm, 0)

    def _look_at(self, uuid: str, visit: Visit) -> None:
        """Bring one guest's record up to date. No error with one guest ends the service."""
        name = visit.domain.name()
        try:
            # Not patient: one guest's migration must not delay the records of the others.
            entries = record(visit.domain, self._settings, visit.added, patient=False)
            for entry in entries:
                self._tell(name, visit, entry)
            if any(entry.transient for entry in entries):
                self._retry(uuid, visit, {entry.device for entry in entries})
            learned = arrivals.close(self._libvirt, visit.domain, self._settings)
            if learned:
                say(learned)
        except GoneError:
            say(f"{name}: {visit.why}, and is gone again")
        except BusyError:
            # A visit that an event has requested meanwhile is newer, and stays.
            self._visits.setdefault(uuid, self._later(visit))
        except PreflightError as error:
            self._fail(name, f"{error}; {visit.then}", aloud=visit.is_to_tell)
            self._retry(uuid, visit)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{os.path.basename(frame.filename)}, line {frame.lineno}"
            self._fail(name, f"internal error ({type(error).__name__}: {error}, in {place})")

    def _retry(self, uuid: str, visit: Visit, reported: Collection[str] = ()) -> None:
        if visit.failures < RETRIES:
            again = visit._replace(
                failures=visit.failures + 1, reported=visit.reported.union(reported)
            )
            self._visits.setdefault(uuid, self._later(again))

    def _later(self, visit: Visit) -> Visit:
        delay = min(2 * visit.delay, LAST_DELAY)
        return visit._replace(due=_now() + visit.delay, delay=delay)

    def _fail(self, name: str, reason: str, *, aloud: bool = True) -> None:
        if not self._connection.isAlive():
            self._lost = self._lost or "connection broken"
        elif aloud:
            say(f"{name}: not recorded: {reason}", WARNING)

    def _tell(self, name: str, visit: Visit, entry: Entry) -> None:
        line = f"{name}: {visit.why}: {entry.device} {entry.result}: {entry.reason}"
        if entry.result in (RECORDED, DROPPED):
            say(line)
        elif entry.result == MISSING and entry.transient:
            if entry.device not in visit.reported or visit.failures == RETRIES:
                say(f"{line}; {visit.then}", WARNING)
        elif entry.device in visit.reported:
            return
        elif entry.result == MISSING:
            say(line, WARNING)
        elif entry.result == KEPT and visit.why in ARRIVALS:
            say(line)


def _now() -> float:
    return time.monotonic()

"""One line for each decision, to syslog or a file: libvirt drops the stderr of a hook that exits 0.

Lines hold verdicts, codes, names and reasons; never XML, never a secret. Where ``syslog`` is
systemd's journal, a line has fields as well; and its event goes to the audit log (docs/LOGS.md).

The log is for the operator; it must neither decide about a guest nor delay one. On a full disk a
write fails, on a frozen one it waits, a socket or FIFO without a reader blocks, and ``syslog(3)``
cannot be given a time-out. So the line is written by a process of its own, which holds nothing that
libvirt waits for and dies by itself, and the caller waits for it for a moment only.
"""

from __future__ import annotations

import errno
import os
import select
import time

from ..osutil.light import TYPE_CHECKING, NamedTuple
from ..osutil.text import printable

if TYPE_CHECKING:
    from typing import NoReturn

    from ..configuration import Configuration

IDENT = "vfio-preflight"
# Seconds that the caller waits, so that usually the line is there when the hook ends.
PATIENCE = 0.5
# Whole seconds after which the process that writes gives up.
LIFETIME = 2
# Seconds to wait for a journal that has no room, and for the lock of the audit log.
BUSY, LOCKED = 1.0, 1.0
# Of the log, and of the audit log.
NONE = "none"
# The end of a pipe that the caller waits at, and a number beyond any descriptor that a hook has.
_HELD, _DESCRIPTORS = 3, 1024


class Event(NamedTuple):
    """What a line is about: ``fields`` for the journal, and ``text``, JSON, for the audit log.

    ``path`` is the audit log, ``locks`` where its lock is; ``took`` are seconds of work, and until
    its turn came.
    """

    fields: str = ""
    path: str = NONE
    text: str = ""
    locks: str = ""
    took: tuple[float, float] | None = None


NO_EVENT = Event()


def event(packed: str, settings: Configuration, took: tuple[float, float] | None = None) -> Event:
    """The event of an outcome (``report.events``), which ``took`` so long."""
    if not packed:
        return NO_EVENT
    fields, _, text = packed.partition("\0")
    for name, seconds in zip(("DURATION", "WAITED"), took or ()):
        fields += f"VFIO_PREFLIGHT_{name}_USEC={seconds * 1e6:.0f}\n"
    return Event(fields, settings.audit_log, text, settings.runtime, took)


def write(
    log: str,
    line: str,
    *,
    warning: bool = False,
    patience: float = PATIENCE,
    about: Event = NO_EVENT,
) -> bool:
    """Log ``line`` to ``log``: ``syslog``, ``none`` or an absolute path; and what it is ``about``.

    Never raises, and returns within ``patience`` seconds, whether the line was written or not:
    False where it is known that it will not be.
    """
    if log == NONE and about.path == NONE:
        return True
    # A line break in a guest's name could otherwise forge a line of the log.
    clean = printable(line)
    try:
        # Here, where it can still be told that there is no module.
        import syslog  # noqa: F401

        written = _start(log, clean, warning, about)
    except (ImportError, OSError):
        return _without_process(log, clean, warning, about)
    try:
        # The pipe's end of file is the writer's exit; its status is not needed.
        select.select([written], [], [], max(0.0, patience))
    finally:
        # The process is not reaped: the hook is about to end, and init reaps orphans.
        os.close(written)
    return True


def _start(log: str, line: str, warning: bool, about: Event) -> int:
    """Start the process that writes; return a descriptor that is readable once it has ended."""
    written, held = os.pipe()
    try:
        # fork(), not a thread: a thread blocked in syslog(3) would keep the hook from ending.
        if os.fork() == 0:
            _process(held, log, line, warning, about)
    except OSError:
        os.close(written)
        raise
    finally:
        os.close(held)
    return written


def _process(held: int, log: str, line: str, warning: bool, about: Event) -> NoReturn:
    try:
        _detach(held)
        sent = log == NONE or (log == "syslog" and to_journal(line, warning, about))
        # The journal has the line: nobody needs to wait for the audit log.
        if sent:
            os.close(_HELD)
        _deliver(log, line, warning, about, sent)
    finally:
        os._exit(0)


def _detach(held: int) -> None:
    """Keep nothing of the caller's but ``held``, and live for :data:`LIFETIME` at most."""
    # Not signal, whose enumerations take longer than all else here.
    signal = __import__("_signal")
    # The hook's caller may have ignored the signal, and that would be inherited.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LIFETIME)
    # A session of its own: the supervisor's killpg() must not end the writer half-way.
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    # libvirt waits as long as anybody holds the hook's stdout or stderr.
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.dup2(held, _HELD)
    # Nothing else is inherited: the hook's pipes to the supervisor are among these.
    os.closerange(_HELD + 1, _DESCRIPTORS)


def _deliver(log: str, line: str, warning: bool, about: Event, sent: bool) -> None:
    """Write what has not been ``sent`` yet: the line last, which may wait for ever in syslog(3)."""
    problem = to_audit_log(about)
    if not sent and log != "syslog":
        try:
            _append(log, line)
            sent = True
        except OSError:
            # A log file that cannot be written is worth a line in syslog.
            warning = True
    if not sent:
        _wait_for_log(line, warning, about)
    if problem and log != NONE:
        _wait_for_log(problem, True)


def _without_process(log: str, line: str, warning: bool, about: Event) -> bool:
    """For a host that can start no process, nor an emulator: only what does not block."""
    to_audit_log(about, patience=0.0)
    try:
        if log == "syslog":
            return to_journal(line, warning, about)
        if log != NONE:
            _append(log, line)
    except OSError:
        return False
    return True


def to_audit_log(about: Event, patience: float = LOCKED) -> str:
    """Append an event to its audit log; return what is to be told of that."""
    if about.path == NONE:
        return ""
    try:
        from . import audit

        audit.append(about.path, audit.stamped(about.text, about.took), about.locks, patience)
    except OSError as error:
        why = f"{error.strerror or error} ({error.filename or about.path})"
        return printable(f"audit log {about.path} is not in order: {why}")
    return ""


def to_journal(line: str, warning: bool, about: Event = NO_EVENT, patience: float = 0.0) -> bool:
    """Whether the journal takes the line."""
    try:
        from . import native

        data = native.entry(IDENT, line, warning=warning, fields=about.fields)
        return native.send(data, patience)
    # No systemd here, or none that can be reached.
    except (ImportError, OSError):
        return False


def _wait_for_log(line: str, warning: bool, about: Event = NO_EVENT) -> None:
    """Have the journal take the line, or syslog."""
    # A journal that is busy has room in a moment; syslog(3) would wait for the same one.
    if not to_journal(line, warning, about, BUSY):
        _syslog(line, warning)


def _syslog(line: str, warning: bool) -> None:
    import syslog

    syslog.openlog(IDENT, syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_WARNING if warning else syslog.LOG_INFO, line)


def _append(path: str, line: str) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    data = f"{stamp} {IDENT}[{os.getpid()}]: {line}\n".encode()
    # O_NONBLOCK: a FIFO without a reader, or with one that does not read, is an error.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    descriptor = os.open(path, flags, 0o640)
    try:
        # A full disk can write a part; the rest goes to syslog instead.
        if os.write(descriptor, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(descriptor)

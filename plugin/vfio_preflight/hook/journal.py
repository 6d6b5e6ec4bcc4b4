"""One line for each decision, to syslog or a file: libvirt drops the stderr of a hook that exits 0.

Lines hold verdicts, codes, names and reasons; never XML, never a secret.

The log is for the operator; it must neither decide about a guest nor delay one. On a full disk a
write fails, a socket or FIFO without a reader blocks, and ``syslog(3)`` cannot be given a
time-out. So the line is written by a process of its own, which holds nothing that
libvirt waits for and dies by itself, and the caller waits for it for a moment only.
"""

from __future__ import annotations

import errno
import os
import select
import time

from ..osutil.light import TYPE_CHECKING
from ..osutil.text import printable

if TYPE_CHECKING:
    from typing import NoReturn

IDENT = "vfio-preflight"
# Seconds that the caller waits, so that usually the line is there when the hook ends.
PATIENCE = 0.5
# Whole seconds after which the process that writes gives up.
LIFETIME = 2
# Beyond any descriptor that a hook has.
_DESCRIPTORS = 1024


def write(log: str, line: str, *, warning: bool = False, patience: float = PATIENCE) -> bool:
    """Log ``line`` to ``log``: ``syslog``, ``none`` or an absolute path.

    Never raises, and returns within ``patience`` seconds, whether the line was written or not:
    False where it is known that it will not be.
    """
    if log == "none":
        return True
    # A line break in a guest's name could otherwise forge a line of the log.
    clean = printable(line)
    try:
        # Here, where it can still be told that there is no module.
        import syslog  # noqa: F401

        written = _start(log, clean, warning)
    except (ImportError, OSError):
        return _without_process(log, clean)
    try:
        # The pipe's end of file is the writer's exit; its status is not needed.
        select.select([written], [], [], max(0.0, patience))
    finally:
        # The process is not reaped: the hook is about to end, and init reaps orphans.
        os.close(written)
    return True


def _start(log: str, line: str, warning: bool) -> int:
    """Start the process that writes; return a descriptor that is readable once it has ended."""
    written, held = os.pipe()
    try:
        # fork(), not a thread: a thread blocked in syslog(3) would keep the hook from ending.
        if os.fork() == 0:
            _process(held, log, line, warning)
    except OSError:
        os.close(written)
        raise
    finally:
        os.close(held)
    return written


def _process(held: int, log: str, line: str, warning: bool) -> NoReturn:
    try:
        _detach(held)
        _deliver(log, line, warning)
    finally:
        os._exit(0)


def _detach(held: int) -> None:
    """Keep nothing of the caller's but ``held``, and live for :data:`LIFETIME` at most."""
    import signal

    # The hook's caller may have ignored the signal, and that would be inherited.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LIFETIME)
    # A session of its own: the supervisor's killpg() must not end the writer half-way.
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    # libvirt waits as long as anybody holds the hook's stdout or stderr.
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.dup2(held, 3)
    # Nothing else is inherited: the hook's pipes to the supervisor are among these.
    os.closerange(4, _DESCRIPTORS)


def _deliver(log: str, line: str, warning: bool) -> None:
    if log == "syslog":
        _syslog(line, warning)
        return
    try:
        _append(log, line)
    except OSError:
        # A log file that cannot be written is worth a line in syslog.
        _syslog(line, warning=True)


def _without_process(log: str, line: str) -> bool:
    """For a host that can start no process, nor an emulator: a file is all that may not block."""
    try:
        if log != "syslog":
            _append(log, line)
    except OSError:
        return False
    return log != "syslog"


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

"""One line for each decision, to syslog or a file: libvirt drops what a hook that passes says.

Lines hold verdicts, codes and names; never XML, never a secret.
"""

from __future__ import annotations

import os
import time

IDENT = "vfio-preflight"


def write(log: str, line: str, *, grave: bool = False) -> None:
    """Log ``line`` to ``log``: ``syslog``, ``none`` or an absolute path. Never raises."""
    clean = "".join(char if char.isprintable() else "?" for char in line)
    if log == "syslog":
        _syslog(clean, grave)
    elif log != "none":
        _append(log, clean)


def _syslog(line: str, grave: bool) -> None:
    import syslog

    syslog.openlog(IDENT, syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_WARNING if grave else syslog.LOG_INFO, line)


def _append(path: str, line: str) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError:
        # The log is for the operator's sake; a full disk must not decide about a guest.
        _syslog(line, grave=True)
        return
    with os.fdopen(descriptor, "a", encoding="utf-8") as file:
        file.write(f"{stamp} {IDENT}[{os.getpid()}]: {line}\n")

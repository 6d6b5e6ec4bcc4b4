"""systemd's journal, by its own protocol: a line with fields that can be searched for.

One datagram an entry: ``NAME=value`` a line. Unlike ``syslog(3)``, none of this waits unless it is
told to. Source: systemd, "Native Journal Protocol" (JOURNAL_NATIVE_PROTOCOL).
"""

from __future__ import annotations

import select
import time

SOCKET = "/run/systemd/journal/socket"
# As syslog has them: LOG_WARNING, LOG_INFO, LOG_DAEMON >> 3.
WARNING, INFO, DAEMON = 4, 6, 3


def entry(ident: str, line: str, *, warning: bool, fields: str = "") -> bytes:
    """The datagram of ``line``, which is one line, and of ``fields``, each ended by a newline."""
    head = {
        "MESSAGE": line,
        "PRIORITY": WARNING if warning else INFO,
        "SYSLOG_FACILITY": DAEMON,
        "SYSLOG_IDENTIFIER": ident,
    }
    text = "".join(f"{name}={value}\n" for name, value in head.items())
    return (text + fields).encode("utf-8", "replace")


def send(data: bytes, patience: float = 0.0) -> bool:
    """Give the journal an entry; False where it has no room for ``patience`` seconds.

    Raises OSError where there is no journal, or it does not take the entry.
    """
    # The socket module costs what the hook saves elsewhere.
    import _socket

    kind = _socket.SOCK_DGRAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
    sender = _socket.socket(_socket.AF_UNIX, kind)
    try:
        # Connected: select() then tells when the reader has room, not when this end has.
        sender.connect(SOCKET)
        end = time.monotonic() + patience
        while True:
            try:
                sender.send(data)
                return True
            except BlockingIOError:
                left = end - time.monotonic()
            if left <= 0:
                return False
            # Another one may take the room that there is then.
            select.select([], [sender], [], left)
    finally:
        sender.close()

"""A service that ends on a signal, even in the middle of a call of libvirt."""

from __future__ import annotations

import os
import signal
import threading


def end_on_signals() -> None:
    """End the process with status 0 on SIGTERM or SIGINT, even in the middle of a call of libvirt.

    The signals are not blocked, because emulators that are asked for their version would inherit
    that.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ignore)
    signal.set_wakeup_fd(write)
    threading.Thread(target=_end_when_signalled, args=(read,), daemon=True).start()


def _ignore(_number: int, _frame: object) -> None:
    return


def _end_when_signalled(descriptor: int) -> None:
    os.read(descriptor, 1)
    os._exit(0)

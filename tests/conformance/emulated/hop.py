"""A guest migrated for real: two QEMUs, one of which sends what the other loads.

The guest never gets to execute anything, or it is let run for a while (:class:`Running`); then it
is stopped and migrated over a Unix socket. Nothing here is the project's but the client of QMP.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from vfio_preflight.osutil.executable import User, unprivileged_user
from vfio_preflight.qemu.emulator.client import Emulator, signal_name, wait

PASS, REFUSED, BLOCKED, CRASHED = "pass", "refused", "blocked", "crashed"
UNMADE, HUNG = "unmade", "hung"

_PATIENCE = 90.0  # seconds for a hop; on a quiet machine one takes 0.5 to 3
_POLL, _MOMENT = 0.02, 0.5
_COMMON = (
    *("-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg,tb-size=32"),
    *("-qmp", "stdio"),
)
_PROGRAM = re.compile(r"^\S*qemu-system-\w+: ")


class Running(NamedTuple):
    """How long a guest runs: ``options`` have it write into ``{log}``, which is to come to each of
    ``texts`` within so many seconds, or else it goes on without. ``log`` is where it is if it is
    wanted afterwards."""

    options: Sequence[str]
    texts: Sequence[tuple[bytes, float]]
    log: str = ""


# By SeaBIOS's debug port, which has no state of its own: until it boots, and until it, or the boot
# ROM of a network adapter, gives that up.
FIRMWARE = Running(
    (
        *("-chardev", "file,id=log,path={log}"),
        *("-device", "isa-debugcon,iobase=0x402,chardev=log"),
    ),
    ((b"enter handle_19", 20.0), (b"No bootable device", 0.7)),
)


class Hop(NamedTuple):
    """How a migration ended: the outcome, and QEMU's own lines.

    ``side`` is which of the two it was. ``blocked``: the source refused to send. ``refused``: the
    destination did not take what came. ``crashed``: it was ended by a signal. ``unmade``: it could
    not make the guest. ``hung``: nothing of this.
    """

    outcome: str
    lines: tuple[str, ...] = ()
    side: str = ""

    @property
    def line(self) -> str:
        """The first line, which tells why."""
        return self.lines[0] if self.lines else ""


def hop(
    source: str, destination: str, arguments: Sequence[str], running: Running | None = None
) -> Hop:
    """Migrate a guest of ``arguments`` from the QEMU at a path to another's."""
    with _directory() as (directory, user):
        socket, log = f"{directory}/migration", f"{directory}/log"
        if running and running.log:
            log = running.log
        options = running.options if running else ()
        common = (*_COMMON, *arguments, *(word.replace("{log}", log) for word in options))
        sender = (*common, *(() if running else ("-S",)))
        receiver = (*common, "-incoming", f"unix:{socket}")
        texts = running.texts if running else ()
        end = time.monotonic() + _PATIENCE + sum(seconds for _, seconds in texts)
        with (
            Emulator((source, *sender), user=user) as one,
            Emulator((destination, *receiver), user=user) as other,
        ):
            for emulator, side in ((one, "source"), (other, "destination")):
                if emulator.ask("qmp_capabilities", end) is None:
                    return _unmade(emulator, side)
            if running:
                _run(one, log, running)
                # QEMU with TCG ends now and then where memory of a running guest is sent, "block ==
                # qemu_get_ram_block(end - 1)" (tlb_reset_dirty_range_all(), system/physmem.c).
                one.ask("stop", end)
            return _migrate(one, other, socket, end)


@contextmanager
def _directory() -> Iterator[tuple[str, User | None]]:
    directory, user = tempfile.mkdtemp(prefix="hop-"), unprivileged_user()
    try:
        if user is not None:
            os.chown(directory, user.uid, user.gid)
        yield directory, user
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _run(emulator: Emulator, log: str, running: Running) -> None:
    for text, seconds in running.texts:
        end = time.monotonic() + seconds
        # The log is the emulator's to make.
        wait(lambda: emulator.ended or text in Path(log).read_bytes(), [emulator], end)  # noqa: B023


def _migrate(one: Emulator, other: Emulator, socket: str, end: float) -> Hop:
    reply = one.ask("migrate", end, uri=f"unix:{socket}")
    if reply is None:
        return Hop(HUNG, _said(one), "source")
    if "error" in reply:
        return Hop(BLOCKED, (reply["error"]["desc"],), "source")
    while time.monotonic() < end:
        sent, loaded = _status(one, end), _status(other, end)
        if other.ended or one.ended or sent.get("status") == "failed":
            return _failed(one, other, str(sent.get("error-desc", "")))
        if loaded.get("status") == "completed":
            return Hop(PASS)
        wait(lambda: other.ended, [one, other], time.monotonic() + _POLL)
    return Hop(HUNG, (*_said(one), *_said(other)))


def _failed(one: Emulator, other: Emulator, error: str) -> Hop:
    # Each notices within a moment that the other has ended.
    wait(lambda: one.ended and other.ended, [one, other], time.monotonic() + _MOMENT)
    for emulator, side in ((one, "source"), (other, "destination")):
        if emulator.status is not None and emulator.status < 0:
            name, (first, *rest) = signal_name(emulator.status), _said(emulator) or ("",)
            line = f"{first} ({name})" if first else f"killed by {name}"
            return Hop(CRASHED, (line, *rest), side)
    if other.ended:
        return Hop(REFUSED, _said(other), "destination")
    return Hop(BLOCKED, (error, *_said(one)), "source")


def _status(emulator: Emulator, end: float) -> Mapping[str, Any]:
    reply = emulator.ask("query-migrate", end) or {}
    found: Mapping[str, Any] = reply.get("return", {})
    return found


def _unmade(emulator: Emulator, side: str) -> Hop:
    wait(lambda: emulator.ended, [emulator], time.monotonic() + 5)
    if not emulator.ended:
        return Hop(HUNG, _said(emulator), side)
    return Hop(UNMADE, _said(emulator), side)


def _said(emulator: Emulator) -> tuple[str, ...]:
    lines = (_PROGRAM.sub("", line) for line in emulator.stderr.splitlines())
    return tuple(line for line in lines if line and "warning:" not in line)

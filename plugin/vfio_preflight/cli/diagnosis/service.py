"""The service ``watch``: whether it runs, with what is installed and configured now."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from ...configuration import NONE
from ..installation import reload
from ..installation.payload import CONFIGURATION, CURRENT, UNIT, WANTED
from .finding import Fact, Found, Shell, found
from .here import Here

UNIT_NAME = os.path.basename(UNIT)
_PLAIN = re.compile(r"/[\w./:+@,= -]*")
# Without systemd.
BY_HAND = "setsid vfio-preflight watch </dev/null >/dev/null 2>&1 &"


def watch(here: Here) -> Iterator[Found | Fact]:
    """Whether ``watch`` runs, and since when."""
    managed = os.path.isdir(here.path("run/systemd/system"))
    running = _running(here)
    yield Fact("watch", [pid for pid, _ in running])
    if not running:
        start = f"systemctl daemon-reload && systemctl enable --now {UNIT_NAME}"
        yield found("watch-stopped", start=Shell(start if managed else BY_HAND))
        return
    pid, started = running[0]
    newer = [path for path in _read_once(here) if _changed(path) > started + reload.MARGIN]
    if newer:
        by_hand = f"kill {pid}; {BY_HAND}"
        restart = Shell(f"systemctl restart {UNIT_NAME}" if managed else by_hand)
        yield found("watch-outdated", pid=str(pid), what=newer[0], restart=restart)
    shut = tuple(path for path in _written(here) if _is_shut(here, pid, path))
    if managed and shut:
        yield found("watch-shut-out", pid=str(pid), paths=shut, unit=UNIT_NAME)
    if managed and not os.path.lexists(here.path(WANTED)):
        yield found("watch-disabled", unit=UNIT_NAME)


def _running(here: Here) -> list[tuple[int, float]]:
    """PID and start of each."""
    found = []
    for pid, _name, ticks in reload.processes(here.root):
        try:
            with open(here.path(f"proc/{pid}/cmdline"), "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        names = [os.path.basename(word) for word in words]
        if (b"vfio-preflight", b"watch") in zip(names, words[1:]):
            found.append((pid, reload.begun(ticks)))
    return found


def _read_once(here: Here) -> tuple[str, ...]:
    """What it reads as it starts, and not again."""
    return here.path(CURRENT), here.path(CONFIGURATION)


def _written(here: Here) -> Iterator[str]:
    """The directories that it writes to, as far as they are there."""
    settings = here.settings
    files = [path for path in (settings.audit_log,) if path != NONE]
    places = [settings.catalogue, settings.history, settings.cache, settings.metrics]
    for path in dict.fromkeys([*places, *map(os.path.dirname, files)]):
        # Other characters mean something to systemd; "none" is no directory.
        if _PLAIN.fullmatch(path) and os.path.isdir(here.path(path)):
            yield path


def _is_shut(here: Here, pid: int, path: str) -> bool:
    """Whether a file system can be written to, but not as the process sees it (ProtectSystem)."""
    try:
        flags = [
            os.statvfs(place).f_flag
            for place in (here.path(path), here.path(f"proc/{pid}/root", path))
        ]
    except OSError:
        return False
    return not flags[0] & os.ST_RDONLY and bool(flags[1] & os.ST_RDONLY)


def _changed(path: str) -> float:
    try:
        return os.lstat(path).st_ctime
    except OSError:
        return 0.0

"""The audit log turned into metrics: a file for the node exporter's textfile collector.

The hook, a new process for every call, only appends to the audit log. What has been counted of it
is kept: the counts, and how far each of its files was read, by a checksum of the file's first line,
which stays the same when the file is renamed. ``watch`` and ``metrics`` may do this at once: a lock
makes the reading, and the storing of what was read, one step.
"""

from __future__ import annotations

import fcntl
import json
import os
import time

from .. import __version__
from ..configuration import NONE, Configuration
from ..errors import PreflightError
from ..hook import audit
from ..osutil import jsondir, leftovers
from ..osutil.digest import sha256
from ..osutil.light import TYPE_CHECKING, NamedTuple
from ..osutil.locks import lock_file
from ..report import totals

if TYPE_CHECKING:
    from typing import Any, BinaryIO

FILE = "vfio-preflight.prom"
# Not "*.prom", which alone is read.
_PARTIAL = ".vfio-preflight-metrics-"
# Seconds after which a partial file is one of a process that was killed.
_ABANDONED = 300.0
SCHEMA = 1
_TOTALS, _WATCH = "totals", "watch"
_MAX_LINE = 1 << 16


class ExportError(PreflightError):
    """Metrics that cannot be written."""


class Exported(NamedTuple):
    """The file that was written, and how many lines of the audit log were new."""

    path: str
    lines: int


def is_wanted(settings: Configuration) -> bool:
    """Whether there is a textfile collector's directory to write to."""
    return settings.metrics != NONE and os.path.isdir(settings.metrics)


def passed(settings: Configuration) -> None:
    """Note that ``watch`` is at work, and connected to libvirt."""
    jsondir.store(settings.totals, _WATCH, {"schema": SCHEMA, "time": round(time.time(), 3)})


def export(settings: Configuration) -> Exported:
    """Count what is new in the audit log, and write the metrics. Raises ExportError."""
    path = os.path.join(settings.metrics, FILE)
    try:
        lock = lock_file(settings.runtime, "metrics.lock")
    except OSError as error:
        raise ExportError(
            f"{settings.runtime}: {error.strerror or error}; is this root?"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        counts, lines = _counted(settings)
        try:
            _write(path, totals.exposition(counts, __version__, _last_pass(settings)))
        except OSError as error:
            raise ExportError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        os.close(lock)
    return Exported(path, lines)


def _counted(settings: Configuration) -> tuple[dict[str, float], int]:
    """The counts, brought up to date, and how many lines were new. Raises ExportError."""
    stored = _load(settings, _TOTALS)
    counts, before, lines = totals.kept(stored.get("counts")), _offsets(stored.get("read")), 0
    read = {}
    for descriptor in audit.files(settings.audit_log, settings.runtime):
        with open(descriptor, "rb") as file:
            name = sha256(file.readline(_MAX_LINE))
            new = _new_lines(file, before.get(name, 0))
            read[name] = before.get(name, 0) + sum(len(line) for line in new)
        for line in new:
            totals.count(counts, _parsed(line))
        lines += len(new)
    value = {"schema": SCHEMA, "counts": counts, "read": read}
    # Otherwise nothing is shown either: it would be counted again the next time.
    if not jsondir.store(settings.totals, _TOTALS, value):
        raise ExportError(f"{settings.totals}: cannot be written; is it root's, and is there room?")
    return counts, lines


def _new_lines(file: BinaryIO, offset: int) -> list[bytes]:
    """The whole lines behind ``offset``; one that is being written has no end yet."""
    file.seek(offset)
    return [line for line in file if line.endswith(b"\n")]


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line)
    # RecursionError: json raises it for deeply nested arrays.
    except (ValueError, RecursionError):
        return None


def _load(settings: Configuration, name: str) -> dict[str, Any]:
    """What was stored under ``name``; empty where there is nothing of this version's."""
    value = jsondir.load(settings.totals, name)
    return value if isinstance(value, dict) and value.get("schema") == SCHEMA else {}


def _offsets(stored: object) -> dict[str, int]:
    known = stored.items() if isinstance(stored, dict) else ()
    return {name: at for name, at in known if isinstance(at, int) and at >= 0}


def _last_pass(settings: Configuration) -> float | None:
    moment = _load(settings, _WATCH).get("time")
    return moment if isinstance(moment, (int, float)) else None


def _write(path: str, text: str) -> None:
    """The whole file under a name of its own, then renamed: the collector reads at any time."""
    directory = os.path.dirname(path)
    leftovers.sweep(directory, _PARTIAL, _ABANDONED)
    partial = os.path.join(directory, f"{_PARTIAL}{os.urandom(8).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with open(os.open(partial, flags, 0o644), "w", encoding="utf-8") as file:
            # The node exporter has a user of its own, and a umask may be in the way.
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
        os.replace(partial, path)
    except OSError:
        if os.path.lexists(partial):
            os.unlink(partial)
        raise

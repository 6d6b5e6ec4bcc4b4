"""The end of an incoming migration, held against what was predicted at its beginning.

A guest that fails to arrive comes by here at ``release end``: QEMU's log says why. One that runs is
seen by ``watch``. Both put an entry into the history (``host.history``).

Source: libvirt 11.3, ``qemuProcessStop``: ``release end`` with the reason of
``virDomainShutoffReasonTypeToString``; libvirt 9.0 gives ``-``.
"""

from __future__ import annotations

import os
import re
import time

from ..configuration import Configuration
from ..guest.xml import parse_domain
from ..host import guestlog, history
from ..host.guestlog import Mark, Written
from ..host.history import COMPLETED, FAILED, REFUSED, Entry
from ..judge.verdicts import FAIL, MEND, PASS, TOLERATED
from ..osutil.light import TYPE_CHECKING, NamedTuple
from ..osutil.text import printable
from ..qemu.messages.explain import Explanation, explain
from ..qemu.messages.message import CAUSE, NOTE
from ..report import events
from . import expected
from .annotation import token_of

if TYPE_CHECKING:
    from typing import Any

# libvirt's reason for a guest that did not come to run, and what libvirt 9.0 gives for all.
DID_NOT_START, NO_REASON = "failed", "-"
# How QEMU ends whose stream did: it was cancelled, or the connection was lost.
_CUT_SHORT = "Input/output error"
# Lines behind a bad byte in which QEMU names the device, as in qemu.messages.
_NEAR = 8
_PATH = r"[('](?P<path>[^')]{1,256})[')]$"
_MAX_LINE = 400


class Cause(NamedTuple):
    """Why QEMU ended: its line, and the VFIO device that it is about, None where it is of none."""

    line: str
    device: dict[str, Any] | None


class Learned(NamedTuple):
    """What is told of the end of a migration: a line for the log, and its event."""

    line: str
    event: dict[str, Any]

    @property
    def is_warning(self) -> bool:
        """Whether it is one of our faults."""
        return bool(self.event["prediction"] == events.PREDICTIONS[False])


def released(
    guest: str, reason: str, xml: bytes, settings: Configuration, root: str = "/"
) -> Learned | None:
    """Deal with the end of guest ``guest``, which may be that of an incoming migration.

    Return what is to be told, None where that is nothing. Raises GuestError for XML that is none.
    """
    value = expected.waiting(settings.runtime, guest)
    if value is None or not _is_of(value, xml):
        return None
    # Before anything else, so that an expectation is used once, whatever happens.
    expected.drop(settings.runtime, guest)
    # It was shut down, or went on to another host: how it had come is not known here.
    if reason not in (DID_NOT_START, NO_REASON):
        return None
    written = guestlog.since(guest, Mark(*value["log"]), root)
    # An expectation that nothing came of, and now a cold start fails.
    if written.whole and "-incoming" not in written.text:
        return None
    entry = _failed(value, written)
    # Without a reason, it may have run until now.
    if reason == NO_REASON and entry.outcome == FAILED:
        return None
    return _added(guest, entry, settings)


def completed(guest: str, uuid: str, age: float, settings: Configuration) -> Learned | None:
    """Note that guest ``guest``, which was expected, runs; ``age`` is its QEMU's, in seconds.

    Return what is to be told, None where nothing was expected of that very QEMU.
    """
    value = expected.waiting(settings.runtime, guest)
    # A QEMU that is older than the expectation ran already when another one was to come.
    if value is None or value["uuid"] != uuid or time.time() - age < _seconds(value["time"]):
        return None
    expected.drop(settings.runtime, guest)
    return _added(guest, _dated(Entry(value, COMPLETED, _is_right(value))), settings)


def _is_of(value: dict[str, Any], xml: bytes) -> bool:
    """Whether ``value`` is expected of the domain ``xml``: same guest, and same attempt."""
    uuid = (parse_domain(xml).findtext("uuid") or "").strip().lower()
    # A token is in the XML of an attempt that was annotated or mended; others have none to compare.
    is_same = not value.get("marked") or token_of(xml) == value["token"]
    return uuid == value["uuid"] and is_same


def _failed(value: dict[str, Any], written: Written) -> Entry:
    """The entry of an attempt that came to nothing."""
    cause = cause_of(written.text, value["devices"])
    note = written.problem or ("" if written.whole else "the log was cut off or rotated meanwhile")
    if cause.device is None:
        return _dated(Entry(value, FAILED, None, line=cause.line, note=note))
    agrees = _foresaw(cause.device, cause.line)
    return _dated(Entry(value, REFUSED, agrees, cause.device["key"], cause.line, note))


def _dated(entry: Entry) -> Entry:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return entry._replace(time=now, host=os.uname().nodename)


def _added(guest: str, entry: Entry, settings: Configuration) -> Learned:
    name = history.add(settings.history, entry)
    where = f"history {name}" if name else f"not kept: {settings.history} cannot be written"
    said = f': "{entry.line}"' if entry.line else ""
    agrees = {True: "as predicted", False: "NOT as predicted", None: "not predicted"}[entry.agrees]
    line = f"guest {guest[:200]!a}: migration {entry.outcome}, {agrees}{said}; {where}"
    return Learned(line, events.outcome(entry, name))


# --- what QEMU said ------------------------------------------------------------------------------


def cause_of(text: str, devices: list[dict[str, Any]]) -> Cause:
    """The first line of QEMU's that says why, and whose device it is about."""
    found = list(explain(text))
    causes = [line for line in found if line.role == CAUSE]
    # A vendor's driver that refuses its device's state leaves no other line.
    first = next(iter(causes or [line for line in found if line.role != NOTE]), None)
    if first is None:
        return Cause("", None)
    cut_short = not causes and any(
        line.kind == "migration-failed" and _CUT_SHORT in line.quote for line in found
    )
    # QEMU then names the device that it was loading, which did nothing wrong.
    device = None if cut_short else _device_of(first, found, devices)
    return Cause(printable(first.quote, _MAX_LINE), device)


def _device_of(
    line: Explanation, found: list[Explanation], devices: list[dict[str, Any]]
) -> dict[str, Any] | None:
    path = _path_near(line, found)
    if path:
        name = path.partition("/")[0]
        about = [device for device in devices if name and device["path"] == name]
        # Where the device's place was not known before, there must be no other to be meant.
        if not about and path.endswith("/vfio") and len(devices) == 1:
            about = devices
    else:
        about = [d for d in devices if line.quote == d["quote"] or _names(line.quote, d["host"])]
    return about[0] if len(about) == 1 else None


def _path_near(line: Explanation, found: list[Explanation]) -> str:
    """What QEMU calls the device, in the line or behind it; empty where it does not say."""
    for other in found:
        if other.kind == "load-failed" and 0 <= other.line - line.line < _NEAR:
            match = re.search(_PATH, other.quote)
            if match is not None:
                return match["path"]
    return ""


def _names(quote: str, host: str) -> bool:
    return bool(host) and re.search(rf"(?<![\w:.-]){re.escape(host)}(?![\w.-])", quote) is not None


# --- prediction and outcome ----------------------------------------------------------------------


def _foresaw(device: dict[str, Any], line: str) -> bool | None:
    """Whether QEMU's refusal of ``device`` with ``line`` was predicted, None: nothing was."""
    if device["verdict"] == FAIL and not device["mended"]:
        # Without a quote the refusal is predicted, and its words are not.
        return device["quote"] in ("", line)
    return False if device["mended"] or device["verdict"] in (PASS, TOLERATED) else None


def _is_right(value: dict[str, Any]) -> bool | None:
    """Whether it was predicted that the guest would be accepted, None: nothing was."""
    if value["verdict"] == FAIL:
        return bool(value["action"] == MEND)
    return True if value["verdict"] in (PASS, TOLERATED) else None


def _seconds(stamp: str) -> float:
    """Seconds since the epoch of an ISO 8601 time; raises ValueError for another text."""
    import calendar

    return float(calendar.timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ")))

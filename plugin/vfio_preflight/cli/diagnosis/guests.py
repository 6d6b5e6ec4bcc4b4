"""Running guests, by libvirt's own status files: whether each has the record that it travels with.

libvirt writes ``/run/libvirt/qemu/GUEST.xml`` whenever a guest's live XML changes, metadata
included (``qemuDomainSaveStatus``). It is read rather than libvirt asked: a daemon that hangs is
not to stop a command that looks for what is wrong. It holds secrets, of which nothing is kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from lxml import etree

from ...errors import PreflightError
from ...gather.recorder import Running, live_aliases
from ...guest.domain import Guest, GuestDevice, read_guest
from ...guest.metadata import Record, RecordError, read_record
from ...guest.xml import parse_domain
from ...host import history
from ...host.processes import PID_FILES, find_process
from ...osutil.regular import read_regular
from .finding import Fact, Found, UnseenError, found
from .here import Here

# Bytes of a status file: libvirt's own limit on XML is 4 MiB, and there is more in it.
_MAX_FILE = 32 << 20
# Names that virsh takes for the ID or the UUID of a guest, which may be another one
# (virshLookupDomainInternal() in tools/virsh-util.c). This guest's own UUID can be no other's.
_OTHERS = re.compile(r"\s*[+-]?[0-9]+|.{36}", re.DOTALL)
_REVERTED = "from snapshot"
REPORT = "/root/vfio-preflight-disagreements.txt"


def records(here: Here) -> Iterator[Found | Fact]:
    """Whether every device of every running guest has an entry in the guest's record."""
    place, told, unread = here.path(PID_FILES), [], []
    for name in sorted(os.listdir(place)) if os.path.isdir(place) else ():
        if not name.endswith(".xml"):
            continue
        try:
            running = _running(here, os.path.join(place, name))
        except (OSError, PreflightError, etree.LxmlError) as error:
            unread.append(f"{os.path.join(place, name)}: {error}")
            continue
        if running is not None:
            missing, lost = _without(running)
            told.append({"guest": running.guest.name, "missing": missing, "lost": lost})
            yield from _told(running.guest, missing, lost)
    yield Fact("guests", told)
    if unread:
        raise UnseenError("; ".join(unread))


def _running(here: Here, path: str) -> Running | None:
    """The guest of a status file; None if it is not running, or has no device to be recorded."""
    status = etree.fromstring(read_regular(path, _MAX_FILE), _parser())
    domain = status.find("domain")
    if domain is None:
        return None
    root = parse_domain(etree.tostring(domain))
    guest = read_guest(root)
    if not guest.devices:
        return None
    process = find_process(guest.name, guest.uuid, here.root)
    if process is None:
        return None  # gone by now
    reverted = status.get("reason") == _REVERTED
    return Running(guest, process, live_aliases(root), reverted)


def _parser() -> etree.XMLParser:
    return etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)


def _without(running: Running) -> tuple[list[str], list[str]]:
    """The devices that this host can still record, and those that it cannot."""
    try:
        record = read_record(running.guest.metadata) or Record({})
    except RecordError:
        record = Record({})
    missing, lost = [], []
    for device in running.guest.devices:
        entry = record.entries.get(device.key)
        known = entry is not None and entry.state is not None
        if running.was_migrated_in(device):
            lost += [] if known else [running.name(device)]
        elif entry is None or not known or not _is_of(running, device, entry.process, entry.host):
            missing.append(running.name(device))
    return missing, lost


def _is_of(running: Running, device: GuestDevice, process: str, host: str) -> bool:
    """Whether an entry is of this run, as ``record`` would see it."""
    return process == running.process.instance and host == (device.host or "")


def _told(guest: Guest, missing: list[str], lost: list[str]) -> Iterator[Found]:
    domain = (
        guest.uuid if _OTHERS.fullmatch(guest.name) or not _is_plain(guest.name) else guest.name
    )
    for code, names in (("record-missing", missing), ("record-lost", lost)):
        if names:
            yield found(code, guest=guest.name, domain=domain, devices=", ".join(names))


def _is_plain(name: str) -> bool:
    return name.isascii() and name.isprintable()


def predictions(here: Here) -> Iterator[Found | Fact]:
    """Whether predictions were wrong, of guests that migrated to this host."""
    entries = history.entries(here.path(here.settings.history))
    wrong = [name for name, entry in entries if entry.agrees is False]
    yield Fact("history", {"entries": len(entries), "wrong": len(wrong)})
    if wrong:
        values = {"count": str(len(wrong)), "name": wrong[-1], "report": REPORT}
        yield found("prediction-wrong", **values, names=tuple(wrong))

"""Stand-ins that a check left behind because it was killed (SIGKILL, a crash, the end of power).

Each carries who made it, and when; the next check on the same hosts removes those whose maker is
gone. One that another check is using at this moment stays.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress

from ..guest.domain import parse_domain
from ..guest.metadata import NAMESPACE, PROBE, PROBE_NAME_PREFIX, find_ours
from ..guest.xml import GuestError
from .connection import Connection, Domain, library

MAKER, MADE = "maker", "made"
# Seconds. Nobody asks for longer; a maker elsewhere cannot be looked for.
OLD = 3600
_START_TIME = 19  # of the fields of /proc/PID/stat behind the command's name


def marks() -> dict[str, str]:
    """What a stand-in is marked with: its maker, this process, and the time."""
    return {MAKER: _process(os.getpid()), MADE: str(int(time.time()))}


def _process(pid: int) -> str:
    """A process among all that ever ran: boot, PID namespace, PID, start time; empty for none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        with open(f"/proc/{pid}/stat", "rb") as file:
            # Behind the last ")": the command's name may contain spaces and brackets.
            started = file.read().rpartition(b")")[2].split()[_START_TIME].decode()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}/{pid}/{started}"
    except (OSError, LookupError, ValueError):
        return ""


def is_left(maker: str, made: str, now: float) -> bool:
    """Whether the maker of a stand-in is certainly done with it."""
    age = now - int(made) if made.isascii() and made.isdigit() and len(made) < 12 else 0.0
    if age > OLD:
        return True
    here = _process(os.getpid()).split("/")[:2]
    parts = maker.split("/")
    # Made in another namespace, or on another machine: only its age tells.
    if len(parts) != 4 or parts[:2] != here or not parts[2].isdecimal():
        return False
    return _process(int(parts[2][:10])) != maker


def remove(connection: Connection) -> list[str]:
    """Remove what is left on a host; the names of what was."""
    libvirt = library()
    removed = []
    try:
        domains = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_INACTIVE)
    except libvirt.libvirtError:
        # A connection without the right to list has no right to define either.
        return []
    for domain in domains:
        for name in _left(domain):
            with suppress(libvirt.libvirtError):
                domain.undefine()
                removed.append(name)
    return removed


def _left(domain: Domain) -> Iterator[str]:
    name = domain.name()
    if not name.startswith(PROBE_NAME_PREFIX):
        return
    try:
        ours = find_ours(parse_domain(domain.XMLDesc().encode()))
    except (GuestError, library().libvirtError):
        return
    probe = None if ours is None else ours.find(f"{{{NAMESPACE}}}{PROBE}")
    if probe is not None and is_left(probe.get(MAKER, ""), probe.get(MADE, ""), time.time()):
        yield name

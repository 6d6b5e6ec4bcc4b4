"""``record GUEST``: puts the config states of a running guest's devices into its live metadata.

From there the record travels with the guest: libvirt sends live metadata along with every
migration and save. A device that came with an entry keeps it, because QEMU goes on sending what it
was given on the guest's first host.
"""

from __future__ import annotations

import json
import socket
import time
from argparse import Namespace, _SubParsersAction
from typing import Any, NamedTuple

from ..configuration import Configuration, load
from ..guest.domain import Guest, parse_domain, read_guest
from ..guest.metadata import (
    NAMESPACE,
    PREFIX,
    Record,
    RecordError,
    read_record,
    to_set_metadata,
    write_record,
)
from ..host.states import state_of
from ..pci.space import identity
from ..pci.state import ConfigState, Missing
from . import output
from .connection import LOCAL, LibvirtError, connected, domain_named, library


class Entry(NamedTuple):
    """What became of one device: ``recorded``, ``kept`` or ``missing``, and why."""

    device: str
    result: str
    reason: str


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare the command."""
    parser = commands.add_parser(
        "record", help="put a guest's config states into its live metadata"
    )
    parser.add_argument("guest", metavar="GUEST", help="name or UUID of a running guest")
    parser.add_argument("--connect", metavar="URI", default=LOCAL, help=f"libvirt URI ({LOCAL})")
    output.add_format(parser)
    parser.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Carry the command out: 0 all devices have an entry, 3 some have none."""
    settings = load()
    with connected(options.connect) as connection:
        entries = record(domain_named(connection, options.guest), settings)
    if options.format == "json":
        print(
            json.dumps({"schema": 1, "devices": [entry._asdict() for entry in entries]}, indent=2)
        )
    else:
        for entry in entries:
            print(f"{entry.device}: {entry.result}: {entry.reason}")
        if not entries:
            print(f"guest '{options.guest}' has no VFIO device; nothing to record")
    return 3 if any(entry.result == "missing" for entry in entries) else 0


def record(domain: Any, settings: Configuration) -> list[Entry]:  # noqa: ANN401 - libvirt-python
    """Bring the record of a running domain up to date and say what became of each device."""
    libvirt = library()
    if not domain.isActive():
        raise LibvirtError(
            f"guest '{domain.name()}' is not running: it has no config state until it starts"
        )
    guest = read_guest(parse_domain(domain.XMLDesc().encode()))
    old = _existing(guest)
    states, entries = _collect(guest, old, settings)
    if set(states) - set(old.states):
        element = write_record(
            Record(states, old.host or socket.gethostname(), old.time or _now(), old.facts,
                   _facts(guest, old))
        )  # fmt: skip
        try:
            domain.setMetadata(
                libvirt.VIR_DOMAIN_METADATA_ELEMENT,
                to_set_metadata(element, guest.metadata),
                PREFIX,
                NAMESPACE,
                libvirt.VIR_DOMAIN_AFFECT_LIVE,
            )
        except libvirt.libvirtError as error:
            raise LibvirtError(f"the record cannot be stored with the guest: {error}") from error
    return entries


def _existing(guest: Guest) -> Record:
    try:
        return read_record(guest.metadata) or Record({})
    except RecordError:
        # One that cannot be read as a whole has nothing to keep.
        return Record({})


def _collect(
    guest: Guest, old: Record, settings: Configuration
) -> tuple[dict[str, ConfigState], list[Entry]]:
    states: dict[str, ConfigState] = {}
    entries = []
    for device in guest.devices:
        name = device.alias or device.key
        kept = old.states.get(device.key)
        if kept is not None:
            states[device.key] = kept
            entries.append(Entry(name, "kept", f"recorded on {old.host or 'another host'}"))
            continue
        state = state_of(device, "source", settings.states)
        if isinstance(state, Missing):
            entries.append(Entry(name, "missing", f"{state.reason}; {state.remedy}"))
            continue
        states[device.key] = state
        told = f"{identity(state.config)}, {len(state.config)} bytes, {state.origin}"
        entries.append(Entry(name, "recorded", told))
    return states, entries


def _facts(guest: Guest, old: Record) -> dict[str, dict[str, str]]:
    return {
        device.key: dict(old.devices.get(device.key) or {"host": device.host or ""})
        for device in guest.devices
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

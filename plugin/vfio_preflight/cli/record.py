"""``record GUEST``: puts the config states of a running guest's devices into its live metadata.

From there the record travels with the guest: libvirt sends live metadata along with every
migration and save. What is recorded and what is not: see ``recorder``.
"""

from __future__ import annotations

import json
from argparse import Namespace, _SubParsersAction
from collections.abc import Collection

from lxml import etree

from ..configuration import Configuration, load
from ..gather.recorder import MISSING, Entry, Revision, Running, live_aliases, revise
from ..guest.domain import parse_domain, read_guest
from ..guest.metadata import NAMESPACE, PREFIX, to_set_metadata, write_record
from ..host.processes import find_process
from . import output
from .connection import (
    LOCAL,
    BusyError,
    Domain,
    GoneError,
    Library,
    LibvirtError,
    connected,
    domain_named,
    library,
    require_local,
)


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
        # The devices and the process are read from this host's sysfs and /proc.
        require_local(connection.getURI())
        entries = record(domain_named(connection, options.guest), settings)
    if options.format == "json":
        devices = [
            {"device": entry.device, "result": entry.result, "reason": entry.reason}
            for entry in entries
        ]
        print(json.dumps({"schema": 1, "devices": devices}, indent=2))
    else:
        for entry in entries:
            print(f"{entry.device}: {entry.result}: {entry.reason}")
        if not entries:
            print(f"guest '{options.guest}' has no VFIO device; nothing to record")
    return 3 if any(entry.result == MISSING for entry in entries) else 0


def record(
    domain: Domain,
    settings: Configuration,
    added: Collection[str] = (),
    *,
    patient: bool = True,
) -> list[Entry]:
    """Bring the record of a running domain up to date and return the result for each device.

    ``added`` are aliases of devices known to have been plugged in just now. Raises GoneError for a
    guest that is not running (any more); BusyError, unless ``patient``, for one whose metadata
    libvirt would not change before a migration or the like is over; other PreflightErrors for what
    else is in the way.
    """
    libvirt = library()
    try:
        # Live metadata of a stopped guest does not exist, and would not reach a migration.
        if not domain.isActive():
            raise GoneError(
                f"guest '{domain.name()}' is not running: it has no config state until it starts"
            )
        revision, ours = _revise(libvirt, domain, settings, added)
        if revision.record is not None:
            # setMetadata() would wait for the job, up to 30 s, and block the service meanwhile.
            if not patient and _is_busy(libvirt, domain):
                raise BusyError(f"guest '{domain.name()}' has a job running")
            domain.setMetadata(
                libvirt.VIR_DOMAIN_METADATA_ELEMENT,
                to_set_metadata(write_record(revision.record), ours),
                PREFIX,
                NAMESPACE,
                # Live only: the persistent definition must not carry one run's bytes into the next.
                libvirt.VIR_DOMAIN_AFFECT_LIVE,
            )
    except libvirt.libvirtError as error:
        raise _translated(libvirt, domain, error) from error
    return revision.entries


def _revise(
    libvirt: Library,
    domain: Domain,
    settings: Configuration,
    added: Collection[str],
) -> tuple[Revision, etree._Element | None]:
    """The guest's record as it should be, and our element in its metadata as it is."""
    # Not the migratable XML: the live XML has the aliases and addresses of this run.
    root = parse_domain(domain.XMLDesc().encode())
    guest = read_guest(root)
    if not guest.devices and guest.metadata is None:
        return Revision(None, []), None
    # libvirt and this command must share a PID namespace: the arguments are read from /proc.
    process = find_process(guest.name, guest.uuid)
    if process is None:
        raise LibvirtError(
            f"no process here is the QEMU of guest '{guest.name}': whether its devices were started"
            " here is not known; run this on the guest's host, not in a container"
        )
    running = Running(guest, process, live_aliases(root), _is_reverted(libvirt, domain), added)
    return revise(running, settings), guest.metadata


def _is_reverted(libvirt: Library, domain: Domain) -> bool:
    # libvirt tells a revert from a start only by this reason, which a later pause replaces.
    return tuple(domain.state()) in (
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_FROM_SNAPSHOT),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_FROM_SNAPSHOT),
    )


def _is_busy(libvirt: Library, domain: Domain) -> bool:
    """Whether libvirt is about something with the guest that changes of metadata have to wait for:
    up to 30 seconds, and then in vain."""
    if tuple(domain.state()) == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION):
        return True
    try:
        return bool(domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE)
    except libvirt.libvirtError:
        # "Migration statistics are available only on the source host", and the like.
        return False


def _translated(libvirt: Library, domain: Domain, error: Exception) -> LibvirtError:
    # Matched by code: the messages are translated and differ between versions.
    code = error.get_error_code()  # type: ignore[attr-defined]
    if code == libvirt.VIR_ERR_NO_DOMAIN:
        return GoneError(f"guest '{domain.name()}' is gone")
    if code == libvirt.VIR_ERR_OPERATION_INVALID:
        return GoneError(f"guest '{domain.name()}' is not running any more: {error}")
    # A job did not end within libvirt's 30 s.
    if code == libvirt.VIR_ERR_OPERATION_TIMEOUT:
        return BusyError(f"the record cannot be stored with guest '{domain.name()}': {error}")
    return LibvirtError(f"the record cannot be stored with guest '{domain.name()}': {error}")

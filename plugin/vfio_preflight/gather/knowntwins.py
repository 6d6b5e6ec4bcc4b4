"""What is already known here of the twin of a guest that is about to come: for the hook, which runs
none."""

from __future__ import annotations

from ..configuration import Configuration
from ..guest.domain import Guest
from ..guest.record import Record
from ..guest.tree import tree_digest
from ..host import twins
from ..qemu.twin.told import Told


def known_here(guest: Guest, record: Record, settings: Configuration) -> Told | None:
    """What is known of the guest's twin on this host; None of most guests, in microseconds."""
    if guest.metadata is None or not twins.is_kept(settings.cache):
        return None
    process = first_process(record)
    # A report is another host's: the guest went there, and another QEMU sends it now.
    if not process or next(guest.metadata.iterchildren("{*}report"), None) is not None:
        return None
    tree = tree_digest(guest.metadata.getroottree().getroot(), record.states)
    return twins.known(settings.cache, twins.Sent(process, guest.machine, tree), guest.emulator)


def first_process(record: Record) -> str:
    """The QEMU that all of the record was made of; empty where that is not one."""
    processes = {entry.process for entry in record.entries.values()}
    return processes.pop() if len(processes) == 1 else ""

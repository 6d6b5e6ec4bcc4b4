"""Brings together what this host knows of a guest that is to move here.

Reads and asks; judges nothing and writes nothing: what the facts mean is decided in ``judge``.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..configuration import Configuration
from ..guest.domain import Guest, GuestDevice
from ..guest.metadata import Record, RecordEntry, RecordError, read_record
from ..host.sources.request import Request, Sent
from ..host.states import second_opinion, state_of
from ..judge.facts import DeviceFacts, Facts
from ..pci.state import DAMAGED, UNKNOWN, ConfigState, Missing, State
from ..qemu.emulator.facts import EmulatorError, emulator_facts
from ..qemu.emulator.machines import EmulatorFacts
from ..qemu.emulator.verified import verified_versions

NO_RECORD = (
    "the guest carries no record of this device, so it is not known what the source will send"
)
REMEDY_RECORD = "on the source, run: vfio-preflight record {guest}"
# A restore has no source to run anything on: the image is all there is.
REMEDY_RESTORE = (
    "restore without --bypass-cache, so that the image can be read, or judge it beforehand:"
    " vfio-preflight check --image FILE"
)


def facts_here(
    guest: Guest,
    settings: Configuration,
    deadline: float,
    source: Mapping[str, State] | None = None,
    destination: Mapping[str, State] | None = None,
    root: str = "/",
    remedy: str = REMEDY_RECORD,
    image_problems: tuple[str, ...] = (),
) -> Facts:
    """Facts for a move of ``guest`` to this host; ``deadline`` on the ``time.monotonic()`` clock.

    States given in ``source`` or ``destination``, by device key, take the place of those in the
    record and on this host. ``remedy`` is what to do if the source's are not known;
    ``image_problems`` as in :class:`Facts`.
    """
    record, problem = _record_of(guest)
    remedy = remedy.format(guest=guest.name)
    devices = []
    for device in guest.devices:
        entry = record.dated(device.key)
        sent = (source or {}).get(device.key) or recorded_state(entry, problem, remedy)
        given = (destination or {}).get(device.key)
        request = _request(sent, entry, settings, root)
        here = given or state_of(device, "destination", request)
        other = None if given else _second_opinion(device, here, request)
        devices.append(DeviceFacts(device, sent, here, entry, other))
    return Facts(
        guest,
        tuple(devices),
        ask_emulator(guest.emulator, settings, deadline),
        verified_versions(),
        tuple(sorted(record.entries.keys() - {device.key for device in guest.devices})),
        image_problems,
        settings.evidence,
    )


def _record_of(guest: Guest) -> tuple[Record, str]:
    """The guest's record; an empty one, with what is wrong, if it cannot be used as a whole."""
    try:
        return read_record(guest.metadata) or Record({}), ""
    except RecordError as error:
        return Record({}), str(error)


def recorded_state(entry: RecordEntry | None, problem: str, remedy: str) -> State:
    """The source's state by the guest's record, ``problem`` being what is wrong with the whole."""
    if problem:
        return Missing(DAMAGED, f"the guest's record cannot be used: {problem}", remedy)
    if entry is None:
        return Missing(UNKNOWN, NO_RECORD, remedy)
    if entry.state is None:
        reason = f"its entry in the guest's record is damaged: {entry.damage}"
        return Missing(DAMAGED, reason, remedy)
    return entry.state


def _request(sent: State, entry: RecordEntry | None, settings: Configuration, root: str) -> Request:
    """What this host is asked of a device, but for its name."""
    # Without the traits of the source's device its state says nothing about this host's.
    known = None
    if isinstance(sent, ConfigState) and entry is not None and any(entry.traits):
        known = Sent(sent, entry.traits)
    return Request("", root, settings.states, settings.catalogue, settings.open_devices, known)


def _second_opinion(device: GuestDevice, here: State, request: Request) -> ConfigState | None:
    if device.host is None or not isinstance(here, ConfigState):
        return None
    return second_opinion(here, request._replace(name=device.host))


def ask_emulator(path: str, settings: Configuration, deadline: float) -> EmulatorFacts | Missing:
    """What the emulator at ``path`` on this host can do, or why it could not be queried."""
    if not path:
        reason = "the guest's XML names no emulator"
        return Missing(UNKNOWN, reason, "add <emulator> to the guest's <devices>")
    try:
        return emulator_facts(path, cache_dir=settings.cache, deadline=deadline)
    except EmulatorError as error:
        return Missing(UNKNOWN, str(error), "make sure that the emulator runs on this host")

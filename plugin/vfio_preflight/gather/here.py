"""Collects what this host knows about a guest that is to move here.

Reads and asks; judges nothing and writes nothing: what the facts mean is decided in ``judge``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..configuration import Configuration
from ..guest.domain import Guest, GuestDevice
from ..guest.metadata import Record, RecordEntry, RecordError, read_record
from ..guest.traits import Traits, VendorRule
from ..host.sources.request import Request, Sent
from ..host.states import second_opinion, state_of
from ..judge.facts import DeviceFacts, Facts, Refused
from ..osutil.light import TYPE_CHECKING, NamedTuple
from ..osutil.text import printable
from ..pci.state import DAMAGED, UNKNOWN, ConfigState, Missing, State
from ..qemu.emulator.facts import EmulatorError, emulator_facts
from ..qemu.emulator.machines import EmulatorFacts
from ..qemu.emulator.verified import verified_versions

if TYPE_CHECKING:
    from ..qemu.twin.told import Told

NO_RECORD = "the guest carries no record of this device: what the source will send is not known"
# Drivers that check nothing themselves, so that no rule can be about them; "" is one not known.
PLAIN_DRIVERS = {"", "vfio-pci"}
REMEDY_RECORD = "on the source, run: vfio-preflight record {guest}"
# Added where the guest has nothing of ours: what replaces the XML on the way may have dropped it.
REMEDY_XML = (
    "; if it was recorded: XML that is given with --xml, or printed by a hook before this one, must"
    " keep the record's <metadata>, as virsh dumpxml --migratable does"
)
# A restore has no source to run anything on: the image is all there is.
# Short enough for a refusal's first line, which would else have the remedy of a migration.
REMEDY_RESTORE = "restore without --bypass-cache; or: vfio-preflight check --image FILE"


def facts_here(
    guest: Guest,
    settings: Configuration,
    deadline: float,
    source: Mapping[str, State] | None = None,
    destination: Mapping[str, State] | None = None,
    root: str = "/",
    remedy: str = REMEDY_RECORD,
    image_problems: tuple[str, ...] = (),
    builds: bool = True,
) -> Facts:
    """Facts for a move of ``guest`` to this host; ``deadline`` on the ``time.monotonic()`` clock.

    States given in ``source`` or ``destination``, by device key, take the place of those in the
    record and on this host. ``remedy`` is what to do if the source's are not known;
    ``image_problems`` as in :class:`Facts`. ``builds`` is whether the two builds of QEMU are
    compared, where the record has the source's.
    """
    record, problem = record_of(guest)
    if guest.metadata is None and remedy == REMEDY_RECORD:
        remedy += REMEDY_XML
    remedy = remedy.format(guest=guest.name)
    rules, rule_problems = rules_for(guest, record, settings, root)
    asked = _Asked(guest.machine, settings, rules, root)
    devices = []
    for device in guest.devices:
        # dated() adds host and time to the origin, for reports that are read on another host.
        entry = record.dated(device.key)
        # An image's bytes are exactly what QEMU will load; the record is what the device once
        # presented.
        sent = (source or {}).get(device.key) or recorded_state(entry, problem, remedy)
        sent = _with_atomics(sent, entry)
        devices.append(_device(device, entry, sent, (destination or {}).get(device.key), asked))
    facts = Facts(
        guest,
        tuple(devices),
        ask_emulator(guest.emulator, settings, deadline),
        verified_versions(),
        # Reported, as a stray entry may mean that the guest's devices moved to other addresses.
        tuple(sorted(record.entries.keys() - {device.key for device in guest.devices})),
        image_problems,
        settings.evidence,
        rules,
        rule_problems,
        twin=_twin(guest, record, settings),
    )
    if record.build is None or not builds or isinstance(facts.emulator, Missing):
        return facts
    # Imported where a record has something to compare: the hook's start counts.
    from .builds import builds_here

    return facts._replace(builds=builds_here(record.build, guest, settings, deadline))


def _twin(guest: Guest, record: Record, settings: Configuration) -> Told | None:
    """What is known of the guest's twin: most hosts never tried any."""
    if not os.path.isdir(os.path.join(settings.cache, "twins")):
        return None
    from .knowntwins import known_here

    return known_here(guest, record, settings)


def _with_atomics(sent: State, entry: RecordEntry | None) -> State:
    """A stream's state with the AtomicOps of the record: the root port has a section of its own."""
    recorded = entry.state if entry is not None else None
    if isinstance(sent, ConfigState) and sent.evidence == "stream" and recorded is not None:
        return sent._replace(atomics=recorded.atomics)
    return sent


class _Asked(NamedTuple):
    """What every device of a guest is asked about with."""

    machine: str
    settings: Configuration
    rules: tuple[VendorRule, ...]
    root: str


def _device(
    device: GuestDevice, entry: RecordEntry | None, sent: State, given: State | None, asked: _Asked
) -> DeviceFacts:
    """The facts of a device; ``given`` is its state here, if that was given by somebody."""
    settings, root = asked.settings, asked.root
    request = _request(sent, entry, settings, root)
    here = given or state_of(device, "destination", request)
    refused = _refused(asked.machine, device, entry, settings, root)
    facts = DeviceFacts(device, sent, here, entry, refused=refused)
    # A state that was given is meant to replace this host's, so it has neither a second opinion nor
    # traits.
    if given:
        return facts
    return facts._replace(
        second_opinion=_second_opinion(device, here, request),
        parent=_parent(device, sent, here, root),
        traits=_traits(device, entry, asked.rules, root),
    )


def rules_for(
    guest: Guest, record: Record, settings: Configuration, root: str
) -> tuple[tuple[VendorRule, ...], tuple[str, ...]]:
    """The vendors' rules that may concern the guest's devices, and what could not be read."""
    entries = (record.entries.get(device.key) for device in guest.devices)
    drivers = {entry.traits.driver for entry in entries if entry is not None} - PLAIN_DRIVERS
    # Most guests end here, and pay neither for the files nor for the module that reads them.
    if not drivers:
        return (), ()
    from ..host.vendor_rules import read_rules

    found = read_rules(drivers, settings.vendor_rules, root)
    return found.rules, found.problems


def _traits(
    device: GuestDevice, entry: RecordEntry | None, rules: tuple[VendorRule, ...], root: str
) -> Traits:
    """The traits of this host's device, if one of ``rules`` compares them with the source's."""
    if entry is None or device.host is None:
        return Traits()
    # A reminder without a trait compares nothing.
    if not any(rule.trait and rule.concerns(entry.traits) for rule in rules):
        return Traits()
    from ..host.traits import read_traits

    return read_traits(device.host, root)


def record_of(guest: Guest) -> tuple[Record, str]:
    """The guest's record; an empty one, with the reason, if it cannot be used as a whole."""
    try:
        return read_record(guest.metadata) or Record({}), ""
    except RecordError as error:
        return Record({}), str(error)


def recorded_state(entry: RecordEntry | None, problem: str, remedy: str) -> State:
    """The source's state by the guest's record; ``problem`` is why the whole record is unusable."""
    if problem:
        return Missing(DAMAGED, f"the guest's record cannot be used: {problem}", remedy)
    if entry is None:
        return Missing(UNKNOWN, NO_RECORD, remedy)
    if entry.state is None:
        reason = f"its entry in the guest's record is damaged: {entry.damage}"
        return Missing(DAMAGED, reason, remedy)
    return entry.state


def _request(sent: State, entry: RecordEntry | None, settings: Configuration, root: str) -> Request:
    """The request for a device of this host, without its name."""
    # Without the traits of the source's device its state says nothing about this host's.
    # A damaged or missing state cannot be used for an inference; neither can one without traits.
    known = None
    if isinstance(sent, ConfigState) and entry is not None and any(entry.traits):
        known = Sent(sent, entry.traits)
    return Request("", root, settings.states, settings.catalogue, settings.open_devices, known)


def _second_opinion(device: GuestDevice, here: State, request: Request) -> ConfigState | None:
    # A network's VF is not known before the start: there is no device to look at.
    if device.host is None or not isinstance(here, ConfigState):
        return None
    return second_opinion(here, request._replace(name=device.host))


def _parent(device: GuestDevice, sent: State, here: State, root: str) -> str:
    """``vendor:device`` of the destination's physical device, where no state gives it."""
    if device.host is None or isinstance(sent, ConfigState) or isinstance(here, ConfigState):
        return ""
    from ..host.traits import read_traits

    traits = read_traits(device.host, root)
    return f"{traits.vendor}:{traits.device}" if traits.vendor and traits.device else ""


def _refused(
    machine: str, device: GuestDevice, entry: RecordEntry | None, settings: Configuration, root: str
) -> tuple[Refused, ...]:
    """What is known of earlier attempts with devices of the same traits."""
    directory = os.path.join(root, settings.history.lstrip("/"))
    if device.host is None or entry is None or not entry.traits.determined:
        return ()
    # Most hosts never had a refusal.
    if not os.path.isdir(os.path.join(directory, "refused")):
        return ()
    # Imported late, for the same reason.
    from ..host import history
    from ..host.traits import read_traits

    pair = history.Pair(machine, entry.traits, read_traits(device.host, root))
    return tuple(
        Refused(printable(before.line), before.time, name, history.mended(before))
        for name, before in history.refusals_of(directory, pair)
    )


def ask_emulator(path: str, settings: Configuration, deadline: float) -> EmulatorFacts | Missing:
    """What the emulator at ``path`` on this host can do, or why it could not be queried."""
    if not path:
        reason = "the guest's XML names no emulator"
        return Missing(UNKNOWN, reason, "add <emulator> to the guest's <devices>")
    try:
        # The cache makes this cheap; on a first call the emulator is started once.
        return emulator_facts(path, cache_dir=settings.cache, deadline=deadline)
    except EmulatorError as error:
        return Missing(UNKNOWN, str(error), "make sure that the emulator runs on this host")

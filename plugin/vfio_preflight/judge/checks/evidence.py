"""How far the states that a verdict rests on can be trusted."""

from __future__ import annotations

from collections.abc import Iterator

from ...pci.registers import locate
from ...pci.space import identity
from ...pci.state import EVIDENCE, NO_MIGRATION, ConfigState
from ...qemu.model.vfio_pci import Environment, Refusal, compare, realise
from .. import codes
from ..context import Context
from ..facts import DeviceFacts
from ..findings import Finding
from ..undecided import settle

REMEDY_CONTRADICTS = (
    "find out which is right; capture the state again, or remove the file that belongs to another"
    " device"
)
REMEDY_WEAK = "provide better evidence (README, Evidence), or require less: [policy] evidence = {}"
REMEDY_NOT_MIGRATABLE = (
    "bind the source's device to its vendor's VFIO driver and restart the guest, or detach the"
    " device before migrating"
)

# Seconds after QEMU's start within which an entry counts as made at the start: watch may have to
# wait for libvirt, which holds a guest's lock while it starts it.
PROMPT = 60
# Seconds, and the word for them, from the largest.
_UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"))


def is_weaker(state: ConfigState, minimum: str) -> bool:
    """Whether the state's evidence is weaker than ``minimum``, one of :data:`EVIDENCE`."""
    # EVIDENCE lists the grades from the best to the weakest.
    return EVIDENCE.index(state.evidence) > EVIDENCE.index(minimum)


def check_strength(
    source: ConfigState, destination: ConfigState, minimum: str, verdict: str
) -> tuple[Finding, ...]:
    """A finding for each side that is too weak; ``verdict`` is what both together would lead to."""
    sides = (("source", source), ("destination", destination))
    return tuple(
        Finding(
            codes.EVIDENCE_WEAK,
            f"the {side}'s state has evidence {state.evidence}, the policy requires {minimum} or"
            f" better; with this state the verdict would be {verdict}",
            REMEDY_WEAK.format(state.evidence),
        )
        for side, state in sides
        if is_weaker(state, minimum)
    )


def check_evidence(context: Context, facts: DeviceFacts) -> tuple[Finding, ...]:
    """Contradictions between the pieces of evidence on one device, and doubts about a record."""
    return (*_contradictions(facts, context), *_reservations(facts, context))


def _contradictions(facts: DeviceFacts, context: Context) -> Iterator[Finding]:
    """Evidence that contradicts the state that is used."""
    entry = facts.entry
    if isinstance(facts.source, ConfigState) and entry is not None and entry.state is not None:
        if facts.source_is_recorded:
            # The record is the source's state itself, so it cannot contradict it.
            pass
        elif check_age(entry.age):
            # A record that was made late need not be what QEMU read when it started.
            yield from contradictions("source", facts.source, entry.state)
        else:
            # The record was made on the first host, whose QEMU may have added other bytes.
            yield from contradicts_record(facts.source, entry.state, context.sender)
    # A second opinion is only ever of the destination: the source's device is not on this host.
    if isinstance(facts.destination, ConfigState) and facts.second_opinion is not None:
        yield from contradictions("destination", facts.destination, facts.second_opinion)


def _reservations(facts: DeviceFacts, context: Context) -> Iterator[Finding]:
    """Doubts that follow from the record's entry: its age, or the driver's migration support."""
    entry = facts.entry
    # Entries that are not used do not affect the verdict.
    if entry is None or not facts.source_is_recorded or context.is_unplugged_to_migrate:
        return
    yield from check_age(entry.age)
    if entry.migration == NO_MIGRATION:
        # The source's QEMU refuses to migrate or save such a guest (vfio_migration_realize).
        yield Finding(
            codes.DEVICE_NOT_MIGRATABLE,
            "the driver of the source's device does not support migration, by the guest's record"
            " (VFIO_DEVICE_FEATURE_MIGRATION)",
            REMEDY_NOT_MIGRATABLE,
        )


def check_inferred(destination: ConfigState) -> tuple[Finding, ...]:
    """That the destination's state is the source's by assumption."""
    if destination.evidence != "inferred":
        return ()
    text = f"the destination's bytes were not read: they are assumed to be {destination.origin}"
    return (Finding(codes.STATE_INFERRED, text),)


def check_age(age: int | None) -> tuple[Finding, ...]:
    """That a record's entry was made late; ``age`` is that of QEMU's process then, in seconds."""
    if age is None or age <= PROMPT:
        return ()
    text = (
        f"the source's state was recorded {_span(age)} after QEMU started; a change of driver or"
        " firmware before that is not in it"
    )
    return (Finding(codes.RECORD_LATE, text),)


def _span(seconds: int) -> str:
    """A time in the largest unit of which there are two: ``90 minutes``."""
    found = ((seconds // size, unit) for size, unit in _UNITS if seconds >= 2 * size)
    count, unit = next(found, (seconds, "seconds"))
    return f"{count} {unit}"


def contradictions(side: str, used: ConfigState, other: ConfigState) -> tuple[Finding, ...]:
    """What two pieces of evidence of one device disagree in, if they cannot be of one device.

    # A driver update changes VSC bytes, a reset changes status: neither proves another device.
    Only what no driver, firmware or reset changes is compared: IDs, class and size.
    """
    pairs = (
        ("vendor:device", identity(used.config), identity(other.config)),
        ("class", _class(used), _class(other)),
        ("size", f"{len(used.config)} bytes", f"{len(other.config)} bytes"),
    )
    differing = [f"{what} {a} and {b}" for what, a, b in pairs if a != b]
    return (_contradict(side, used, other, ", ".join(differing)),) if differing else ()


def contradicts_record(
    used: ConfigState, record: ConfigState, there: Environment
) -> tuple[Finding, ...]:
    """What the guest's record says against the source's state that is used.

    A stream and a record are both of what the first host's QEMU, in ``there``, made of the device:
    they must be equal in every byte that QEMU compares. Not so for a record by sysfs, which lacks
    what a driver adds.
    """
    found = contradictions("source", used, record)
    # A record by sysfs lacks what the vendor's driver changes in the config space.
    if found or used.evidence != "stream" or record.evidence == "sysfs":
        return found
    # Without the exemption, because the record's VSC must be the stream's as well.
    realised = realise(settle(used, record).destination, there._replace(skip_vsc_check=False))
    # A refusal means that the guest could not have been started with the recorded bytes.
    if isinstance(realised, Refusal):
        reason = f"QEMU would not have realised the recorded one ({realised.reason})"
        return (_contradict("source", used, record, reason),)
    differing = compare(used.config, realised)
    if not differing:
        return ()
    first = differing[0]
    place = locate(realised.config, first.offset)
    others = len(differing) - 1
    more = f" (and {others} more byte{'s' if others > 1 else ''})" if others else ""
    where = f"{place.where}, {place.register}, offset {first.offset:#x}"
    values = f"{first.stream:02x} and {first.device:02x}"
    return (_contradict("source", used, record, f"{where}: {values}{more}"),)


def _contradict(side: str, used: ConfigState, other: ConfigState, difference: str) -> Finding:
    # The difference first: what stands behind may not fit into a refusal's first line.
    text = (
        f"{difference}: two states of the {side}'s device disagree; one is of evidence"
        f" {used.evidence} ({used.origin}), the other of {other.evidence} ({other.origin})"
    )
    return Finding(codes.EVIDENCE_CONTRADICTS, text, REMEDY_CONTRADICTS)


def _class(state: ConfigState) -> str:
    """Class code as ``lspci -n`` prints it, with the programming interface."""
    # Stored low byte first: programming interface, subclass, class (0x09 to 0x0b).
    return state.config[0x09:0x0C][::-1].hex()

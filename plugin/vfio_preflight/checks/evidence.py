"""How far the states that a verdict rests on can be trusted."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..findings import Finding
from ..pci.registers import locate
from ..pci.space import identity
from ..pci.state import EVIDENCE, ConfigState
from ..qemu.vfio_pci import Environment, Refusal, compare, realise

REMEDY_CONTRADICTS = (
    "find out which is right; capture the state again, or take away the file that is not this"
    " device's"
)
REMEDY_WEAK = "provide better evidence (README, Evidence), or demand less: [policy] evidence = {}"


# Seconds after QEMU's start within which an entry counts as made at the start.
PROMPT = 60
# Seconds, and the word for them, from the largest.
_UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"))


def weaker(state: ConfigState, minimum: str) -> bool:
    """Whether the state's evidence is weaker than ``minimum``, one of :data:`EVIDENCE`."""
    return EVIDENCE.index(state.evidence) > EVIDENCE.index(minimum)


def check_strength(
    source: ConfigState, destination: ConfigState, minimum: str, verdict: str
) -> tuple[Finding, ...]:
    """A finding for each side that is too weak; ``verdict`` is what it would come to with them."""
    sides = (("source", source), ("destination", destination))
    return tuple(
        Finding(
            "evidence-weak",
            f"the {side}'s state has evidence {state.evidence}, the policy demands {minimum} or"
            f" better; going by it, the verdict would be {verdict}",
            REMEDY_WEAK.format(state.evidence),
        )
        for side, state in sides
        if weaker(state, minimum)
    )


def check_inferred(destination: ConfigState) -> tuple[Finding, ...]:
    """That the destination's state is the source's by assumption."""
    if destination.evidence != "inferred":
        return ()
    text = f"nobody saw the destination's bytes: they are taken for {destination.origin}"
    return (Finding("state-inferred", text),)


def check_age(facts: Mapping[str, str]) -> tuple[Finding, ...]:
    """That a record's entry was made late; ``facts`` are those it has of the device."""
    age = facts.get("age", "")
    if not re.fullmatch("[0-9]{1,12}", age) or int(age) <= PROMPT:
        return ()
    text = (
        f"the source's state was recorded {_span(int(age))} after QEMU started; a change of driver"
        " or firmware before that is not in it"
    )
    return (Finding("record-late", text),)


def _span(seconds: int) -> str:
    """A time in the largest unit of which there are two: ``90 minutes``."""
    found = ((seconds // size, unit) for size, unit in _UNITS if seconds >= 2 * size)
    count, unit = next(found, (seconds, "seconds"))
    return f"{count} {unit}"


def contradictions(side: str, used: ConfigState, other: ConfigState) -> tuple[Finding, ...]:
    """What two pieces of evidence of one device disagree in, if they cannot be of one device.

    Only what no driver, firmware or reset changes is compared: IDs, class and size.
    """
    pairs = (
        ("vendor:device", identity(used.config), identity(other.config)),
        ("class", _class(used), _class(other)),
        ("size", f"{len(used.config)} bytes", f"{len(other.config)} bytes"),
    )
    told = [f"{what} {a} by one, {b} by the other" for what, a, b in pairs if a != b]
    return (_contradict(side, used, other, "; ".join(told)),) if told else ()


def contradicts_record(
    used: ConfigState, record: ConfigState, there: Environment
) -> tuple[Finding, ...]:
    """What speaks against the source's state that is used, by the guest's record.

    Of a stream and a record both say what the first host's QEMU, around which ``there`` was, made
    of the device: they must agree in every byte that QEMU compares. Not so where the record is by
    sysfs, in which what a driver adds is missing.
    """
    found = contradictions("source", used, record)
    if found or used.evidence != "stream" or record.evidence == "sysfs":
        return found
    realised = realise(record, there._replace(skip_vsc_check=False))
    if isinstance(realised, Refusal):
        told = f"of what the latter has, QEMU would have made no device: {realised.reason}"
        return (_contradict("source", used, record, told),)
    differing = compare(used.config, realised)
    if not differing:
        return ()
    place = locate(realised.config, differing[0].offset)
    more = f", and {len(differing) - 1} more bytes" if len(differing) > 1 else ""
    told = (
        f"{place.where}, {place.register}, offset {differing[0].offset:#x}:"
        f" {differing[0].stream:02x} by one, {differing[0].device:02x} by the other{more}"
    )
    return (_contradict("source", used, record, told),)


def _contradict(side: str, used: ConfigState, other: ConfigState, told: str) -> Finding:
    text = (
        f"the {side}'s state has evidence {used.evidence} ({used.origin}) and {other.evidence}"
        f" ({other.origin}), which contradict each other: {told}"
    )
    return Finding("evidence-contradicts", text, REMEDY_CONTRADICTS)


def _class(state: ConfigState) -> str:
    """Class code as ``lspci -n`` prints it, with the programming interface."""
    return state.config[0x09:0x0C][::-1].hex()

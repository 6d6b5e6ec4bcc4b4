"""How far the states that a verdict rests on can be trusted."""

from __future__ import annotations

from ..findings import Finding
from ..pci.space import identity
from ..pci.state import EVIDENCE, ConfigState

REMEDY_CONTRADICTS = (
    "find out which is right; capture the state again, or take away the file that is not this"
    " device's"
)
REMEDY_WEAK = "provide better evidence (README, Evidence), or demand less: [policy] evidence = {}"


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
    if not told:
        return ()
    text = (
        f"the {side}'s state has evidence {used.evidence} ({used.origin}) and {other.evidence}"
        f" ({other.origin}), which contradict each other: {'; '.join(told)}"
    )
    return (Finding("evidence-contradicts", text, REMEDY_CONTRADICTS),)


def _class(state: ConfigState) -> str:
    """Class code as ``lspci -n`` prints it, with the programming interface."""
    return state.config[0x09:0x0C][::-1].hex()

"""Two builds of QEMU: what one made of the source's device is loaded by another.

The source's QEMU realised the device, by its own version's behaviour; the destination's says what
is compared. Where the two make different bytes of one and the same device, it is no driver's fault,
and equal drivers are no remedy.

Source: ``qemu.model.versions``, which lists what releases do differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ...pci.state import ConfigState
from ...qemu.emulator.machines import parse_machine_name
from ...qemu.model.values import Environment, Refusal
from ...qemu.model.versions import behaviours
from .. import codes
from ..context import Context
from ..findings import FAIL, PASS, Finding
from .config_space import Verdict, stream_of
from .machine import FIRST_WITH_MIGRATION

REMEDY_BUILDS = (
    "choose a host whose QEMU is of the source's release, or restart the guest there: no driver and"
    " no setting changes this"
)
REMEDY_UNKNOWN = (
    "record the guest again on the source (vfio-preflight record); or name its QEMU, where there is"
    " a choice (compare --source-emulator)"
)
Judge = Callable[[Environment], Verdict]


def check_builds(
    context: Context, source: ConfigState, destination: ConfigState, judge: Judge
) -> Verdict:
    """``judge``'s verdict with the source's environment, and what is due to the two hosts.

    ``judge`` compares the two states for the environment that it is given on the source.
    """
    found = _by_builds(context, source, destination, judge)
    # The same root ports, on most hosts without AtomicOps.
    if source.atomics == destination.atomics and context.sender == context.environment:
        return found
    from .atomics import with_atomics

    return with_atomics(found, context, source, destination)


def _by_builds(
    context: Context, source: ConfigState, destination: ConfigState, judge: Judge
) -> Verdict:
    found = judge(context.sender)
    # A stream is there already, whatever QEMU made it.
    if source.evidence == "stream":
        return found
    if not context.sender_version:
        return found._replace(
            findings=(*found.findings, *_undecided(context, source, destination, found, judge))
        )
    if context.sender == context.environment:
        return found
    theirs, ours = (stream_of(source, each) for each in (context.sender, context.environment))
    if theirs == ours:
        return found
    found = _explained(found, judge(context.environment), context)
    if context.sender_is_here:
        return found
    # The destination's binary would not send this: a trial is given it as a recorded stream.
    if isinstance(theirs, Refusal):
        return found._replace(prediction=None)
    origin = f"{source.origin}, as QEMU {context.sender_version} sends it"
    sent = ConfigState(theirs, source.bars, "stream", origin, source.atomics)
    return found._replace(sent=sent)


def _explained(found: Verdict, alike: Verdict, context: Context) -> Verdict:
    """``found``, saying that the builds are the cause where one build for both would do."""
    if not _fails(found) or _fails(alike) or found.prediction is None:
        return found
    here = context.emulator.version if context.emulator else "there"
    builds = f"QEMU {context.sender_version} and QEMU {here} make different bytes of one device"

    def told(finding: Finding) -> Finding:
        if finding.code is not codes.CONFIG_DIFFERS:
            return finding
        return finding._replace(
            code=codes.BUILDS_DIFFER, text=f"{finding.text}: {builds}", remedy=REMEDY_BUILDS
        )

    prediction = found.prediction._replace(findings=tuple(map(told, found.prediction.findings)))
    return found._replace(findings=tuple(map(told, found.findings)), prediction=prediction)


def _fails(judged: Verdict) -> bool:
    return any(finding.code is codes.CONFIG_DIFFERS for finding in judged.findings)


def _undecided(
    context: Context, source: ConfigState, destination: ConfigState, found: Verdict, judge: Judge
) -> Iterator[Finding]:
    """That the verdict hangs on the release of the source's QEMU, which is not known."""
    assumed = _outcomes(found)
    if assumed is None:
        return
    target = context.emulator.target if context.emulator else ""
    theirs = stream_of(source, context.sender)
    for version, behaviour in behaviours(_oldest(context.guest.machine), target):
        sender = context.sender._replace(behaviour=behaviour)
        # Most states are the same to all releases, and then there is nothing to judge again.
        if stream_of(source, sender) == theirs:
            continue
        other = _outcomes(judge(sender))
        # None: a guest that runs cannot be of a release that does not realise its device.
        if other is not None and other != assumed:
            yield Finding(
                codes.SOURCE_EMULATOR_UNKNOWN,
                "which QEMU runs the guest on the source is not known, and the verdict depends on"
                f" it: {_words(assumed)} if it is of the destination's release, {_words(other)} if"
                f" it is like QEMU {version}",
                REMEDY_UNKNOWN,
            )
            return


def _oldest(machine: str) -> str:
    """The oldest release that can run a guest of this machine type with VFIO devices to migrate."""
    name = parse_machine_name(machine)
    # Distributors have their own numbers, from which nothing follows.
    own = name.version if not name.vendor else ()
    return ".".join(map(str, max(own, FIRST_WITH_MIGRATION)))


def _outcomes(judged: Verdict) -> tuple[str, ...] | None:
    """What QEMU does with the stream; None where there is none."""
    outcomes = judged.prediction.outcomes if judged.prediction else ()
    return outcomes if outcomes and set(outcomes) <= {PASS, FAIL} else None


def _words(outcomes: tuple[str, ...]) -> str:
    return "/".join(outcomes)

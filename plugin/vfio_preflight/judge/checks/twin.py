"""What came of the guest's twin: the whole machine, saved by one QEMU and loaded by the other.

A refusal is exact, as the destination's QEMU itself refused; what was accepted is what was in the
twin, of a machine that never ran.
"""

from __future__ import annotations

from ...qemu.twin.told import (
    ACCEPTED,
    BLOCKED,
    CRASHED,
    HUNG,
    LOST,
    NOT_RUN,
    OUTDATED,
    REFUSED,
    UNMADE,
    Told,
)
from .. import codes
from ..findings import Finding

_ENDS = {
    REFUSED: "refuses",
    CRASHED: "crashes on",
    HUNG: "does not come to an end with",
}
REMEDY_REFUSED = (
    "make what QEMU names alike on both hosts (QEMU's build, option ROMs, firmware, what a wrapper"
    " or <qemu:commandline> sets), or choose another destination; or restart the guest there"
)
REMEDY_BLOCKED = "detach the device before migrating, or move the guest by a restart"
REMEDY_UNMADE = (
    "choose a destination whose QEMU has what the line names; or, if the guest does not need it,"
    " start it anew with a libvirt as new as the destination's"
)
REMEDY_OUTDATED = (
    "compare what the guest was started with (option ROMs, firmware) with what the destination has;"
    " if they are alike, migrate"
)
REMEDY_LOST = "do not migrate the guest, nor save it: move it by a shutdown and a start"
# In a sentence; the whole list is a finding of its own, for who asks.
_LISTED = 3


def check_twin(twin: Told) -> tuple[Finding, ...]:
    """The finding on what is known of the guest's twin; none where it was not tried."""
    when = f" (tried at {twin.time})" if twin.time else ""
    sent = f"the guest's twin that {twin.source} saved{when}"
    if twin.outcome == ACCEPTED:
        text = f"{twin.destination} loads {sent}{_without(twin)}"
        return (Finding(codes.TWIN_ACCEPTED, text),)
    if twin.outcome == BLOCKED:
        text = f'{twin.source} refuses to send the guest\'s twin{when}: "{twin.line}"'
        return (Finding(codes.TWIN_BLOCKED, text, REMEDY_BLOCKED),)
    if twin.outcome == LOST:
        text = (
            f"{twin.source} crashes as it sends the guest's twin{when}, and would end with the"
            f' guest: "{twin.line}"'
        )
        return (Finding(codes.TWIN_BLOCKED, text, REMEDY_LOST),)
    if twin.outcome == UNMADE:
        text = (
            f"{twin.destination} does not make the guest's twin{when} of the arguments that the"
            f' source\'s libvirt gave, where its own may give others: "{twin.line}"'
        )
        return (Finding(codes.TWIN_UNDECIDED, text, REMEDY_UNMADE),)
    if twin.outcome == OUTDATED:
        text = (
            f'{twin.destination} refuses {sent}: "{twin.line}"; but on the source a file changed'
            " since the guest started"
        )
        return (Finding(codes.TWIN_UNDECIDED, text, REMEDY_OUTDATED),)
    if twin.outcome not in _ENDS:
        return ()
    where = f" (of {twin.device})" if twin.device else ""
    text = f'{twin.destination} {_ENDS[twin.outcome]} {sent}: "{twin.line}"{where}'
    return (Finding(codes.TWIN_REFUSED, text, REMEDY_REFUSED),)


def told_more(twin: Told) -> tuple[Finding, ...]:
    """What is told only to who asked for the twin: that it was not tried, what was not in it."""
    found = []
    if twin.outcome == NOT_RUN:
        found.append(Finding(codes.TWIN_NOT_RUN, f"the guest's twin was not tried: {twin.line}"))
    if twin.uncovered:
        text = f"not in the guest's twin: {'; '.join(twin.uncovered)}"
        found.append(Finding(codes.TWIN_UNCOVERED, text))
    return tuple(found)


def _without(twin: Told) -> str:
    if not twin.uncovered:
        return ""
    names = [text.partition(":")[0] for text in twin.uncovered]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"; not in it: {', '.join(names[:_LISTED])}{more}"

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
from ..code import Code
from ..findings import Finding

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


_THERE, _HERE = "the destination's QEMU", "the source's QEMU"
# By outcome: the code, what is said first, and what to do.
_SAID: dict[str, tuple[Code, str, str]] = {
    ACCEPTED: (codes.TWIN_ACCEPTED, f"{_THERE} loads the guest's twin", ""),
    REFUSED: (codes.TWIN_REFUSED, f"{_THERE} refuses the guest's twin", REMEDY_REFUSED),
    CRASHED: (codes.TWIN_REFUSED, f"{_THERE} crashes on the guest's twin", REMEDY_REFUSED),
    HUNG: (
        codes.TWIN_REFUSED,
        f"{_THERE} does not come to an end with the guest's twin",
        REMEDY_REFUSED,
    ),
    UNMADE: (codes.TWIN_UNDECIDED, f"{_THERE} does not make the guest's twin", REMEDY_UNMADE),
    OUTDATED: (codes.TWIN_UNDECIDED, f"{_THERE} refuses the guest's twin", REMEDY_OUTDATED),
    BLOCKED: (codes.TWIN_BLOCKED, f"{_HERE} refuses to send the guest's twin", REMEDY_BLOCKED),
    LOST: (
        codes.TWIN_BLOCKED,
        f"{_HERE} crashes as it sends the guest's twin, and would end with the guest",
        REMEDY_LOST,
    ),
}
_BUT = {
    UNMADE: "; of the arguments that the source's libvirt gave, where its own may give others",
    OUTDATED: "; but on the source a file changed since the guest started",
}


def check_twin(twin: Told) -> tuple[Finding, ...]:
    """The finding on what is known of the guest's twin; none where it was not tried."""
    if twin.outcome not in _SAID:
        return ()
    code, said, remedy = _SAID[twin.outcome]
    # QEMU's line first: of a long text a refusal's first line has the beginning.
    line = f': "{twin.line}"' if twin.line else ""
    where = f" (of {twin.device})" if twin.device else ""
    by = f"; {twin.destination}, of what {twin.source} saved" if twin.destination else ""
    by = by or f"; {twin.source}"
    when = f", tried at {twin.time}" if twin.time else ""
    but = _BUT.get(twin.outcome, "")
    without = _without(twin) if twin.outcome == ACCEPTED else ""
    return (Finding(code, f"{said}{line}{where}{but}{by}{when}{without}", remedy),)


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

"""What the end of a twin's half stands for: QEMU's verdict, or nothing at all.

A twin is QEMU with replaced back ends, on a host that may be short of anything. What it says of
those is no verdict on the guest: only of what is the guest's own is a refusal believed.
"""

from __future__ import annotations

import re
import signal

from ..emulator.client import Emulator, signal_name
from .told import CRASHED, HUNG, NOT_RUN, REFUSED

NOTHING = "it says nothing"
# What QEMU puts before its lines; and lines that are not why it ended.
_PROGRAM = r"^[^ ]*qemu[^ ]*: "
_NO_CAUSE = r"(?i)\bwarning:|^fakevfio: "
# A machine that is not realised: what QEMU says of the guest's own options begins with them, as
# error_report() with a location does.
_OWN = (
    r"-(device|machine|M|cpu|smp|global|set|numa) "
    r"|.*unsupported machine type|.*unable to find CPU model|.*Property '"
)
# There and elsewhere: what is the twin's, or the host's.
_NOT_OWN = (
    r"(?i)null-co|hubport|synth|rng-builtin|cryptodev-backend-builtin|memory-backend-ram"
    r"|\btcg\b|\bkvm\b|allocate|out of memory|too many open|module|fakevfio|vfio-preflight-"
)
_CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
# Seconds of processor time without an end: a machine with many processors takes one or two.
_HUNG_AFTER = 10.0


def end_of(emulator: Emulator, came_up: bool) -> tuple[str, str]:
    """Outcome and line of a destination's half that did not load the state.

    ``came_up`` is whether its machine was realised.
    """
    line = why(emulator)
    if emulator.status is None:
        # By processor time and not by the clock: on a busy host it may just not have run.
        if emulator.cpu_seconds() >= _HUNG_AFTER:
            return HUNG, "it did not come to an end in time, and was stopped"
        return NOT_RUN, "it did not come to an end in time, and was stopped"
    if emulator.status < 0:
        return _killed(-emulator.status, line)
    if came_up or (re.match(_OWN, line) and not re.search(_NOT_OWN, line)):
        return REFUSED, line
    return NOT_RUN, line


def why(emulator: Emulator) -> str:
    """QEMU's own line: the one that names the cause, or else its answer."""
    found = next((line for line in emulator.stderr.splitlines() if _is_cause(line)), "")
    if found:
        return re.sub(_PROGRAM, "", found)
    for reply in emulator.replies:
        if "error" in reply:
            return str(reply["error"].get("desc", reply["error"]))
    return NOTHING


def _killed(number: int, line: str) -> tuple[str, str]:
    # RLIMIT_CPU has run out.
    if number == signal.SIGXCPU:
        return HUNG, "it did not come to an end in time, and was stopped"
    name = signal_name(-number)
    told = f"killed by {name}" if line == NOTHING else f"{line} ({name})"
    return (CRASHED if number in _CRASHES else NOT_RUN), told


def _is_cause(line: str) -> bool:
    return bool(line.strip()) and not re.search(_NO_CAUSE, line)

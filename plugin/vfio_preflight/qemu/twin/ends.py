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
# Whenever it is: somebody ended QEMU, which then exits by itself; or the host is short of memory.
_ENDED = "terminating on signal "
_SHORT = r"(?i)(?:cannot|failed to) allocate|out of memory"
_CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
# RLIMIT_CPU, in seconds; and how many of them without an end are a hang. A state is loaded in less
# than one.
CPU = 20
_HUNG_AFTER = 10.0


def end_of(emulator: Emulator, up_after: float | None) -> tuple[str, str]:
    """Outcome and line of a destination's half that did not load the state.

    ``up_after`` is the processor time in seconds after which its machine was there; None where it
    never was. To realise a machine takes the longer the more devices there are, twenty seconds for
    hundreds, so that only what comes after counts as a hang.
    """
    line = why(emulator)
    if emulator.status is None:
        # By processor time and not by the clock: on a busy host it may just not have run.
        return _unended(emulator.cpu_seconds(), up_after)
    if emulator.status == -signal.SIGXCPU:
        return _unended(CPU, up_after)
    if emulator.status < 0:
        return _killed(-emulator.status, line)
    if line.startswith(_ENDED) or re.search(_SHORT, line):
        return NOT_RUN, line
    if up_after is not None or (re.match(_OWN, line) and not re.search(_NOT_OWN, line)):
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


def _unended(seconds: float, up_after: float | None) -> tuple[str, str]:
    hung = up_after is not None and seconds - up_after >= _HUNG_AFTER
    return (HUNG if hung else NOT_RUN), "it did not come to an end in time, and was stopped"


def _killed(number: int, line: str) -> tuple[str, str]:
    name = signal_name(-number)
    told = f"killed by {name}" if line == NOTHING else f"{line} ({name})"
    # GLib ends a process that gets no memory as a failed assertion does.
    crashed = number in _CRASHES and not re.search(_SHORT, line)
    return (CRASHED if crashed else NOT_RUN), told


def _is_cause(line: str) -> bool:
    return bool(line.strip()) and not re.search(_NO_CAUSE, line)

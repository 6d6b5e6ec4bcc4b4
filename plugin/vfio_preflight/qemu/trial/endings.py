"""What the end of an emulator says of the device it was given."""

from __future__ import annotations

import signal

from ...osutil.light import NamedTuple
from ..emulator.client import Emulator, ProcessError, signal_name

OUTCOMES = (PASS, FAIL, ERROR, ABORT, CRASH, HANG) = (
    *("pass", "fail", "error", "abort", "crash", "hang"),
)
DEVICE = "0000:01:00.0"  # a trial's made-up device, by its name on the host

_TAIL = 4000  # bytes of standard error that a result keeps
_SHIM = "fakevfio: "
_MISMATCH = "get_pci_config_device: "
_ENDED = ": terminating on signal "
_HANGS_AFTER = 1.0  # seconds of processor time without coming to an end; realising takes 0.05


class Result(NamedTuple):
    """What QEMU did.

    ``outcome`` is one of :data:`OUTCOMES`; with ``error``, ``abort``, ``crash`` and ``hang``,
    ``side`` is whose state it was (``source`` or ``destination``). ``line`` is the line that
    names the first mismatch, or else what QEMU says first; ``stderr`` the end of what it wrote.
    """

    outcome: str
    side: str = ""
    line: str = ""
    stderr: str = ""


def refusal(emulator: Emulator, side: str, device: str = DEVICE) -> Result:
    """The verdict of an emulator that came to no machine with this ``device``.

    Raises ``ProcessError`` where it ended for a reason that is not the device's config state: QEMU
    names the device in whatever it says of that, as ``vfio 0000:01:00.0: failed to add …``. What
    the shim refuses to make up QEMU reports in the same way.
    """
    outcome = _outcome(emulator)
    shim = next((line for line in emulator.stderr.splitlines() if line.startswith(_SHIM)), "")
    # Before everything else: what QEMU makes of a device that it was not given is no verdict.
    if shim:
        raise ProcessError(f"was not given the device: {shim}")
    text = _refusal_text(emulator.stderr, device)
    # Without its IOMMU group the device was not even opened.
    if outcome == ERROR and (not text or "iommu_group" in text):
        raise ProcessError(f"ends before the device is tried: {complaint(emulator)}")
    return Result(outcome, side, text, emulator.stderr[-_TAIL:])


def load_result(receiver: Emulator) -> Result:
    """The verdict of an emulator that did not complete a migration."""
    outcome = _outcome(receiver)
    # The byte is the cause; the lines behind it only say that loading failed.
    line = mismatch_line(receiver.stderr) or _first_complaint(receiver.stderr)
    side = "" if outcome == ERROR else "destination"
    return Result(FAIL if outcome == ERROR else outcome, side, line, receiver.stderr[-_TAIL:])


def mismatch_line(stderr: str) -> str:
    """The first line that names a mismatch, without what QEMU puts before it."""
    found = (line.partition(_MISMATCH) for line in stderr.splitlines())
    return next((mark + text for _, mark, text in found if mark), "")


def is_mismatch(line: str) -> bool:
    """Whether a line is one that :func:`mismatch_line` gives."""
    return line.startswith(_MISMATCH)


def _first_complaint(stderr: str) -> str:
    # Warnings precede the reason and do not end QEMU.
    lines = [line for line in stderr.splitlines() if line and "warning:" not in line]
    return lines[0].partition("qemu-system-")[2].partition(": ")[2] or lines[0] if lines else ""


_BY_SIGNAL = {
    # RLIMIT_CPU, which the shim sets from within, has run out.
    signal.SIGXCPU: HANG,
    signal.SIGABRT: ABORT,
    signal.SIGSEGV: CRASH,
    signal.SIGBUS: CRASH,
    signal.SIGILL: CRASH,
    signal.SIGFPE: CRASH,
}


def _outcome(emulator: Emulator) -> str:
    """``error`` for an exit, and what a signal or no end at all stand for."""
    if emulator.status is None:
        # By processor time and not by the clock: on a busy host an emulator may just not have run.
        if emulator.cpu_seconds() < _HANGS_AFTER:
            raise ProcessError("did not finish in time")
        return HANG
    if emulator.status >= 0:
        # By SIGTERM, SIGINT or SIGHUP QEMU is ended by itself, with status 0.
        ended = next((text for text in emulator.stderr.splitlines() if _ENDED in text), "")
        if ended:
            raise ProcessError(f"was ended: {ended.partition(': ')[2]}")
        return ERROR
    outcome = _BY_SIGNAL.get(-emulator.status)  # type: ignore[call-overload]
    if outcome is None:
        raise ProcessError(f"was killed by {signal_name(emulator.status)}")
    return str(outcome)


def _refusal_text(stderr: str, device: str) -> str:
    """What QEMU says of the device, or the assertion that failed."""
    for line in stderr.splitlines():
        _, found, text = line.partition(f": vfio {device}: ")
        if found:
            return text
    # The message of a failed assertion names no device.
    return next((line for line in stderr.splitlines() if "Assertion" in line), "")


def complaint(emulator: Emulator) -> str:
    """What an emulator gives for a reason, in one line."""
    for reply in emulator.replies:
        if "error" in reply:
            return str(reply["error"].get("desc", reply["error"]))
    lines = [line for line in emulator.stderr.splitlines() if "warning:" not in line]
    return lines[-1][-300:] if lines else _silent_end(emulator.status)


def _silent_end(status: int | None) -> str:
    """What became of an emulator that gives no reason; ``status`` as :class:`Emulator` has it."""
    if status is None:
        return "it says nothing, and was still running"
    if status == -signal.SIGXCPU:
        return "it took all the processor time that it may take"
    if status < 0:
        return f"it was killed by {signal_name(status)}"
    return f"it says nothing (exit status {status})"

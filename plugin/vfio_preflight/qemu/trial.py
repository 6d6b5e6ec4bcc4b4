"""The trial: the destination's own emulator judges, without guest, hardware or privilege.

    >>> setting = Setting("pc-q35-9.0", "vfio-pci", Environment("root-port"))
    >>> trial(source, destination, setting, executable, deadline=time.monotonic() + 5).line
    'get_pci_config_device: Bad config data: i=0x63 read: a1 device: f1 cmask: ff wmask: 0 …'

Two processes of one binary make a real migration of a guest that never ran: one realises the
source's config state and sends it, the other realises the destination's and loads what it is sent.
Both are given a made-up VFIO device by ``fakevfio.c``. Patching bytes into a stream made once would
save the first process. But the two start side by side, and this way nothing is left to believe: the
bytes are what QEMU itself makes of the source's state, in the sections that this very build writes,
and the verdict is the one libvirt would get.

A recorded stream (evidence ``stream``) is already what a QEMU made. There the sender presents the
destination's state, and the recorded bytes take the place of the config space it sent.

The sender is the *destination's* binary, and stands in for the source's: ``qemu.versions`` lists
the releases that make something else of a config state.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..errors import PreflightError
from ..pci.state import ConfigState
from .executable import EmulatorError, Executable
from .process import Emulator, ProcessError, signal_name, wait
from .quirks import is_intel_vga
from .shim import ShimError
from .workbench import Limits, Setting, Workbench, arguments, workbench

OUTCOMES = (PASS, FAIL, ERROR, ABORT, CRASH, HANG) = (
    *("pass", "fail", "error", "abort", "crash", "hang"),
)
DEVICE = "0000:01:00.0"  # the made-up device's name on the host

_MAX_STREAM = 64 << 20  # bytes; it has 330 kB
_POLL = 0.002  # seconds
_TAIL = 4000  # bytes of standard error that a result keeps
_MISMATCH = "get_pci_config_device: "
_HANGS_AFTER = 1.0  # seconds of processor time without coming to an end; realising takes 0.05


class TrialUnavailable(PreflightError):
    """No verdict could be had: nothing has been found out about the config states."""


class Result(NamedTuple):
    """What QEMU did.

    ``outcome`` is one of :data:`OUTCOMES`; with ``error``, ``abort``, ``crash`` and ``hang``,
    ``side`` tells whose state it was (``source`` or ``destination``). ``line`` is the line that
    names the first mismatch, or else what QEMU says first; ``stderr`` the end of what it wrote.
    """

    outcome: str
    side: str = ""
    line: str = ""
    stderr: str = ""


def trial(
    source: ConfigState,
    destination: ConfigState,
    setting: Setting,
    executable: Executable,
    *,
    deadline: float,
    source_setting: Setting | None = None,
    library: str | None = None,
    limits: Limits | None = None,
) -> Result:
    """Let ``executable`` load the source's config state into the destination's device.

    ``deadline`` is on the clock of ``time.monotonic()``. ``source_setting`` is for a source whose
    properties differ. ``library`` is the compiled shim, by default the installed one.

    Raises :class:`TrialUnavailable` where there is no shim; where the emulator does not start,
    knows no such machine type, device or property, or cannot migrate a VFIO device at all (QEMU
    before 8.0); and where it has not come to an end in time.
    """
    try:
        with workbench(library) as place:
            settings = (source_setting or setting, setting)
            run = _Trial(place, settings, executable, deadline, limits or Limits())
            return run.verdict(source, destination)
    except (EmulatorError, ProcessError, ShimError, OSError) as error:
        raise TrialUnavailable(f"no trial of {executable.path}: {error}") from error


class _Trial:
    """One trial; its members are what all of its steps share."""

    def __init__(
        self,
        place: Workbench,
        settings: tuple[Setting, Setting],
        executable: Executable,
        deadline: float,
        limits: Limits,
    ) -> None:
        self.place, self.executable = place, executable
        self.source_setting, self.setting = settings
        self.deadline, self.limits = deadline, limits

    def verdict(self, source: ConfigState, destination: ConfigState) -> Result:
        if self.setting.environment.mdev and is_intel_vga(destination.config):
            raise ProcessError("an mdev of Intel graphics has an OpRegion, which is not made up")
        recorded = source.evidence == "stream"
        with contextlib.ExitStack() as ends:
            ours, theirs = map(ends.enter_context, socket.socketpair())
            listener = ends.enter_context(_listener(self.place))
            receiver = self._start("destination", destination, theirs.fileno())
            ends.enter_context(receiver)
            sender = self._start("source", destination if recorded else source)
            ends.enter_context(sender)
            theirs.close()
            for emulator, side in ((receiver, "destination"), (sender, "source")):
                if not self._realises(emulator, (receiver, sender)):
                    return refusal(emulator, side)
            stream = self._send(sender, listener)
            if recorded:
                stream = _replaced(stream, len(destination.config), source.config)
            return self._load(receiver, ours, stream)

    def _start(self, side: str, state: ConfigState, incoming: int = -1) -> Emulator:
        setting = self.setting if incoming >= 0 else self.source_setting
        device = self.place.add_device(side, DEVICE, state, setting)
        options = arguments([(device, setting)], self.place.directory)
        if incoming < 0:
            return self.place.start(self.executable, options, side, self.limits)
        options += ["-incoming", f"fd:{incoming}"]
        return self.place.start(self.executable, options, side, self.limits, [incoming])

    def _realises(self, emulator: Emulator, all_of_them: Sequence[Emulator]) -> bool:
        """Wait until the machine is there, with its device."""
        emulator.send("qmp_capabilities")
        wait(lambda: emulator.ended or emulator.replies, all_of_them, self.deadline)
        return bool(emulator.replies)

    def _send(self, sender: Emulator, listener: socket.socket) -> bytes:
        """The whole stream that the source sends."""
        reply = sender.ask("migrate", self.deadline, uri=f"unix:{listener.getsockname()}")
        if reply is None or "error" in reply:
            raise ProcessError(f"does not migrate the device: {complaint(sender)}")
        listener.settimeout(self._remaining())
        connection = listener.accept()[0]
        with connection:
            connection.settimeout(self._remaining())
            return b"".join(_chunks(connection))

    def _load(self, receiver: Emulator, to: socket.socket, stream: bytes) -> Result:
        to.settimeout(self._remaining())
        # Where it stops reading, it has read enough to fail, or hangs: what follows tells.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, socket.timeout):
            to.sendall(stream)
            to.shutdown(socket.SHUT_WR)
        while True:
            reply = receiver.ask("query-migrate", self.deadline)
            if reply is None:
                return _loaded(receiver)
            if reply.get("return", {}).get("status") == "completed":
                return Result(PASS, stderr=receiver.stderr[-_TAIL:])
            time.sleep(_POLL)

    def _remaining(self) -> float:
        return max(0.01, self.deadline - time.monotonic())


@contextlib.contextmanager
def _listener(place: Workbench) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        path = os.path.join(place.directory, "stream")
        listener.bind(path)
        listener.listen(1)
        place.give(path)
        yield listener


def _chunks(connection: socket.socket) -> Iterator[bytes]:
    total = 0
    while True:
        chunk = connection.recv(1 << 20)
        total += len(chunk)
        if not chunk:
            return
        if total > _MAX_STREAM:
            raise ProcessError(f"sends more than {_MAX_STREAM >> 20} MiB of a guest of 16 MiB")
        yield chunk


# VFIO_MIG_FLAG_DEV_CONFIG_STATE and the version of vmstate_pci_device precede configuration space.
_CONFIG_FOLLOWS = struct.pack(">QI", 0xFFFFFFFFEF100002, 2)


def _replaced(stream: bytes, size: int, config: bytes) -> bytes:
    """The stream with ``config`` in place of the ``size`` bytes of configuration space in it.

    The guest never ran, so its memory has nothing that could be taken for the tag.
    """
    head, tag, rest = stream.partition(_CONFIG_FOLLOWS)
    if not tag:
        raise ProcessError("sends no configuration space")
    return head + tag + config + rest[size:]


# --- what an emulator's end means -----------------------------------------------------------------


def refusal(emulator: Emulator, side: str, device: str = DEVICE) -> Result:
    """The verdict of an emulator that came to no machine with this ``device``.

    Raises ``ProcessError`` where it ended for a reason that is not the device's config state: QEMU
    names the device in whatever it says of that, as ``vfio 0000:01:00.0: failed to add …``.
    """
    outcome = _outcome(emulator)
    text = _refusal_text(emulator.stderr, device)
    if outcome == ERROR and (not text or "iommu_group" in text):
        raise ProcessError(f"ends before the device is tried: {complaint(emulator)}")
    return Result(outcome, side, text, emulator.stderr[-_TAIL:])


def _loaded(receiver: Emulator) -> Result:
    """The verdict of an emulator that did not complete a migration."""
    outcome = _outcome(receiver)
    line = mismatch_line(receiver.stderr) or _first_complaint(receiver.stderr)
    side = "" if outcome == ERROR else "destination"
    return Result(FAIL if outcome == ERROR else outcome, side, line, receiver.stderr[-_TAIL:])


def mismatch_line(stderr: str) -> str:
    """The first line that names a mismatch, without what QEMU puts before it."""
    found = (line.partition(_MISMATCH) for line in stderr.splitlines())
    return next((mark + text for _, mark, text in found if mark), "")


def _first_complaint(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line and "warning:" not in line]
    return lines[0].partition("qemu-system-")[2].partition(": ")[2] or lines[0] if lines else ""


_BY_SIGNAL = {
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
        if emulator.cpu_seconds() < _HANGS_AFTER:
            raise ProcessError("has not come to an end in time")
        return HANG
    if emulator.status >= 0:
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
    return next((line for line in stderr.splitlines() if "Assertion" in line), "")


def complaint(emulator: Emulator) -> str:
    """What an emulator gives for a reason, in one line."""
    for reply in emulator.replies:
        if "error" in reply:
            return str(reply["error"].get("desc", reply["error"]))
    lines = [line for line in emulator.stderr.splitlines() if "warning:" not in line]
    return lines[-1][-300:] if lines else "it says nothing"

"""The trial: the destination's own emulator judges, without guest, hardware or privilege.

    >>> setting = Setting("pc-q35-9.0", "vfio-pci", Environment("root-port"))
    >>> trial(source, destination, setting, executable, deadline=time.monotonic() + 5).line
    'get_pci_config_device: Bad config data: i=0x63 read: a1 device: f1 cmask: ff wmask: 0 …'

Two processes of one binary make a real migration of a guest that never ran: one realises the
source's config state and sends it, the other realises the destination's and loads what it is sent.
Both are given a made-up VFIO device by ``fakevfio.c``. Patching bytes into a stream made once would
save the first process. But that is cheap, and this way nothing is left to believe: the bytes are
what QEMU itself makes of the source's state, in the sections that this very build writes, and the
verdict is the one libvirt would get. The destination's goes first: if it hangs, that is the answer,
and nobody contends for the processor with it.

A recorded stream (evidence ``stream``) is already what a QEMU made. There the sender presents the
destination's state, and the recorded bytes take the place of the config space it sent.

The sender is the source's binary where that is at hand. Else the *destination's* stands in for it:
``qemu.model.versions`` lists the releases that make something else of a config state, and what the
model makes of it by the source's release can be given as a recorded stream.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Sequence

from ...errors import PreflightError
from ...osutil.executable import Executable, ExecutableError
from ...pci.state import Bar, ConfigState
from ..emulator.client import Emulator, ProcessError, wait
from ..model.quirks import is_intel_vga
from .endings import (
    ABORT,
    CRASH,
    DEVICE,
    ERROR,
    FAIL,
    HANG,
    OUTCOMES,
    PASS,
    Result,
    complaint,
    is_mismatch,
    load_result,
    refusal,
)
from .shim import ShimError
from .stream import with_config, without_processors
from .workbench import Limits, Setting, Workbench, arguments, workbench

__all__ = [
    "ABORT",
    "CRASH",
    "DEVICE",
    "ERROR",
    "FAIL",
    "HANG",
    "OUTCOMES",
    "PASS",
    "Result",
    "TrialUnavailable",
    "trial",
]

_MAX_STREAM = 64 << 20  # bytes; it has 330 kB
_POLL = 0.002  # seconds

# A conventional PCI device that every QEMU takes.
# Vendor 1234 is QEMU's own: no quirk of hw/vfio is for it.
_PLAIN = ConfigState(
    b"\x34\x12\x01\0\0\0\0\0\0\0\0\x02".ljust(256, b"\0"),
    (Bar(0, 0x1000, "mem32"),),
    "file",
    "made up",
)


class TrialUnavailable(PreflightError):
    """No verdict could be had: nothing has been found out about the config states."""


def trial(
    source: ConfigState,
    destination: ConfigState,
    setting: Setting,
    executable: Executable,
    *,
    deadline: float,
    source_setting: Setting | None = None,
    sender: Executable | None = None,
    library: str | None = None,
    limits: Limits | None = None,
    control: bool = True,
) -> Result:
    """Let ``executable`` load the source's config state into the destination's device.

    ``deadline`` is on the clock of ``time.monotonic()``. ``source_setting`` is for a source whose
    properties differ, ``sender`` for one with a QEMU of its own. ``library`` is the compiled shim,
    by default the installed one. With ``control``, a refusal is believed only of an emulator that
    takes a plain device there.

    Raises :class:`TrialUnavailable` where there is no shim; where the emulator does not start,
    knows no such machine type, device or property, or cannot migrate a VFIO device at all (QEMU
    before 8.0); and where it has not come to an end in time.
    """
    try:
        with workbench(library) as place:
            settings = (source_setting or setting, setting)
            binaries = (sender or executable, executable)
            run = _Trial(place, settings, binaries, deadline, limits or Limits())
            result = run.verdict(source, destination)
            # A hang, too: where a processor is shared with other machines its time is no measure.
            if control and result.outcome in (ERROR, ABORT, CRASH, HANG):
                run.require_plain_device(result.side)
            return result
    except (ExecutableError, ProcessError, ShimError, OSError) as error:
        raise TrialUnavailable(f"no trial of {executable.path}: {error}") from error


class _Trial:
    """One trial; its members are what all of its steps share."""

    def __init__(
        self,
        place: Workbench,
        settings: tuple[Setting, Setting],
        binaries: tuple[Executable, Executable],
        deadline: float,
        limits: Limits,
    ) -> None:
        self.place = place
        self.sender, self.executable = binaries
        self.source_setting, self.setting = settings
        self.deadline, self.limits = deadline, limits

    def verdict(self, source: ConfigState, destination: ConfigState) -> Result:
        # QEMU 10.1 and newer treat it as integrated graphics if VFIO has an OpRegion region for it.
        if self.setting.environment.mdev and is_intel_vga(destination.config):
            raise ProcessError("an mdev of Intel graphics has an OpRegion, which is not made up")
        recorded = source.evidence == "stream"
        with contextlib.ExitStack() as ends:
            ours, theirs = map(ends.enter_context, socket.socketpair())
            listener = ends.enter_context(_listener(self.place))
            receiver = self._start("destination", destination, theirs.fileno())
            ends.enter_context(receiver)
            # The receiver has its own copy. With this one open its death would not break the
            # connection.
            theirs.close()
            if not self._realises(receiver, [receiver]):
                return refusal(receiver, "destination")
            sends = destination._replace(atomics=source.atomics) if recorded else source
            sender = self._start("source", sends)
            ends.enter_context(sender)
            if not self._realises(sender, [receiver, sender]):
                return refusal(sender, "source")
            # Collected first, so that a sender's failure is not taken for the receiver's.
            stream = self._send(sender, listener)
            # Emulated Arm processors fit no other release (trial.stream); they are not on trial.
            if self.sender.identity != self.executable.identity:
                stream = without_processors(stream)
            if recorded:
                stream = with_config(stream, len(destination.config), source.config)
            result = self._load(receiver, ours, stream)
            # With another size QEMU takes what follows for configuration space, and fails anywhere.
            same_size = len(source.config) == len(destination.config)
            if result.outcome == FAIL and same_size and not is_mismatch(result.line):
                raise ProcessError(f"fails, but not on configuration space: {result.line}")
            return result

    def _start(self, side: str, state: ConfigState, incoming: int = -1) -> Emulator:
        setting = self.setting if incoming >= 0 else self.source_setting
        device = self.place.add_device(side, DEVICE, state, setting)
        options = arguments([(device, setting)], self.place.directory)
        if incoming < 0:
            return self.place.start(self.sender, options, side, self.limits)
        options += ["-incoming", f"fd:{incoming}"]
        return self.place.start(self.executable, options, side, self.limits, [incoming])

    def _realises(self, emulator: Emulator, all_of_them: Sequence[Emulator]) -> bool:
        """Wait until the machine is there, with its device."""
        # QMP is answered from the main loop, which begins once all devices are realised.
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
            stream = b"".join(_chunks(connection))
        self._require_sent(sender)
        return stream

    def _require_sent(self, sender: Emulator) -> None:
        """Raise unless the whole stream was sent: a piece of it would fail to load."""
        status = None
        while status in (None, "setup", "active", "device", "pre-switchover"):
            reply = sender.ask("query-migrate", self.deadline)
            if reply is None:
                break
            status = reply.get("return", {}).get("status")
        if status != "completed":
            raise ProcessError(f"does not finish migrating the device: {complaint(sender)}")

    def _load(self, receiver: Emulator, to: socket.socket, stream: bytes) -> Result:
        to.settimeout(self._remaining())
        # It stops reading once it has failed, or hangs; its output, read next, says which.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, socket.timeout):
            to.sendall(stream)
            # QEMU would wait for the rest of a stream that it finds too short.
            to.shutdown(socket.SHUT_WR)
        while True:
            reply = receiver.ask("query-migrate", self.deadline)
            if reply is None:
                return load_result(receiver)
            if reply.get("return", {}).get("status") == "completed":
                return Result(PASS, stderr=receiver.stderr)
            time.sleep(_POLL)

    def require_plain_device(self, side: str) -> None:
        """Raise unless the emulator of this side realises a device that nothing is wrong with."""
        # Without the device's properties: that QEMU refuses one of them is a verdict, not a broken
        # host.
        plain = self.setting.environment._replace(properties={}, mdev=False)
        setting = self.setting._replace(environment=plain)
        device = self.place.add_device("control", DEVICE, _PLAIN, setting)
        options = arguments([(device, setting)], self.place.directory)
        executable = self.sender if side == "source" else self.executable
        with self.place.start(executable, options, "control", self.limits) as emulator:
            if not self._realises(emulator, [emulator]):
                raise ProcessError(f"accepts no VFIO device at all: {complaint(emulator)}")

    def _remaining(self) -> float:
        # 0 would make the socket non-blocking, and a negative time-out is an error.
        return max(0.01, self.deadline - time.monotonic())


@contextlib.contextmanager
def _listener(place: Workbench) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        path = os.path.join(place.directory, "stream")
        listener.bind(path)
        listener.listen(1)
        # unix(7): to connect takes write permission on the socket's file.
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

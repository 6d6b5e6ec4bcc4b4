"""The whole machine's trial: a guest's twin is saved by one QEMU build and loaded by another.

    >>> stream = save(source, argv, deadline=time.monotonic() + 20)
    >>> load(destination, argv, stream, deadline=time.monotonic() + 20)
    Answer(outcome='refused', line="get_pci_config_device: Bad config data: i=0x78 …", …)

``argv`` are the guest's QEMU arguments, the program first, as libvirt makes them or as
/proc/PID/cmdline has them; each side may have its own. ``twin.arguments`` makes the twin's of them.
It never runs (``-S``, TCG), and nothing of the guest's is opened.

:func:`save` gives a :class:`Stream`, or a :class:`Refusal`: the QEMU build refuses to send this
machine (``blocked``), ends as it sends it (``crashed``), as the guest's own would, or it came to no
stream (``not-run``), which says nothing of the guest.
:func:`load` gives an :class:`Answer`, whose ``outcome`` is ``accepted``, ``refused``, ``crashed``,
``hung`` or ``not-run``; ``line`` is QEMU's own. Neither raises, and neither outlives its deadline:
what they start is killed by its own process group.

What a twin does not tell is beside the state of a machine that never ran: the state of firmware and
drivers in the guest, of KVM's own devices (kvmclock, in-kernel interrupt controllers), and of what
``uncovered`` names.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import time
from collections.abc import Mapping, Sequence

from ...osutil.executable import Executable, ExecutableError, unprivileged_user
from ...osutil.light import NamedTuple
from ...pci.state import ConfigState
from ..emulator.client import Emulator, ProcessError, wait
from ..trial.stream import without_processors
from ..trial.workbench import Limits
from . import processors
from .arguments import Transformed
from .ends import end_of, why
from .place import LIMITS, Place, place_for, size_of
from .processors import are_kvms
from .told import ACCEPTED, BLOCKED, CRASHED, HUNG, NOT_RUN, REFUSED, SINCE, build

# Bytes of a stream: 64 MiB of memory, and of what displays have of their own, if none of it were
# zeros.
MAX_STREAM = 256 << 20
_POLL = 0.002  # seconds
# ValueError: an argument with NUL, or of half a character, which no process can have.
_NOT_STARTED = (ExecutableError, ProcessError, OSError, ValueError)
_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid
# By what QEMU names the section that it could not load, in the lines behind the cause.
_SECTION = r"(?:of|for) device '([^']+)'"


class Stream(NamedTuple):
    """What the source's half comes to: the state that its QEMU sends.

    ``states`` are what its VFIO devices presented, by their names on
    the source host, ``sizes`` those of the files that
    show in the state, by path; the other half needs both. ``uncovered`` is what of the guest is not
    in the twin. ``build`` is the QEMU that sent it, in words, ``version`` its release.
    """

    data: bytes
    build: str = ""
    version: str = ""
    states: Mapping[str, ConfigState] = {}
    sizes: Mapping[str, int] = {}
    uncovered: tuple[str, ...] = ()


class Refusal(NamedTuple):
    """Why there is no stream: ``kind`` is ``blocked``, ``crashed`` or ``not-run``, ``line`` QEMU's
    word."""

    kind: str
    line: str
    stderr: str = ""
    build: str = ""


class Answer(NamedTuple):
    """What the destination's half comes to; ``stderr`` is all that QEMU wrote."""

    outcome: str
    line: str = ""
    stderr: str = ""
    uncovered: tuple[str, ...] = ()
    build: str = ""
    realised: bool = True

    @property
    def device(self) -> str:
        """The section that QEMU could not load, ``0000:00:02.0/pcie-root-port``; empty if it does
        not say."""
        found = re.search(_SECTION, self.stderr) if self.outcome == REFUSED else None
        return found[1] if found and found[1] not in self.line else ""

    @property
    def accepted(self) -> bool:
        """Whether the destination's QEMU takes the guest."""
        return self.outcome == ACCEPTED

    @property
    def hung(self) -> bool:
        """Whether it came to no end, although it had the time."""
        return self.outcome == HUNG


def save(
    emulator: Executable,
    argv: Sequence[str],
    *,
    deadline: float,
    states: Mapping[str, ConfigState] | None = None,
    library: str | None = None,
    limits: Limits = LIMITS,
    descriptors: Sequence[int] = (),
    started: float = float("inf"),
) -> Stream | Refusal:
    """The state that ``emulator`` sends of the twin of a guest with these arguments.

    ``deadline`` is on the clock of ``time.monotonic()``. ``states`` are what its VFIO devices
    present, by the names that the arguments have for them; ``library`` is the compiled shim that
    makes them up. ``descriptors`` are inherited, among them the one that ``emulator`` is run by.
    ``started`` is when the guest was, in seconds since 1970: its files may have changed since.
    """
    sizes: dict[str, int] = {}
    newer: dict[str, None] = {}

    def here(path: str, writable: bool) -> int | None:
        size = size_of(path)
        # What a guest writes to changes, and keeps its size.
        if size is not None and not writable and os.stat(path).st_ctime > started:
            newer[path + SINCE] = None
        return size if size is None else sizes.setdefault(path, size)

    try:
        with place_for(states or {}, library) as place:
            made = place.transformed(argv, here)
            with place.start(emulator, made.arguments, limits, descriptors) as sender:
                if not _comes_up(sender, deadline):
                    return Refusal(NOT_RUN, why(sender), sender.stderr)
                foreign = are_kvms(argv[1:]) and _target(sender, deadline) in processors.TARGETS
                data = _sent(sender, place, deadline)
                version = _version(sender)
        if isinstance(data, Refusal):
            return data._replace(build=build(*version))
        uncovered = (*made.uncovered, *newer)
        if foreign:
            data, uncovered = without_processors(data), (*uncovered, processors.NAMED)
        return Stream(data, build(*version), version[0], place.presented, sizes, uncovered)
    except _NOT_STARTED as error:
        return Refusal(NOT_RUN, str(error))


def load(
    emulator: Executable,
    argv: Sequence[str],
    stream: Stream,
    *,
    deadline: float,
    library: str | None = None,
    limits: Limits = LIMITS,
) -> Answer:
    """Whether ``emulator`` loads that state into the twin of a guest with these arguments.

    VFIO devices present here what they presented there: whether this host's do is for the model and
    the device's own trial to say.
    """

    def here(path: str, writable: bool) -> int | None:
        # What the guest writes to goes with it; the rest is this host's.
        return stream.sizes.get(path) if writable else size_of(path)

    try:
        with place_for(stream.states, library) as place:
            if len(place.presented) < len(stream.states):
                return Answer(NOT_RUN, "no VFIO device can be made up here", "", stream.uncovered)
            made = place.transformed(argv, here)
            return _loaded(place, emulator, made, stream, deadline, limits)
    except _NOT_STARTED as error:
        return Answer(NOT_RUN, str(error))


def _loaded(
    place: Place,
    emulator: Executable,
    made: Transformed,
    stream: Stream,
    deadline: float,
    limits: Limits,
) -> Answer:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        arguments = (*made.arguments, "-incoming", f"fd:{theirs.fileno()}")
        with place.start(emulator, arguments, limits, [theirs.fileno()]) as receiver:
            # With this copy open its death would not break the connection.
            theirs.close()
            up = _comes_up(receiver, deadline)
            up_after = receiver.cpu_seconds() if up else None
            if up and _taken(receiver, ours, stream.data, deadline):
                outcome, line = ACCEPTED, ""
            else:
                outcome, line = end_of(receiver, up_after)
            uncovered = tuple(dict.fromkeys((*stream.uncovered, *made.uncovered)))
            return Answer(outcome, line, receiver.stderr, uncovered, _build(receiver), up)


# --- the two halves -----------------------------------------------------------------------------


def _comes_up(emulator: Emulator, deadline: float) -> bool:
    """Wait until the machine is there, with all its devices."""
    # QMP is answered from the main loop, which begins once all devices are realised.
    emulator.send("qmp_capabilities")
    wait(lambda: emulator.ended or emulator.replies, [emulator], deadline)
    return bool(emulator.replies)


def _sent(sender: Emulator, place: Place, deadline: float) -> bytes | Refusal:
    with socket.socket(socket.AF_UNIX) as listener:
        path = os.path.join(place.directory, "stream")
        listener.bind(path)
        listener.listen(1)
        # unix(7): to connect takes write permission on the socket's file. It cannot be given to the
        # emulators' user without CAP_CHOWN; who it is that connects is looked at instead.
        os.chmod(path, 0o666)  # noqa: S103
        reply = sender.ask("migrate", deadline, uri=f"unix:{path}")
        if reply is None or "error" in reply:
            kind = NOT_RUN if reply is None else BLOCKED
            return Refusal(kind, why(sender), sender.stderr)
        data = _received(listener, sender, deadline)
    status = _status(sender, deadline)
    if status != "completed":
        # A QEMU that ends here ends with the guest.
        outcome, line = end_of(sender, 0.0) if sender.ended else (NOT_RUN, "")
        if outcome == CRASHED:
            return Refusal(CRASHED, line, sender.stderr)
        return Refusal(NOT_RUN, f"the state is not sent whole ({status}): {why(sender)}")
    return data


def _received(listener: socket.socket, sender: Emulator, deadline: float) -> bytes:
    """All that is sent. Raises ProcessError where it does not come to an end."""
    data = bytearray()
    listener.settimeout(_left(deadline))
    try:
        connection = listener.accept()[0]
        with connection:
            _require_ours(connection)
            while len(data) <= MAX_STREAM:
                connection.settimeout(_left(deadline))
                chunk = connection.recv(1 << 20)
                if not chunk:
                    return bytes(data)
                data += chunk
    except socket.timeout:
        raise ProcessError(f"did not send its state in time: {why(sender)}") from None
    raise ProcessError(f"sends more than {MAX_STREAM >> 20} MiB of a guest of {64} MiB")


def _require_ours(connection: socket.socket) -> None:
    """Raise ProcessError for a stream that is another user's than the emulators'."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user = unprivileged_user()
    if _CREDENTIALS.unpack(credentials)[1] != (user.uid if user else os.geteuid()):
        raise ProcessError("is not the one that sends the state")


def _status(emulator: Emulator, deadline: float) -> str:
    """What becomes of the migration; empty of a process that has ended."""
    while True:
        reply = emulator.ask("query-migrate", deadline)
        if reply is None:
            return ""
        status = str(reply.get("return", {}).get("status", ""))
        if status in ("completed", "failed", "cancelled"):
            return status
        time.sleep(_POLL)


def _taken(receiver: Emulator, to: socket.socket, data: bytes, deadline: float) -> bool:
    to.settimeout(_left(deadline))
    # It stops reading once it has failed, or hangs; its output, read next, says which.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, socket.timeout):
        to.sendall(data)
        # QEMU would wait for the rest of a stream that it finds too short.
        to.shutdown(socket.SHUT_WR)
    return _status(receiver, deadline) == "completed"


def _version(emulator: Emulator) -> tuple[str, str]:
    """Release and package of a QEMU, by its greeting."""
    try:
        version = emulator.greeting["version"]
        numbers = version["qemu"]
        release = f"{numbers['major']:d}.{numbers['minor']:d}.{numbers['micro']:d}"
        return release, str(version.get("package", "")).strip()
    # It came to none, or what answers is no QEMU.
    except (LookupError, TypeError, ValueError, AttributeError):
        return "", ""


def _target(emulator: Emulator, deadline: float) -> str:
    """What it emulates."""
    reply = emulator.ask("query-target", deadline) or {}
    return str(reply.get("return", {}).get("arch", ""))


def _build(emulator: Emulator) -> str:
    return build(*_version(emulator))


def _left(deadline: float) -> float:
    # 0 would make the socket non-blocking, and a negative time-out is an error.
    return max(0.01, deadline - time.monotonic())

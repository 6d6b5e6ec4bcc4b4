"""The twin of a guest that runs here, saved; and one that comes from elsewhere, loaded.

>>> made = save_running(running, settings, time.monotonic() + 20)
>>> load_here(from_bytes(data, "FILE"), settings, time.monotonic() + 20).outcome
'accepted'
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from lxml import etree

from ..configuration import Configuration
from ..errors import PreflightError
from ..guest.domain import Guest, read_guest
from ..guest.record import Record
from ..guest.tree import tree_digest
from ..host import twins
from ..host.processes import Process, find_process
from ..osutil.executable import Executable, ExecutableError, trusted_executable
from ..osutil.light import NamedTuple
from ..osutil.regular import read_regular
from ..osutil.replaced import replaced_executable
from ..pci.state import ConfigState
from ..qemu.twin import words
from ..qemu.twin.devices import host_of, is_vfio
from ..qemu.twin.envelope import Envelope
from ..qemu.twin.options import pairs
from ..qemu.twin.portable import portable
from ..qemu.twin.told import BLOCKED, CRASHED, LOST, NOT_RUN, Told
from ..qemu.twin.twin import Refusal, Stream, load, save
from .here import record_of
from .knowntwins import first_process

_MAX_ARGUMENTS = 16 << 20
REPLACED = "option ROMs and modules as the guest's QEMU had them when it started"
PLUGGED = "devices as they are on the running guest's own command line"


class TwinError(PreflightError):
    """A twin that cannot be made; the text says why."""


class Running(NamedTuple):
    """A guest that runs here: ``root`` is its migratable XML; ``native`` gives libvirt's own
    arguments for it, without its network interfaces, and raises a :class:`PreflightError` where
    libvirt does not."""

    root: etree._Element
    native: Callable[[], str]


def save_running(running: Running, end: float, library: str | None = None) -> Envelope | Told:
    """The source's half, made by the very QEMU build that runs the guest; or why there is none.

    Raises :class:`TwinError` for a guest that does not run here.
    """
    guest = read_guest(running.root)
    process = find_process(guest.name, guest.uuid)
    if process is None:
        raise TwinError(
            f"no process here is the QEMU of guest '{guest.name}': it does not run, or not on this"
            " host"
        )
    argv, notes = _arguments(process, running.native)
    record, _problem = record_of(guest)
    states = presented(guest, record)
    used = {name: states[name] for name in _vfio(argv) if name in states}
    made, replaced = _saved(process, guest, argv, used, end, library)
    if isinstance(made, Refusal):
        outcome = {BLOCKED: BLOCKED, CRASHED: LOST}.get(made.kind, NOT_RUN)
        return Told(outcome, made.line, source=made.build)
    uncovered = (*made.uncovered, *notes, *([REPLACED] if replaced else []))
    return Envelope(
        guest=guest.name,
        uuid=guest.uuid,
        machine=guest.machine,
        emulator=guest.emulator,
        host=os.uname().nodename,
        time=twins.now(),
        # A hook knows the process by the guest's record, which is of the first one.
        process=process.instance if first_process(record) == process.instance else "",
        tree=tree_digest(running.root, record.states),
        arguments=tuple(portable(argv)),
        stream=made._replace(uncovered=uncovered),
    )


def load_here(
    envelope: Envelope,
    settings: Configuration,
    end: float,
    arguments: Sequence[str] = (),
    library: str | None = None,
) -> Told:
    """The destination's half, and what came of it; kept, so that the hook finds it.

    ``arguments`` are those of this host's libvirt, where they could be had; else the guest's own.
    """
    stream = envelope.stream
    try:
        emulator = trusted_executable(envelope.emulator)
    except ExecutableError as error:
        return Told(NOT_RUN, str(error), source=stream.build, uncovered=stream.uncovered)
    argv = list(arguments or envelope.arguments)
    answer = load(emulator, argv, stream, deadline=end, library=library)
    told = Told(
        answer.outcome, answer.line, answer.device, stream.build, answer.build, answer.uncovered
    )
    if answer.outcome != NOT_RUN:
        sent = twins.Sent(envelope.process, envelope.machine, envelope.tree)
        twins.keep(settings.cache, sent, envelope.emulator, told._replace(time=twins.now()))
    return told


def presented(guest: Guest, record: Record) -> dict[str, ConfigState]:
    """What the guest's devices present by its record, by their names on the host."""
    return {
        device.host: record.states[device.key]
        for device in guest.devices
        if device.host and device.key in record.states
    }


def from_native(text: str) -> list[str]:
    """The arguments, the program first, in what libvirt's domxml-to-native gives."""
    found = shlex.split(text)
    # Its environment stands before the program.
    while found and not found[0].startswith("/"):
        found.pop(0)
    return found


def with_networks(argv: Sequence[str], own: Sequence[str]) -> list[str]:
    """``argv``, which libvirt gave without network interfaces, with those of the guest's own."""
    vfio, found = _vfio(argv), list(argv)
    for option, value in pairs(own[1:]):
        device = _read(option, value)
        of_interface = is_vfio(str(device.get("driver"))) and host_of(device) not in vfio
        if option == "netdev" or "netdev" in device or of_interface:
            found += [f"-{option}", value]
    return found


def _saved(
    process: Process,
    guest: Guest,
    argv: Sequence[str],
    states: Mapping[str, ConfigState],
    end: float,
    library: str | None,
) -> tuple[Stream | Refusal, bool]:
    """The half, and whether the file of the guest's QEMU was replaced since it started."""
    try:
        installed = _installed(process, guest)
        if installed is not None:
            made = save(installed, argv, deadline=end, states=states, library=library)
            return made, False
        with replaced_executable(process.pid) as old:
            return (
                save(
                    old.executable,
                    argv,
                    deadline=end,
                    states=states,
                    library=library,
                    descriptors=[old.descriptor],
                ),
                True,
            )
    except ExecutableError as error:
        return Refusal(NOT_RUN, str(error)), False


def _installed(process: Process, guest: Guest) -> Executable | None:
    """The guest's emulator, None where its file is not the one that runs."""
    emulator = trusted_executable(guest.emulator)
    # What runs is what the script started, be it a loader: only the script knows how.
    if emulator.script:
        return emulator
    if not process.executable:
        return None
    if os.path.realpath(process.executable) == emulator.realpath:
        return emulator
    return trusted_executable(process.executable)


def _arguments(process: Process, native: Callable[[], str]) -> tuple[list[str], list[str]]:
    """The guest's arguments, and what is not certain of them.

    Those of the process are what its QEMU was started with. Devices that were plugged in or out
    since are libvirt's to tell.
    """
    own = _own_arguments(process.pid)
    try:
        told = with_networks(from_native(native()), own)
    except PreflightError as error:
        return own, [f"{PLUGGED} ({error})"]
    return (own if _drivers(own) == _drivers(told) else told), []


def _own_arguments(pid: int) -> list[str]:
    try:
        data = read_regular(f"/proc/{pid}/cmdline", _MAX_ARGUMENTS)
    except OSError as error:
        raise TwinError(f"/proc/{pid}/cmdline: {error.strerror}") from error
    found = [word.decode("utf-8", "surrogateescape") for word in data.split(b"\0")[:-1]]
    # libvirt begins with the name; before it is the program, and what a wrapper put there.
    start = found.index("-name") if "-name" in found else 1
    return [*found[:1], *found[start:]]


def _drivers(argv: Sequence[str]) -> Counter[str]:
    return Counter(str(device.get("driver")) for device in _devices(argv))


def _vfio(argv: Sequence[str]) -> list[str]:
    return [host_of(d) for d in _devices(argv) if is_vfio(str(d.get("driver")))]


def _devices(argv: Sequence[str]) -> Iterator[dict[str, object]]:
    return filter(None, (_read(option, value) for option, value in pairs(argv[1:])))


def _read(option: str, value: str) -> dict[str, object]:
    """A ``-device``; empty for anything else."""
    try:
        return words.read(value, "driver") if option == "device" else {}
    except words.ArgumentError:
        return {}

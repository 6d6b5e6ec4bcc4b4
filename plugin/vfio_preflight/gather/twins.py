"""The twin of a guest that runs here, saved; and one that comes from elsewhere, loaded.

>>> made = save_running(live, migratable, time.monotonic() + 20)
>>> load_here(from_bytes(data, "FILE"), settings, time.monotonic() + 20).outcome
'accepted'
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from lxml import etree

from ..configuration import Configuration
from ..errors import PreflightError
from ..guest.domain import Guest, read_guest
from ..guest.record import Record
from ..guest.tree import tree_digest
from ..host import twins
from ..host.processes import Process, find_process
from ..osutil.executable import Executable, ExecutableError, trusted_executable
from ..osutil.regular import read_regular
from ..osutil.replaced import replaced_executable
from ..pci.state import ConfigState
from ..qemu.model.quirks import is_intel_vga
from ..qemu.twin import words
from ..qemu.twin.devices import host_of, is_vfio
from ..qemu.twin.envelope import Envelope
from ..qemu.twin.options import FLAGS, pairs
from ..qemu.twin.portable import portable
from ..qemu.twin.told import (
    BLOCKED,
    CRASHED,
    LOST,
    NOT_RUN,
    OUTDATED,
    REFUSED,
    SINCE,
    UNMADE,
    Told,
)
from ..qemu.twin.twin import Answer, Refusal, Stream, load, save
from .here import record_of
from .knowntwins import first_process

_MAX_ARGUMENTS = 16 << 20
REPLACED = "QEMU's option ROMs and modules" + SINCE
# What QEMU says of a block of memory, as which it has such a file.
_SIZES = "Size mismatch: "
# How libvirt names what can be plugged into a running guest (qemu_alias.c), and users ("ua-").
_PLUGGABLE = (
    r"ua-.+|(net|hostdev|rng|redir|shmem|dimm|nvdimm|virtiomem|virtiopmem|vsock|virtio-disk|fs)\d+"
    r"|(scsi|usb-disk|sata|ide)\d+(-\d+)*"
)


class TwinError(PreflightError):
    """A twin that cannot be made; the text says why."""


def save_running(
    live: etree._Element, migratable: etree._Element, end: float, library: str | None = None
) -> Envelope | Told:
    """The source's half, made by the very QEMU build that runs the guest; or why there is none.

    ``live`` is the guest's XML with the names of its devices in this run, ``migratable`` that which
    libvirt would send. Raises :class:`TwinError` for a guest that does not run here.
    """
    guest = read_guest(migratable)
    process = find_process(guest.name, guest.uuid)
    if process is None:
        raise TwinError(
            f"no process here is the QEMU of guest '{guest.name}': it does not run, or not on this"
            " host"
        )
    argv, notes = changed_since(_own_arguments(process.pid), live)
    record, _problem = record_of(guest)
    states = presented(guest, record)
    used = {name: states[name] for name in _vfio(argv) if name in states}
    started = time.time() - process.age
    made, replaced = _saved(
        process,
        guest,
        partial(save, argv=argv, deadline=end, states=used, library=library, started=started),
    )
    if isinstance(made, Refusal):
        outcome = {BLOCKED: BLOCKED, CRASHED: LOST}.get(made.kind, NOT_RUN)
        return Told(outcome, made.line, source=made.build)
    changed = replaced or twins.is_data_newer(started)
    uncovered = (*made.uncovered, *notes, *([REPLACED] if changed else []))
    return Envelope(
        guest=guest.name,
        uuid=guest.uuid,
        machine=guest.machine,
        emulator=guest.emulator,
        host=os.uname().nodename,
        time=twins.now(),
        # A hook knows the process by the guest's record, which is of the first one.
        process=process.instance if first_process(record) == process.instance else "",
        tree=tree_digest(migratable, record.states),
        arguments=tuple(portable(argv)),
        stream=made._replace(uncovered=uncovered),
    )


def load_here(
    envelope: Envelope, settings: Configuration, end: float, library: str | None = None
) -> Told:
    """The destination's half, and what came of it; kept, so that the hook finds it."""
    stream = envelope.stream
    try:
        emulator = trusted_executable(envelope.emulator)
    except ExecutableError as error:
        return Told(NOT_RUN, str(error), source=stream.build, uncovered=stream.uncovered)
    answer = load(emulator, envelope.arguments, stream, deadline=end, library=library)
    told = Told(
        _outcome(answer), answer.line, answer.device, stream.build, answer.build, answer.uncovered
    )
    if answer.outcome != NOT_RUN:
        sent = twins.Sent(envelope.process, envelope.machine, envelope.tree)
        twins.keep(settings.cache, sent, envelope.emulator, told._replace(time=twins.now()))
    return told


def _outcome(answer: Answer) -> str:
    """The outcome, where it may not be the guest's."""
    # Its arguments are of the source's libvirt; another release's may leave out what QEMU dropped.
    if answer.outcome in (REFUSED, CRASHED) and not answer.realised:
        return UNMADE
    since = any(text.endswith(SINCE) for text in answer.uncovered)
    if answer.outcome == REFUSED and answer.line.startswith(_SIZES) and since:
        return OUTDATED
    return answer.outcome


def presented(guest: Guest, record: Record) -> dict[str, ConfigState]:
    """What the guest's devices present by its record, by their names on the host.

    Without mdevs of Intel graphics: QEMU asks them for an OpRegion, which is not made up.
    """
    states = record.states
    return {
        device.host: states[device.key]
        for device in guest.devices
        if device.host and device.key in states
        if ":" in device.host or not is_intel_vga(states[device.key].config)
    }


def _saved(
    process: Process, guest: Guest, half: Callable[..., Stream | Refusal]
) -> tuple[Stream | Refusal, bool]:
    """The half, and whether the file of the guest's QEMU was replaced since it started."""
    try:
        installed = _installed(process, guest)
        if installed is not None:
            return half(installed), False
        with replaced_executable(process.pid) as old:
            return half(old.executable, descriptors=[old.descriptor]), True
    except ExecutableError as error:
        return Refusal(NOT_RUN, str(error)), False


def _installed(process: Process, guest: Guest) -> Executable | None:
    """The guest's emulator, None where its file is not the one that runs."""
    if not process.executable:
        return None
    emulator = trusted_executable(guest.emulator)
    # What runs is what the script started, be it a loader: only the script knows how.
    if emulator.script:
        return emulator
    if os.path.realpath(process.executable) == emulator.realpath:
        return emulator
    return trusted_executable(process.executable)


def changed_since(argv: Sequence[str], live: etree._Element) -> tuple[list[str], list[str]]:
    """``argv``, with which a guest was started, without what was unplugged since; and the names of
    what was plugged in since, which nothing has the arguments of.

    ``live`` is its XML now. libvirt's own domxml-to-native would not do: it makes another interface
    of each, with an address and properties of its own, and opens a tap device for it.
    """
    now = {alias.get("name", "") for alias in live.iterfind("devices/*/alias")}
    ids = {str(device.get("id", "")) for device in _devices(argv)}
    gone = {name for name in ids - now if re.fullmatch(_PLUGGABLE, name)}
    new = sorted(name for name in now - ids if re.fullmatch(_PLUGGABLE, name))
    left: list[str] = list(argv[:1])
    for option, value in pairs(argv[1:]):
        if option != "device" or _id(value) not in gone:
            left += [f"-{option}", *([] if option in FLAGS else [value])]
    return left, [f"{name}: plugged in since the guest started" for name in new]


def _own_arguments(pid: int) -> list[str]:
    try:
        data = read_regular(f"/proc/{pid}/cmdline", _MAX_ARGUMENTS)
    except OSError as error:
        raise TwinError(f"/proc/{pid}/cmdline: {error.strerror}") from error
    found = [word.decode("utf-8", "surrogateescape") for word in data.split(b"\0")[:-1]]
    # libvirt begins with the name; before it is the program, and what a wrapper put there.
    start = found.index("-name") if "-name" in found else 1
    return [*found[:1], *found[start:]]


def _id(device: str) -> str:
    try:
        return str(words.read(device, "driver").get("id", ""))
    except words.ArgumentError:
        return ""


def _vfio(argv: Sequence[str]) -> list[str]:
    return [host_of(d) for d in _devices(argv) if is_vfio(str(d.get("driver")))]


def _devices(argv: Sequence[str]) -> Iterator[dict[str, object]]:
    for option, value in pairs(argv[1:]):
        if option == "device":
            try:
                yield words.read(value, "driver")
            except words.ArgumentError:
                continue

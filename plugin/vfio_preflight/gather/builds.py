"""The two builds of QEMU that a guest moves between.

What the source's makes of the guest's devices, for the record; and both of them, for the judge.
"""

from __future__ import annotations

import os
import time

from ..configuration import Configuration
from ..guest.arguments import Arguments, read_arguments
from ..guest.build import RecordedBuild
from ..guest.domain import Guest
from ..guest.metadata import Record, last_moved
from ..host.processes import Process, arguments_of
from ..judge.facts import Builds
from ..osutil.text import printable
from ..pci.state import UNKNOWN, Missing
from ..qemu.emulator.facts import EmulatorError
from ..qemu.emulator.introspect import type_facts
from ..qemu.emulator.machines import EmulatorFacts
from ..qemu.emulator.onboard import cpu_type, onboard
from ..qemu.emulator.sent import ENCODING, Sent, SentError, describe, pack, unpack
from ..qemu.emulator.types import TypeFacts
from ..qemu.model.boards import board_of

# Seconds that asking a build for all its types takes on a busy host, without which it is not begun;
# and the most that it may take.
_NEEDED, _MOST = 0.8, 4.0


def build_of(
    guest: Guest,
    process: Process,
    known: RecordedBuild | None,
    settings: Configuration,
    anew: bool = False,
) -> RecordedBuild | None:
    """What the QEMU that runs a guest makes of its devices; None where that cannot be said.

    ``known`` is kept if it is of this very process, unless ``anew``: devices were plugged in.
    """
    if known is not None and known.process == process.instance and not anew:
        return known
    # Of a binary that was replaced since, the file says nothing about the process.
    if not guest.devices or not process.executable:
        return None
    try:
        end = time.monotonic() + settings.deadline
        facts = type_facts(process.executable, cache_dir=settings.cache, deadline=end)
        arguments = read_arguments(arguments_of(process))
    except (EmulatorError, OSError):
        return None
    # Of a build that does not tell what its machine types set, no value is known.
    if not facts.compat_props_known or guest.machine not in facts.machines:
        return None
    sent = sent_of(facts, guest, arguments)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    head = (sent.version, sent.package, sent.machine, os.uname().nodename, now, process.instance)
    return RecordedBuild(*head, ENCODING, pack(sent))


def with_build(record: Record | None, old: Record, build: RecordedBuild | None) -> Record | None:
    """``record``, or ``old`` where that is None, with ``build``; None where nothing changes."""
    base = old if record is None else record
    if record is None and _unchanged(old.build, build):
        return None
    if record is None and not old.entries:
        # A record of nothing but its QEMU would look as if the guest had been recorded.
        return None
    return base._replace(build=build)


def _unchanged(old: RecordedBuild | None, new: RecordedBuild | None) -> bool:
    return old == new


def sent_of(facts: TypeFacts, guest: Guest, arguments: Arguments) -> Sent:
    """What the build ``facts`` makes of a guest that was started with ``arguments``."""
    named = arguments.uses()
    always = dict(named.always)
    board = board_of(guest.machine, guest.arch)
    names = onboard(board.name, arguments.kvm, arguments.machine) if board else frozenset[str]()
    # Of a VFIO device that was plugged in the XML has all.
    plugged = {device.driver: frozenset(device.properties) for device in guest.devices}
    for name, given in (*dict.fromkeys(names, frozenset[str]()).items(), *plugged.items()):
        always.setdefault(name, given)
    cpu = cpu_type(arguments.cpu, guest.arch)
    if cpu:
        always[cpu] = arguments.cpu_given
    by_globals = {name: _by_globals(facts, name, arguments) for name in always}
    return describe(
        facts,
        guest.machine,
        {name: given | by_globals[name] for name, given in always.items()},
        {name: given | by_globals[name] for name, given in {**plugged, **named.sometimes}.items()},
    )


def _by_globals(facts: TypeFacts, qom_type: str, arguments: Arguments) -> frozenset[str]:
    """What ``-global`` sets on this type, or on what it is made of."""
    if not arguments.globals:
        return frozenset()
    line = {*facts.lineage(qom_type), *facts.lineage(facts.part(qom_type))}
    return frozenset(each.property for each in arguments.globals if each.driver in line)


# --- for the judge ------------------------------------------------------------------------------


def builds_here(
    build: RecordedBuild, guest: Guest, settings: Configuration, deadline: float
) -> Builds | Missing:
    """The recorded build and this host's emulator for the guest."""
    now = time.monotonic()
    # No more than half of the time is for this; where that will not do, what is known already has
    # to. ``watch`` sees to it that it is.
    end = min(now + (deadline - now) / 2, now + _MOST)
    end = end if now + _NEEDED < end else 0.0
    try:
        there = type_facts(guest.emulator, cache_dir=settings.cache, deadline=end)
    except EmulatorError as error:
        return Missing(UNKNOWN, f"the destination's QEMU was not asked: {error}")
    return builds_of(build, guest, there)


def builds_of(build: RecordedBuild, guest: Guest, there: TypeFacts) -> Builds | Missing:
    """The recorded build of ``guest``'s QEMU, and one of which all is known."""
    moved = last_moved(guest.metadata)
    # Every QEMU makes of the machine type what its own build does. ISO 8601, always in UTC.
    if moved > build.time:
        return Missing(
            UNKNOWN,
            f"what is recorded of its QEMU is of {printable(build.time, 40)}, and the guest was"
            f" moved or restored at {printable(moved, 40)}; record it again: vfio-preflight record",
        )
    sent = sent_by(build)
    return sent if isinstance(sent, Missing) else Builds(sent, there, _origin(build))


def sent_by(build: RecordedBuild) -> Sent | Missing:
    """What the record says of the source's build."""
    if build.encoding != ENCODING:
        form = printable(build.encoding, 40) or "none"
        return Missing(UNKNOWN, f"the source's QEMU is recorded in a form not known here ({form})")
    try:
        words = (printable(each, 100) for each in (build.version, build.package, build.machine))
        return unpack(build.text, *words)
    except SentError as error:
        return Missing(UNKNOWN, f"what is recorded of the source's QEMU is damaged: {error}")


def _origin(build: RecordedBuild) -> str:
    where = f" on {printable(build.on, 80)}" if build.on else ""
    return f"recorded{where}{f' at {printable(build.time, 40)}' if build.time else ''}"


def both_builds(
    guest: Guest,
    source: EmulatorFacts,
    destination: EmulatorFacts,
    settings: Configuration,
    deadline: float,
) -> Builds | Missing | None:
    """Two emulators of this host, as far as the guest's VFIO devices are concerned.

    None where the source's lacks the machine type, or does not tell what it sets.
    """
    machine = source.resolve(guest.machine)
    if machine is None or not source.compat_props_known:
        return None
    try:
        first, second = (
            type_facts(each.path, cache_dir=settings.cache, deadline=deadline)
            for each in (source, destination)
        )
    except EmulatorError as error:
        return Missing(UNKNOWN, str(error))
    given = {device.driver: frozenset(device.properties) for device in guest.devices}
    return Builds(describe(first, machine.name, given, given), second)

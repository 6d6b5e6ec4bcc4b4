"""What the build of QEMU that runs a guest makes of its devices, for the guest's record."""

from __future__ import annotations

import os
import time

from ..configuration import Configuration
from ..guest.arguments import Arguments, read_arguments
from ..guest.build import RecordedBuild
from ..guest.domain import Guest
from ..guest.metadata import Record
from ..host.processes import Process, arguments_of
from ..qemu.emulator.facts import EmulatorError
from ..qemu.emulator.onboard import cpu_type, onboard
from ..qemu.emulator.sent import ENCODING, Sent, describe, pack
from ..qemu.emulator.typefacts import type_facts
from ..qemu.emulator.types import TypeFacts
from ..qemu.model.boards import board_of


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
    # A record of nothing but its QEMU would look as if the guest had been recorded.
    if record is None and (old.build == build or not old.entries):
        return None
    return base._replace(build=build)


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

"""The two builds of QEMU that a guest moves between, for the judge.

The source's is what the record says of it (:mod:`.recordedbuild`).
"""

from __future__ import annotations

import time

from ..configuration import Configuration
from ..guest.build import RecordedBuild
from ..guest.domain import Guest
from ..guest.metadata import last_moved
from ..judge.facts import Builds
from ..osutil.text import printable
from ..pci.state import UNKNOWN, Missing
from ..qemu.emulator.facts import EmulatorError
from ..qemu.emulator.machines import EmulatorFacts
from ..qemu.emulator.sent import ENCODING, Sent, SentError, describe, unpack
from ..qemu.emulator.typefacts import type_facts
from ..qemu.emulator.types import TypeFacts

# Seconds that asking a build for all its types takes on a busy host, without which it is not begun;
# and the most that it may take.
_NEEDED, _MOST = 0.8, 4.0


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
            f"the source's QEMU was recorded at {printable(build.time, 40) or 'no time'}, and the"
            f" guest was moved or restored since, at {printable(moved, 40)}",
            f"on the source, run: vfio-preflight record {printable(guest.name, 80)}",
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

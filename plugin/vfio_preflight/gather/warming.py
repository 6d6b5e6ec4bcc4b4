"""Keeps the answers of this host's emulators at hand, so that no hook has to ask for them.

A hook that finds no answer starts the emulator, which takes as long as the rest of its work; the
first of many that come at once, as when another host is drained, has the others wait for it.
"""

from __future__ import annotations

import os
import time

from ..configuration import Configuration
from ..osutil.executable import ExecutableError, trusted_executable
from ..osutil.light import NamedTuple
from ..qemu.emulator.facts import EmulatorError, cached_emulators, emulator_facts
from ..qemu.emulator.typefacts import type_facts

# What guests' XML names where nobody asked for something else: upstream's name, with the machine's
# own architecture, as a passed-through device needs KVM; RHEL's; SUSE's and older ones.
NAMES = ("/usr/bin/qemu-system-{machine}", "/usr/libexec/qemu-kvm", "/usr/bin/qemu-kvm")
SECONDS = 10.0  # for all emulators together


class Warmed(NamedTuple):
    """The emulators that were asked, as far as they were not known, and what came of it.

    ``identities`` are those of their files, by path; ``problems`` are sentences.
    """

    identities: dict[str, tuple[int, ...]]
    problems: tuple[str, ...]


def warm(settings: Configuration, before: Warmed | None = None, seconds: float = SECONDS) -> Warmed:
    """Ask the emulators of this host whose answers are not kept. Raises nothing.

    They are those of the usual names, and those that a guest's XML once named. With what an earlier
    call returned, only those whose files have changed since are asked, an answer or not.
    """
    end = time.monotonic() + seconds
    identities: dict[str, tuple[int, ...]] = {}
    problems = []
    for path in _paths(settings.cache):
        try:
            executable = trusted_executable(path)
        except ExecutableError:
            # Not there any more, or nothing that a hook would run.
            continue
        identities[path] = executable.identity
        if before is not None and before.identities.get(path) == executable.identity:
            continue
        try:
            emulator_facts(path, cache_dir=settings.cache, deadline=end)
            type_facts(path, cache_dir=settings.cache, deadline=end)
        except EmulatorError as error:
            problems.append(str(error))
    return Warmed(identities, tuple(problems))


def _paths(cache: str) -> list[str]:
    usual = (name.format(machine=os.uname().machine) for name in NAMES)
    # Several names of one file are one emulator.
    paths = [os.path.realpath(path) for path in usual if os.path.exists(path)]
    return list(dict.fromkeys([*paths, *cached_emulators(cache)]))

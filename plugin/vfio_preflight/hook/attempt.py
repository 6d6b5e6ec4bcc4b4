"""An incoming migration that the hook let pass, on its way from ``migrate begin`` to ``started``.

At ``started begin`` the destination's QEMU has realised its devices and no memory was sent yet:
they are judged there once more, by what they really present. What is left here says that this is
wanted, and for which attempt: it is for a guest of this UUID alone, whose QEMU was started soon
after it was left. An attempt that never comes to ``started`` thus concerns no later one.
"""

from __future__ import annotations

import os
import time

from ..osutil import jsondir

DIRECTORY = "second-gate"
# As in host.captures: the shell part of the hook looks for it.
PREFIX = "g-"
MAX_ATTEMPTS = 4096
# Seconds from migrate begin to started begin: 0.3 as a rule, more on a host that is busy.
SOON = 300.0


def leave(runtime: str, guest: str, uuid: str) -> bool:
    """Have the guest judged again at ``started begin``; return whether that could be stored."""
    name = _name(guest)
    value = {"uuid": uuid, "time": time.time()}
    return bool(name) and jsondir.store(_directory(runtime), name, value, MAX_ATTEMPTS)


def take(runtime: str, guest: str, uuid: str, age: float) -> bool:
    """Whether the guest, whose QEMU is ``age`` seconds old, waits to be judged again; used up."""
    name, directory = _name(guest), _directory(runtime)
    value = jsondir.load(directory, name) if name else None
    drop(runtime, guest)
    if not isinstance(value, dict) or value.get("uuid") != uuid:
        return False
    left = value.get("time")
    waited = time.time() - left if isinstance(left, float) else -1.0
    # A second's grace: /proc gives the start of a process in ticks, and clocks are adjusted.
    return age - 1.0 <= waited <= SOON


def is_waiting(runtime: str, guest: str) -> bool:
    """Whether a guest of this name waits to be judged again."""
    return os.path.exists(os.path.join(_directory(runtime), f"{_name(guest)}.json"))


def drop(runtime: str, guest: str) -> None:
    """Nothing is wanted of the guest's next start any more."""
    if _name(guest):
        jsondir.remove(_directory(runtime), _name(guest))


def _directory(runtime: str) -> str:
    return os.path.join(runtime, DIRECTORY)


def _name(guest: str) -> str:
    return "" if "/" in guest or not guest else PREFIX + guest

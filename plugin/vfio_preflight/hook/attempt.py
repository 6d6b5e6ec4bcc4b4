"""An incoming migration that the hook let pass, on its way from ``migrate begin`` to ``started``.

At ``started begin`` the destination's QEMU has realised its devices and no memory was sent yet:
they are judged there once more, by what they really present. What is left here says that this is
wanted, and for which attempt: it is for a guest of this UUID alone, whose QEMU was started soon
after it was left, and whose XML has the token that ``migrate begin`` put there, if it did. An
attempt that never comes to ``started`` (an offline migration, one that libvirt itself refuses) thus
concerns no later start: no cold start, no restore, no revert to a snapshot.
"""

from __future__ import annotations

import time

from ..host.runtime import load, remove, store

KIND = "second-gate"
MAX_ATTEMPTS = 4096
# Seconds from migrate begin to started begin: 0.3 as a rule, more on a host that is busy.
SOON = 300.0


def leave(runtime: str, guest: str, uuid: str, token: str = "") -> bool:
    """Have the guest judged again at ``started begin``; return whether that could be stored.

    ``token`` stands in the XML of this attempt alone; it is empty where nothing was put there.
    """
    value = {"uuid": uuid, "token": token, "time": _now()}
    return store(runtime, KIND, guest, value, MAX_ATTEMPTS)


def take(runtime: str, guest: str, xml: bytes, age: float) -> bool:
    """Whether the domain ``xml``, whose QEMU is ``age`` seconds old, waits to be judged again.

    Whatever waited for a guest of this name is used up.
    """
    waited = _waited(runtime, guest, xml)
    drop(runtime, guest)
    # A second's grace: /proc gives the start of a process in ticks.
    return waited is not None and age - 1.0 <= waited


def is_waiting(runtime: str, guest: str, xml: bytes) -> bool:
    """Whether the domain ``xml`` waits to be judged again, as far as can be told without QEMU."""
    return _waited(runtime, guest, xml) is not None


def drop(runtime: str, guest: str) -> None:
    """Nothing is wanted of the guest's next start any more."""
    remove(runtime, KIND, guest)


def _waited(runtime: str, guest: str, xml: bytes) -> float | None:
    """Seconds since the attempt of the domain ``xml`` was left; None if none, or another, was."""
    value = load(runtime, KIND, guest)
    if not isinstance(value, dict) or not isinstance(value.get("time"), float):
        return None
    # Searched as libvirt writes them: no parser is loaded for that.
    for text in (f"<uuid>{value.get('uuid')}</uuid>", str(value.get("token", ""))):
        if text.encode() not in xml:
            return None
    waited = _now() - value["time"]
    return waited if 0.0 <= waited <= SOON else None


def _now() -> float:
    # The clock that /proc gives the start of a process by. Nobody sets it, and /run does not
    # outlive it.
    return time.clock_gettime(time.CLOCK_BOOTTIME)

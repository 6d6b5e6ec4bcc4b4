"""What is expected of a guest that was let in, on its way from ``migrate begin`` to the end.

``migrate begin`` leaves what it predicted, one file for each guest's name, which the shell part of
the hook can see at no cost; ``release end`` of a guest that failed to arrive takes it, and so does
``watch`` when the guest runs. The file is of one attempt, the latest: it names the guest's UUID and
a token, which stands in the XML of this attempt too, if that was annotated.
"""

from __future__ import annotations

from ..host.runtime import exists, load, remove, store
from ..osutil.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

KIND = "expected"
# Guests that wait at a time; one that never comes (libvirt refused it for another reason) stays
# until the next attempt, or the next boot.
MAX_WAITING = 256


def leave(runtime: str, guest: str, value: Mapping[str, Any]) -> bool:
    """Leave what is expected of ``guest``, in place of what was; return whether that was done."""
    return store(runtime, KIND, guest, value, MAX_WAITING)


def waiting(runtime: str, guest: str) -> dict[str, Any] | None:
    """What is expected of ``guest``, None if nothing is."""
    from ..host.history import is_expected

    value = load(runtime, KIND, guest)
    return value if is_expected(value) else None


def is_waiting(runtime: str, guest: str) -> bool:
    """Whether anything is expected of ``guest``, at the cost of one system call."""
    return exists(runtime, KIND, guest)


def drop(runtime: str, guest: str) -> None:
    """Expect nothing of ``guest`` any more."""
    remove(runtime, KIND, guest)

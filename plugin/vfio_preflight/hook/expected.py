"""What is expected of a guest that was let in, on its way from ``migrate begin`` to the end.

``migrate begin`` leaves what it predicted, one file for each guest's name, which the shell part of
the hook can see at no cost; ``release end`` of a guest that failed to arrive takes it, and so does
``watch`` when the guest runs. The file is of one attempt, the latest: it names the guest's UUID and
a token, which stands in the XML of this attempt too, if that was annotated.
"""

from __future__ import annotations

import os

from ..osutil import jsondir
from ..osutil.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# Guests that wait at a time; one that never comes (libvirt refused it for another reason) stays
# until the next attempt, or the next boot.
MAX_WAITING = 256


def leave(runtime: str, guest: str, value: Mapping[str, Any]) -> bool:
    """Leave what is expected of ``guest``, in place of what was; return whether that was done."""
    # A name of 251 bytes, the longest that libvirt can have, does not fit.
    return _is_name(guest) and jsondir.store(_directory(runtime), guest, value, MAX_WAITING)


def waiting(runtime: str, guest: str) -> dict[str, Any] | None:
    """What is expected of ``guest``, None if nothing is."""
    from ..host.history import is_expected

    value = jsondir.load(_directory(runtime), guest) if _is_name(guest) else None
    return value if is_expected(value) else None


def is_waiting(runtime: str, guest: str) -> bool:
    """Whether anything is expected of ``guest``, at the cost of one system call."""
    return _is_name(guest) and os.path.exists(os.path.join(_directory(runtime), f"{guest}.json"))


def drop(runtime: str, guest: str) -> None:
    """Expect nothing of ``guest`` any more."""
    if _is_name(guest):
        jsondir.remove(_directory(runtime), guest)


def _directory(runtime: str) -> str:
    return os.path.join(runtime, "expected")


def _is_name(guest: str) -> bool:
    # Not a valid guest name, but a hook's argument could lead out of the directory.
    return bool(guest) and "/" not in guest

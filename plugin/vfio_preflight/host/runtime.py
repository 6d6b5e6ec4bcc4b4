"""What the hook leaves for a guest in the runtime directory, from one call to another.

One file for each guest's name and each kind, ``KIND/NAME.json``. The shell part of the hook tests
for them before it starts Python, so that guests of which nothing is wanted cost a system call.

No name leads elsewhere: libvirt has no guest with a slash in its name, a hook's argument might, and
nothing is kept of that. Neither is anything of a name of 251 bytes, the longest that libvirt can
have, as the file's name would be too long.
"""

from __future__ import annotations

import os

from ..osutil import jsondir
from ..osutil.light import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


def store(runtime: str, kind: str, guest: str, value: object, limit: int) -> bool:
    """Leave ``value`` in place of what was there, and of each kind the latest ``limit`` files.

    Return whether that was done.
    """
    directory = os.path.join(runtime, kind)
    return _is_name(guest) and jsondir.store(directory, guest, value, limit)


def load(runtime: str, kind: str, guest: str) -> Any:  # noqa: ANN401 - it is JSON
    """What was left, None if nothing was."""
    return jsondir.load(os.path.join(runtime, kind), guest) if _is_name(guest) else None


def exists(runtime: str, kind: str, guest: str) -> bool:
    """Whether anything was left, at the cost of one system call."""
    return _is_name(guest) and os.path.exists(os.path.join(runtime, kind, f"{guest}.json"))


def remove(runtime: str, kind: str, guest: str) -> None:
    """Leave nothing."""
    if _is_name(guest):
        jsondir.remove(os.path.join(runtime, kind), guest)


def _is_name(guest: str) -> bool:
    return bool(guest) and "/" not in guest

"""A refused restore, on its way from the ``restore`` hook to the ``prepare`` hook.

libvirt 11.3 deletes a managed save when ``restore begin`` fails, so the refusal waits for ``prepare
begin``. It must meet only the attempt it was meant for, never a later cold start. Therefore it has
two halves: a file named after the guest, which the shell part of the hook can see at no cost, and a
token that ``restore begin`` puts into the XML of this attempt alone. libvirt hands that XML to
``prepare begin``; a cold start's comes from the guest's definition, which has no token.
"""

from __future__ import annotations

import contextlib
import os

PREFIX = "guest-"


def leave(runtime: str, guest: str, token: str, message: str) -> bool:
    """Leave a refusal for ``prepare begin``; False if it cannot be written."""
    path = _path(runtime, guest)
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(temporary, "w", encoding="utf-8", opener=_private) as file:
            file.write(f"{token}\n{message}")
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        return False
    return True


def take(runtime: str, guest: str) -> tuple[str, str] | None:
    """Token and message of the refusal that waits for ``guest``, which is thereby used up."""
    path = _path(runtime, guest)
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            token, _, message = file.read(1 << 20).partition("\n")
        os.unlink(path)
    except OSError:
        return None
    return token, message


def _path(runtime: str, guest: str) -> str:
    if "/" in guest or not guest:
        return os.path.join(runtime, "refused", PREFIX)
    return os.path.join(runtime, "refused", PREFIX + guest)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

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

# Short, so that it fits before any name for which libvirt can have a NAME.xml (255 bytes).
PREFIX = "g-"


def leave(runtime: str, guest: str, token: str, message: str) -> None:
    """Leave a refusal for ``prepare begin``. Raises OSError if it cannot be written."""
    path = _path(runtime, guest)
    temporary = os.path.join(os.path.dirname(path), f".{os.urandom(8).hex()}.tmp")
    # 0700: the message has the guest's name and reasons, and only root may plant a refusal.
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    try:
        # "x" (O_EXCL): never writes through a link or into an existing file.
        with open(temporary, "x", encoding="utf-8", errors="replace", opener=_private) as file:
            file.write(f"{token}\n{message}")
        # rename() makes the refusal visible only when it is complete.
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def take(runtime: str, guest: str) -> tuple[str, str] | None:
    """Token and message of the refusal that waits for ``guest``, which is thereby used up."""
    path = _path(runtime, guest)
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            token, _, message = file.read(1 << 20).partition("\n")
        # Removed even if it is for another attempt: a refusal must not outlive the next start.
        os.unlink(path)
    except OSError:
        return None
    return token, message


def _path(runtime: str, guest: str) -> str:
    # Not a valid guest name; the fixed name keeps the path inside the directory.
    if "/" in guest or not guest:
        return os.path.join(runtime, "refused", PREFIX)
    return os.path.join(runtime, "refused", PREFIX + guest)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)

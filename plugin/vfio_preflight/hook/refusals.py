"""A refused restore, on its way from the ``restore`` hook to the ``prepare`` hook.

libvirt 11.3 deletes a managed save when ``restore begin`` fails, so the refusal waits for ``prepare
begin``. It must meet only the attempt it was meant for, never a later cold start, and two attempts
at one image can overlap. Therefore it has two halves: a file named by a token, in a directory named
after the guest, which the shell part of the hook can see at no cost; and the same token in the XML
of this attempt alone. libvirt hands that XML to ``prepare begin``; a cold start's comes from the
guest's definition, which has no token.

What nobody comes for (libvirt died between the two hooks) blocks nothing, as no XML has its token;
the next refusal, or the guest's next start, finds it too old and removes it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from ..osutil.regular import read_start

# Short, so that it fits before any name for which libvirt can have a NAME.xml (255 bytes).
PREFIX = "g-"
# Seconds from restore begin to prepare begin: milliseconds as a rule, more on a host that is busy.
SOON = 300
# Attempts at one guest at a time.
MAX_ATTEMPTS = 64
_MAX_MESSAGE = 1 << 20
_PARTIAL = ".tmp"
_TRIES = 8  # to find the guest's directory where it was made


def leave(runtime: str, guest: str, token: str, message: str) -> None:
    """Leave a refusal for the ``prepare begin`` of the attempt of ``token``, a word of letters.

    Raises OSError if it cannot be written.
    """
    place = _place(runtime, guest)
    sweep(runtime)
    for left in reversed(range(_TRIES)):
        try:
            _write(place, token, message)
            break
        # Another hook sweeps, and has removed the directory between its making and its use.
        except FileNotFoundError:
            if not left:
                raise
    for _, _, old in sorted(_entries(place))[:-MAX_ATTEMPTS]:
        _remove(old)


def _write(place: str, token: str, message: str) -> None:
    # 0700: the message has the guest's name and reasons, and only root may plant a refusal.
    # It may be gone the next moment, which makes makedirs() take it for something else.
    with contextlib.suppress(FileExistsError):
        os.makedirs(place, mode=0o700, exist_ok=True)
    path = os.path.join(place, f"{_now()}.{token}")
    temporary = path + _PARTIAL
    try:
        # "x" (O_EXCL): never writes through a link or into an existing file.
        with open(temporary, "x", encoding="utf-8", errors="replace", opener=_private) as file:
            file.write(message)
        # rename() makes the refusal visible only when it is complete.
        os.rename(temporary, path)
    except OSError:
        _remove(temporary)
        with contextlib.suppress(OSError):
            os.rmdir(place)
        raise


def take(runtime: str, guest: str, token: str | None) -> str | None:
    """The message of the refusal of this attempt at ``guest``, which is thereby used up.

    None where the attempt of ``token`` was not refused, or no token is given. A refusal that cannot
    be read is one all the same.
    """
    place = _place(runtime, guest)
    message = None
    # The token comes from XML: it is compared with what is there, and makes no path.
    for _, name, path in _entries(place):
        if name == token:
            try:
                # Of any length, the first part of it refuses as well.
                message = read_start(path, _MAX_MESSAGE).decode("utf-8", "replace")
            except OSError as error:
                message = f"vfio-preflight: restore blocked: {path}: {error.strerror}"
            _remove(path)
    _sweep_guest(place)
    return message


def _entries(place: str) -> Iterator[tuple[int, str, str]]:
    """When each refusal was left, its token and its path; ``.tmp`` belongs to the token."""
    try:
        names = os.listdir(place)
    except OSError:
        return
    for name in names:
        left, _, token = name.partition(".")
        # What is not ours counts as very old.
        yield (
            int(left) if left.isascii() and left.isdigit() else 0,
            token,
            os.path.join(place, name),
        )


def sweep(runtime: str) -> None:
    """Remove what nobody came for, of all guests, and what writers that were killed left behind."""
    refused = os.path.join(runtime, "refused")
    try:
        names = os.listdir(refused)
    except OSError:
        return
    for name in names:
        _sweep_guest(os.path.join(refused, name))


def _sweep_guest(place: str) -> None:
    now = _now()
    for left, _, path in _entries(place):
        if not 0 <= now - left <= SOON:
            _remove(path)
    try:
        os.rmdir(place)
    except NotADirectoryError:
        # An older version's refusal, or its temporary file.
        _remove(place)
    except OSError:
        return


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _now() -> int:
    # Nobody sets this clock, and /run does not outlive it.
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))


def _place(runtime: str, guest: str) -> str:
    # Not a valid guest name; the fixed name keeps the path inside the directory.
    if "/" in guest or not guest:
        return os.path.join(runtime, "refused", PREFIX)
    return os.path.join(runtime, "refused", PREFIX + guest)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)

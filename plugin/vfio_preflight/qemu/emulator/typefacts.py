"""What a build says of all its device types: asked of the binary itself, and remembered.

    >>> facts = type_facts("/usr/bin/qemu-system-x86_64", cache_dir=None, deadline=now + 10.0)
    >>> len(facts.types), facts.roms["efi-virtio.rom"]
    (495, 262144)

Answered once for as long as the binary is the same file, like ``facts``, and kept beside its
answers. Of many processes one asks (``introspect``), and the others wait.
"""

from __future__ import annotations

import os
import time

from ...osutil import jsondir
from ...osutil.executable import Executable, ExecutableError, trusted_executable
from ...osutil.light import TYPE_CHECKING
from .facts import EmulatorError
from .romfiles import sizes
from .types import TypeFacts
from .typesjson import from_json, to_json

if TYPE_CHECKING:
    from typing import Any

_SCHEMA = 1  # of a cached entry: raise it whenever TypeFacts changes
SUBDIRECTORY = "types"
_POLL = 0.02  # seconds between two looks at what another process is asking
_MALFORMED = (LookupError, TypeError, ValueError, AttributeError)


def type_facts(path: str, *, cache_dir: str | None, deadline: float, root: str = "/") -> TypeFacts:
    """What the build at ``path`` says of its types; the arguments are those of ``emulator_facts``.

    Raises EmulatorError if the emulator must not be run or does not answer.
    """
    try:
        executable = trusted_executable(path, root)
    except ExecutableError as error:
        raise EmulatorError(f"emulator {error}") from error
    # A script stays the same file when what it starts is upgraded.
    if executable.script or cache_dir is None:
        return _ask(executable, deadline)
    directory = os.path.join(cache_dir, SUBDIRECTORY)
    return _cached(directory, executable) or _answered(directory, executable, deadline)


def _cached(directory: str, executable: Executable) -> TypeFacts | None:
    packed = jsondir.load(directory, _name(executable))
    try:
        if packed["key"] != _key(executable):
            return None
        facts = from_json(packed)
        # Option ROMs are renewed by packages of their own.
        return facts if packed["files"] == sizes(facts.directories) else None
    # A cache is a convenience: what cannot be read is asked for again.
    except _MALFORMED:
        return None


def _answered(directory: str, executable: Executable, deadline: float) -> TypeFacts:
    """The answer of the build, to this process or to another that is asking already."""
    from ...osutil.locks import is_taken, lock_file

    try:
        lock = lock_file(directory, f".{_name(executable)}.lock")
    except OSError:
        return _ask(executable, deadline)
    try:
        while not is_taken(lock):
            if time.monotonic() >= deadline:
                raise EmulatorError(
                    f"emulator {executable.path}: another process was asking it for its device"
                    " types, and has not come to an end"
                )
            time.sleep(_POLL)
        found = _cached(directory, executable)
        if found is None:
            found = _ask(executable, deadline)
            files = sizes(found.directories)
            packed = {"key": _key(executable), "files": files, **to_json(found)}
            jsondir.store(directory, _name(executable), packed)
        return found
    finally:
        os.close(lock)


def _name(executable: Executable) -> str:
    return executable.realpath[1:].replace("/", "!")


def _key(executable: Executable) -> list[Any]:
    return [_SCHEMA, executable.realpath, *executable.identity]


def _ask(executable: Executable, deadline: float) -> TypeFacts:
    # Most processes find the answer there.
    from .introspect import ask

    return ask(executable, deadline)

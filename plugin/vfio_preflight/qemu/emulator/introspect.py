"""What a build says of all its device types, asked of the binary itself and remembered.

    >>> facts = type_facts("/usr/bin/qemu-system-x86_64", cache_dir=None, deadline=now + 10.0)
    >>> len(facts.types), facts.roms["efi-virtio.rom"]
    (495, 262144)

Six hundred questions, which take 0.3 to 0.7 s; answered once for as long as the binary is the same
file, like ``facts``, and kept beside its answers. Of many processes one asks, and the others wait.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping

from ...osutil import jsondir
from ...osutil.executable import (
    Executable,
    ExecutableError,
    trusted_executable,
    unprivileged_user,
)
from ...osutil.light import TYPE_CHECKING
from ...osutil.text import printable
from .facts import EmulatorError
from .roms import ROMS
from .types import TypeFacts
from .typesjson import checked, from_json, to_json

if TYPE_CHECKING:
    from typing import Any

_SCHEMA = 1  # of a cached entry: raise it whenever TypeFacts changes
SUBDIRECTORY = "types"
_ARGUMENTS = (
    # As in facts.py.
    *("-machine", "none,accel=tcg:kvm"),
    *("-S", "-no-user-config", "-nodefaults", "-display", "none", "-qmp", "stdio"),
)
_POLL = 0.02  # seconds between two looks at what another process is asking
_MALFORMED = (LookupError, TypeError, ValueError, AttributeError)
_MAX_TYPES = 5000
_AT_ONCE = 100  # questions
_MAX_DIRECTORIES = 20


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
        return from_json(packed) if packed["key"] == _key(executable) else None
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
            packed = {"key": _key(executable), **to_json(found)}
            jsondir.store(directory, _name(executable), packed)
        return found
    finally:
        os.close(lock)


def _name(executable: Executable) -> str:
    return executable.realpath[1:].replace("/", "!")


def _key(executable: Executable) -> list[Any]:
    return [_SCHEMA, executable.realpath, *executable.identity]


# --- asking -------------------------------------------------------------------------------------


def _ask(executable: Executable, deadline: float) -> TypeFacts:
    from ...osutil.apart import apart

    try:
        # What it says is foreign: it is taken apart in a process without privilege.
        packed = apart(lambda: _asked(executable, deadline), deadline, EmulatorError)
        return checked(from_json(packed))
    except (EmulatorError, ExecutableError) as error:
        raise EmulatorError(f"emulator {executable.path}: {error}") from error
    except _MALFORMED as error:
        raise EmulatorError(f"emulator {executable.path}: {_not_qemus(error)}") from error


def _not_qemus(error: Exception) -> str:
    what = printable(f"{type(error).__name__}: {error}", 200)
    return f"its answers about its device types are not those of a QEMU ({what})"


def _asked(executable: Executable, deadline: float) -> dict[str, Any]:
    from .client import ProcessError

    try:
        greeting, machines, types, properties = _converse(executable, deadline)
        roms = _roms(_data_directories(executable, deadline))
        return to_json(_facts(greeting["version"], machines, types, properties, roms))
    except (ProcessError, ExecutableError) as error:
        raise EmulatorError(str(error)) from error
    except _MALFORMED as error:
        raise EmulatorError(_not_qemus(error)) from error


_Answer = Mapping[str, "Any"]


def _converse(
    executable: Executable, deadline: float
) -> tuple[Any, _Answer, list[_Answer], list[_Answer]]:
    """The greeting, the machine types, all device types, and each type's properties."""
    from .client import Emulator, ProcessError, wait

    left = deadline - time.monotonic()
    if left <= 0:
        raise ProcessError("was not asked: no time was left")
    argv = (executable.realpath, *_ARGUMENTS)
    cpu = int(min(left, 3600.0)) + 2
    with Emulator(argv, user=unprivileged_user(), cpu=cpu) as emulator:
        taken = 0

        def ask(*queries: tuple[str, Mapping[str, object]]) -> list[_Answer]:
            nonlocal taken
            emulator.send_all(queries)
            first, taken = taken, taken + len(queries)
            wait(lambda: emulator.is_silent or len(emulator.replies) >= taken, [emulator], deadline)
            if len(emulator.replies) < taken:
                raise ProcessError(emulator.failure())
            return emulator.replies[first:taken]

        _, with_compat, without, types = ask(
            ("qmp_capabilities", {}),
            ("query-machines", {"compat-props": True}),
            ("query-machines", {}),  # for QEMU before 9.1, where the former is an error
            ("qom-list-types", {"implements": "device", "abstract": True}),
        )
        listed = list(types["return"])[:_MAX_TYPES]
        questions = [("device-list-properties", {"typename": each["name"]}) for each in listed]
        properties: list[_Answer] = []
        # A pipe holds some hundred questions; more at once would block on what nobody reads yet.
        for start in range(0, len(questions), _AT_ONCE):
            properties += ask(*questions[start : start + _AT_ONCE])
        machines = with_compat if "return" in with_compat else without
        return emulator.greeting, machines, listed, properties


def _facts(
    version: Mapping[str, Any],
    machines: _Answer,
    types: list[_Answer],
    properties: list[_Answer],
    roms: dict[str, int],
) -> TypeFacts:
    listed: dict[tuple[Any, ...], int] = {}
    sets: dict[str, int] = {}
    made: dict[str, int] = {}
    for each, reply in zip(types, properties):
        # An error is the answer for an abstract type.
        if "return" in reply:
            own = sorted(_property(entry) for entry in reply["return"])
            numbers = " ".join(str(listed.setdefault(key, len(listed))) for key in own)
            made[str(each["name"])] = sets.setdefault(numbers, len(sets))
    entries: dict[tuple[str, ...], int] = {}
    numbers_of = {
        str(machine["name"]): " ".join(
            str(entries.setdefault(_entry(entry), len(entries)))
            for entry in machine.get("compat-props", ())
        )
        for machine in machines["return"]
    }
    numbers = version["qemu"]
    return TypeFacts(
        version=f"{numbers['major']:d}.{numbers['minor']:d}.{numbers['micro']:d}",
        package=str(version.get("package", "")).strip(),
        compat_props_known=any("compat-props" in machine for machine in machines["return"]),
        listed=[[name, kind, _default(text)] for name, kind, text in listed],
        sets=list(sets),
        types=made,
        parents={str(each["name"]): str(each.get("parent", "")) for each in types},
        entries=[list(entry) for entry in entries],
        machines=numbers_of,
        roms=roms,
    )


def _property(entry: _Answer) -> tuple[str, str, str]:
    """Name, type and default; the default as JSON, so that properties can be sorted."""
    import json

    default = entry.get("default-value")
    plain = default if isinstance(default, (str, bool, int)) else None
    return (str(entry["name"]), str(entry["type"]), json.dumps(plain))


def _default(text: str) -> Any:  # noqa: ANN401 - str, bool, int or None
    import json

    return json.loads(text)


def _entry(entry: _Answer) -> tuple[str, str, str]:
    return (str(entry["qom-type"]), str(entry["property"]), str(entry["value"]))


# --- option ROMs --------------------------------------------------------------------------------


def _data_directories(executable: Executable, deadline: float) -> list[str]:
    """Where it looks for firmware, in order; by ``-L help``, which asks nothing else of it."""
    from ...osutil import program

    limits = program.Limits(cpu=2, file_size=0)
    argv = [executable.realpath, "-L", "help"]
    started = program.start(argv, unprivileged_user(), limits)
    try:
        assert started.process.stdout is not None
        text = _read(started.process.stdout.fileno(), deadline)
    finally:
        program.end(started)
    lines = text.decode("utf-8", "surrogateescape").splitlines()
    return [line for line in lines if line.startswith("/")][:_MAX_DIRECTORIES]


def _read(descriptor: int, deadline: float) -> bytes:
    import select

    text = b""
    while len(text) < 1 << 16:
        left = max(0.0, deadline - time.monotonic())
        if not select.select([descriptor], [], [], left)[0]:
            break
        part = os.read(descriptor, 4096)
        if not part:
            break
        text += part
    return text


def _roms(directories: list[str]) -> dict[str, int]:
    """The size in bytes of each option ROM, of the first directory that has it.

    Source: ``qemu_find_file()``, system/datadir.c.
    """
    found: dict[str, int] = {}
    for name in sorted(set(ROMS.values())):
        sizes = (_size(os.path.join(directory, name)) for directory in directories)
        size = next(filter(None, sizes), None)
        if size:
            found[name] = size
    return found


def _size(path: str) -> int | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_size if stat.S_ISREG(info.st_mode) else None

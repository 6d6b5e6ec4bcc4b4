"""Asks a build for all its device types: six hundred questions, which take 0.3 to 0.7 s.

Everything it says is foreign, and is taken apart in a process without privilege.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Mapping

from ...osutil import program
from ...osutil.apart import apart
from ...osutil.executable import Executable, ExecutableError, unprivileged_user
from ...osutil.light import TYPE_CHECKING
from ...osutil.text import printable
from .client import Emulator, ProcessError, wait
from .facts import EmulatorError
from .romfiles import found_in
from .types import TypeFacts
from .typesjson import checked, from_json, to_json

if TYPE_CHECKING:
    from typing import Any

_ARGUMENTS = (
    # As in facts.py.
    *("-machine", "none,accel=tcg:kvm"),
    *("-S", "-no-user-config", "-nodefaults", "-display", "none", "-qmp", "stdio"),
)
_MALFORMED = (LookupError, TypeError, ValueError, AttributeError)
_MAX_TYPES = 5000
_AT_ONCE = 100  # questions
_MAX_DIRECTORIES = 20


def ask(executable: Executable, deadline: float) -> TypeFacts:
    """What the build says of its types. Raises EmulatorError."""
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
    try:
        greeting, machines, types, properties = _converse(executable, deadline)
        directories = _data_directories(executable, deadline)
        facts = _facts(greeting["version"], machines, types, properties)
        return to_json(facts._replace(directories=directories, roms=found_in(directories)))
    except (ProcessError, ExecutableError) as error:
        raise EmulatorError(str(error)) from error
    except _MALFORMED as error:
        raise EmulatorError(_not_qemus(error)) from error


_Answer = Mapping[str, "Any"]


def _converse(
    executable: Executable, deadline: float
) -> tuple[Any, _Answer, list[_Answer], list[_Answer]]:
    """The greeting, the machine types, all device types, and each type's properties."""
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
        directories=(),
        roms={},
    )


def _property(entry: _Answer) -> tuple[str, str, str]:
    """Name, type and default; the default as JSON, so that properties can be sorted."""
    default = entry.get("default-value")
    plain = default if isinstance(default, (str, bool, int)) else None
    return (str(entry["name"]), str(entry["type"]), json.dumps(plain))


def _default(text: str) -> Any:  # noqa: ANN401 - str, bool, int or None
    return json.loads(text)


def _entry(entry: _Answer) -> tuple[str, str, str]:
    return (str(entry["qom-type"]), str(entry["property"]), str(entry["value"]))


# --- option ROMs --------------------------------------------------------------------------------


def _data_directories(executable: Executable, deadline: float) -> list[str]:
    """Where it looks for firmware, in order; by ``-L help``, which asks nothing else of it."""
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

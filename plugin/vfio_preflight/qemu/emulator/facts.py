"""What a guest's emulator can do, asked of the binary itself and remembered.

    >>> facts = emulator_facts("/usr/bin/qemu-system-x86_64", cache_dir=None, deadline=now + 3.0)
    >>> facts.version, "skip-vsc-check" in facts.properties["vfio-pci"]
    ('10.0.2', True)

Version numbers prove nothing: distributions have machine types and backports of their own. So the
binary is asked over QMP, once for as long as it is the same file. A wrapper script is
asked every time, since it stays the same file when what it starts changes. QEMU's loadable modules
are not part of the identity: they are of the same build, and no VFIO device comes from one.

Of many processes that want to know the same at once, one asks and the others wait for its answer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from ...errors import PreflightError
from ...osutil import jsondir
from ...osutil.executable import (
    Executable,
    ExecutableError,
    trusted_executable,
    unprivileged_user,
)
from ...osutil.light import TYPE_CHECKING, NamedTuple
from .machines import VFIO_TYPES, EmulatorFacts, MachineType, Property, natural_key

if TYPE_CHECKING:
    from typing import Any

__all__ = ["EmulatorError", "EmulatorFacts", "MachineType", "Property", "emulator_facts"]

_SCHEMA = 2  # of a cached entry: raise it whenever to_json() changes
_ARGUMENTS = (
    # The same form as libvirt's own probe, so that wrapper scripts cope; TCG first, since it needs
    # no device and makes no virtual machine.
    *("-machine", "none,accel=tcg:kvm"),
    # No configuration file of the host's may have a part in the answers.
    *("-S", "-no-user-config", "-nodefaults", "-display", "none", "-qmp", "stdio"),
)
# Seconds of a deadline that are left for asking oneself if another process does not come to an end;
# asking takes some 0.1.
_OWN_TIME = 3.0
_POLL = 0.01  # seconds between two looks at what another process is asking
_BY_HAND = "run it by hand to see what is wrong with it"
# What taking an answer of another shape apart can raise.
_MALFORMED = (LookupError, TypeError, ValueError, AttributeError)


class EmulatorError(PreflightError):
    """An emulator that must not be run, cannot be run, or does not answer."""


class _Replies(NamedTuple):
    """What comes back for ``_queries()``, in that order."""

    machines_with_compat: Mapping[str, Any]
    machines: Mapping[str, Any]
    types: Mapping[str, Any]
    properties: Mapping[str, Any]
    nohotplug_properties: Mapping[str, Any]
    target: Mapping[str, Any]


class Answer(NamedTuple):
    """What an emulator answered, and the same as JSON: to pack it anew takes milliseconds."""

    facts: EmulatorFacts
    json: Mapping[str, Any]


def emulator_facts(
    path: str, *, cache_dir: str | None, deadline: float, root: str = "/"
) -> EmulatorFacts:
    """Return what the emulator at ``path`` can do, from the cache or from the emulator.

    ``deadline`` is on the clock of ``time.monotonic()``, in seconds; the emulator is dead by then.
    ``cache_dir`` is made if need be; None, or one that cannot be used, means that the emulator is
    asked each time. ``root`` is where ``path`` is looked up: see ``trusted_executable()``.

    Raises EmulatorError if the emulator must not be run or does not answer.
    """
    try:
        executable = trusted_executable(path, root)
    except ExecutableError as error:
        raise EmulatorError(
            f"emulator {error}; correct the guest's <emulator>, or install that program"
        ) from error
    # A script stays the same file when what it starts is upgraded.
    usable_cache = None if executable.script else cache_dir
    if usable_cache is None:
        return _ask(executable, deadline).facts
    return _cached(usable_cache, executable) or _answered(usable_cache, executable, deadline)


def cached_emulators(cache_dir: str) -> list[str]:
    """The paths of the emulators whose answers were kept, be they current or not."""
    return [f"/{name.replace('!', '/')}" for name in jsondir.names(cache_dir)]


def _answered(cache_dir: str, executable: Executable, deadline: float) -> EmulatorFacts:
    """The answer of the emulator, to this process or to another that is asking already."""
    from ...osutil.locks import lock_file

    try:
        lock = lock_file(cache_dir, f".{_cache_name(executable)}.lock")
    except OSError:
        # Nor could another process leave its answer there.
        return _ask(executable, deadline).facts
    try:
        facts = _awaited(lock, cache_dir, executable, deadline)
        if facts is None:
            facts, answer = _ask(executable, deadline)
            kept = {**answer, "key": _key(executable)}
            jsondir.store(cache_dir, _cache_name(executable), kept)
        return facts
    finally:
        os.close(lock)


def _awaited(
    lock: int, cache_dir: str, executable: Executable, deadline: float
) -> EmulatorFacts | None:
    """What another process was answered; None if it is up to this one to ask.

    That is with the lock held; or without, where another holds it for too long: it may have been
    stopped by somebody.
    """
    from ...osutil.locks import is_taken

    now = time.monotonic()
    end = max(deadline - _OWN_TIME, now + (deadline - now) / 2)
    while time.monotonic() < end:
        if is_taken(lock):
            # By one that held it before, which may also have failed or been killed.
            return _cached(cache_dir, executable)
        time.sleep(_POLL)
    return None


def _ask(executable: Executable, deadline: float) -> Answer:
    from ...osutil.apart import apart

    try:
        answer = apart(lambda: _asked(executable, deadline), deadline, EmulatorError)
        return Answer(from_json(executable.path, answer), answer)
    except EmulatorError as error:
        raise EmulatorError(f"emulator {executable.path}: {error}") from error
    except ExecutableError as error:
        raise EmulatorError(f"emulator {executable.path}: {error}; {_BY_HAND}") from error
    except _MALFORMED as error:
        raise EmulatorError(f"emulator {executable.path}: {_not_qemus(error)}") from error


def _asked(executable: Executable, deadline: float) -> dict[str, Any]:
    """The facts as JSON, from the emulator; in a process without privilege."""
    from .client import ProcessError

    try:
        greeting, replies = _converse(executable, deadline)
        facts = _facts(executable.path, greeting["version"], _Replies(*replies))
    except (ProcessError, ExecutableError) as error:
        raise EmulatorError(f"{error}; {_BY_HAND}") from error
    except _MALFORMED as error:
        raise EmulatorError(_not_qemus(error)) from error
    return to_json(facts)


def _not_qemus(error: Exception) -> str:
    return f"its answers over QMP are not those of a QEMU ({type(error).__name__}: {error})"


def _converse(executable: Executable, deadline: float) -> tuple[Any, list[Mapping[str, Any]]]:
    """The greeting, and the answers to all queries.

    The queries are in the pipe before the first answer is read. ``quit`` is not among them: QEMU
    obeys it at once, and of the answers, which take more than a pipe holds, those that a slow
    reader on a busy host has not yet read would be lost.
    """
    from .client import Emulator, ProcessError, wait

    left = deadline - time.monotonic()
    if left <= 0:
        raise ProcessError("was not asked: no time was left")
    # The resolved path is what trusted_executable() has checked; a link could be changed since.
    argv = (executable.realpath, *_ARGUMENTS)
    # Processor time is limited in case this process is killed before it can end the emulator.
    cpu = int(min(left, 3600.0)) + 2
    queries = [("qmp_capabilities", {}), *_queries()]
    # The path comes from whoever may define a guest. libvirt runs it unprivileged: so must a hook.
    with Emulator(argv, user=unprivileged_user(), cpu=cpu) as emulator:
        emulator.send_all(queries)
        replies = emulator.replies
        wait(lambda: emulator.is_silent or len(replies) >= len(queries), [emulator], deadline)
        negotiated, *answers = replies or [{}]
        if "error" in negotiated:
            raise ProcessError(f"refuses to negotiate QMP: {str(negotiated)[:200]}")
        if len(replies) < len(queries):
            raise ProcessError(emulator.failure())
        return emulator.greeting, answers


def _queries() -> list[tuple[str, Mapping[str, object]]]:
    return [
        ("query-machines", {"compat-props": True}),
        ("query-machines", {}),  # for QEMU before 9.1, where the former is an error
        # Abstract types too: a compat entry may name an ancestor, such as pci-device.
        ("qom-list-types", {"implements": "pci-device", "abstract": True}),
        *(("device-list-properties", {"typename": name}) for name in VFIO_TYPES),
        ("query-target", {}),
    ]


def _facts(path: str, version: Mapping[str, Any], replies: _Replies) -> EmulatorFacts:
    """Turn QMP's answers into facts; raises what ``_MALFORMED`` lists if they are not QEMU's."""
    lineage = _lineage(replies.types["return"])
    # An error is the answer of QEMU before 9.1, which does not know the argument compat-props.
    known = "return" in replies.machines_with_compat
    machines = (replies.machines_with_compat if known else replies.machines)["return"]
    # Of each machine type's entries only those that can reach a VFIO device are kept.
    reaching = {ancestor for ancestors in lineage.values() for ancestor in ancestors}
    numbers = version["qemu"]
    return EmulatorFacts(
        path=path,
        version=f"{numbers['major']:d}.{numbers['minor']:d}.{numbers['micro']:d}",
        package=str(version.get("package", "")).strip(),
        machines={
            machine["name"]: _machine(machine, reaching)
            for machine in sorted(machines, key=lambda machine: natural_key(machine["name"]))
        },
        properties={
            name: _properties(reply["return"])
            for name, reply in zip(VFIO_TYPES, (replies.properties, replies.nohotplug_properties))
            # A build without VFIO answers an error for the type.
            if "return" in reply
        },
        lineage=lineage,
        compat_props_known=known,
        target=str(replies.target["return"]["arch"]),
    )


def _lineage(types: list[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Map each VFIO type to itself and its ancestors, from the answer of ``qom-list-types``."""
    parents = {entry["name"]: entry.get("parent") for entry in types}
    return {name: tuple(_ancestry(name, parents)) for name in VFIO_TYPES if name in parents}


def _ancestry(name: str | None, parents: Mapping[str, str | None]) -> list[str]:
    line: list[str] = []
    # QOM has no cycles, but what answers here may not be QEMU.
    while name is not None and name not in line:
        line.append(name)
        name = parents.get(name)
    return line


def _machine(entry: Mapping[str, Any], reaching: set[str]) -> MachineType:
    compat = (
        (prop["qom-type"], prop["property"], prop["value"])
        for prop in entry.get("compat-props", ())
        if prop["qom-type"] in reaching
    )
    return MachineType(
        name=entry["name"],
        alias=entry.get("alias"),
        deprecated=bool(entry.get("deprecated", False)),
        is_default=bool(entry.get("is-default", False)),
        compat=tuple(compat),
    )


def _properties(entries: list[Mapping[str, Any]]) -> dict[str, Property]:
    return {
        entry["name"]: Property(entry["type"], entry.get("default-value"))
        for entry in sorted(entries, key=lambda entry: str(entry["name"]))
    }


def _cached(cache_dir: str | None, executable: Executable) -> EmulatorFacts | None:
    if cache_dir is None:
        return None
    packed = jsondir.load(cache_dir, _cache_name(executable))
    try:
        # The key has the file's identity: after a package's upgrade the entry is not used.
        return from_json(executable.path, packed) if packed["key"] == _key(executable) else None
    # A cache is a convenience: what cannot be read is asked for again.
    except _MALFORMED:
        return None


def _cache_name(executable: Executable) -> str:
    """One entry a path, so that an upgraded emulator's replaces the old one's."""
    # Should two paths meet in one name, the key tells them apart.
    return executable.realpath[1:].replace("/", "!")


def _key(executable: Executable) -> list[Any]:
    return [_SCHEMA, executable.realpath, *executable.identity]


def to_json(facts: EmulatorFacts) -> dict[str, Any]:
    """Facts as JSON; the few distinct compat entries are written once and referred to."""
    entries = list(dict.fromkeys(e for m in facts.machines.values() for e in m.compat))
    index = {entry: number for number, entry in enumerate(entries)}
    return {
        "version": facts.version,
        "package": facts.package,
        "compat-props-known": facts.compat_props_known,
        "target": facts.target,
        "lineage": facts.lineage,
        "properties": facts.properties,
        "compat-entries": entries,
        "machines": [
            [*machine[:-1], [index[entry] for entry in machine.compat]]
            for machine in facts.machines.values()
        ],
    }


def from_json(path: str, packed: Mapping[str, Any]) -> EmulatorFacts:
    """What :func:`to_json` made of the facts of the emulator at ``path``.

    Raises LookupError, TypeError, ValueError or AttributeError for what it did not make.
    """
    entries = [tuple(entry) for entry in packed["compat-entries"]]
    machines = (
        MachineType(name, alias, deprecated, is_default, tuple(entries[n] for n in numbers))
        for name, alias, deprecated, is_default, numbers in packed["machines"]
    )
    return EmulatorFacts(
        path=path,
        version=packed["version"],
        package=packed["package"],
        machines={machine.name: machine for machine in machines},
        properties={
            name: {key: Property(*value) for key, value in properties.items()}
            for name, properties in packed["properties"].items()
        },
        lineage={name: tuple(ancestors) for name, ancestors in packed["lineage"].items()},
        compat_props_known=packed["compat-props-known"],
        target=packed["target"],
    )

"""QMP without any module of the project's: one question at a time, and the answers as they come.

And a reading of them that shares no algorithm with ``vfio_preflight.qemu.emulator.types``: which
types descend from which is QEMU's own answer, entries are read from the last to the first, and
values are compared by what they mean instead of being written in one notation.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any, Union

# The inner object of a device of two, for those that guests have.
INNER = {
    **{
        f"virtio-{kind}-pci": f"virtio-{kind}-device"
        for kind in ("net", "blk", "scsi", "serial", "balloon", "rng", "gpu", "keyboard", "tablet")
    },
    "virtio-vga": "virtio-gpu-device",
    "qemu-xhci": "base-xhci",
}


Meaning = Union[bool, int, str, None]


class Qmp:
    """A QEMU that answers."""

    def __init__(self, emulator: str, *arguments: str) -> None:
        command = [emulator, *arguments, "-S", "-nodefaults", "-display", "none", "-qmp", "stdio"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self.alive = bool(self._stdout.readline())
        if self.alive:
            self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: object) -> Any:  # noqa: ANN401 - it is JSON
        """What it returns; None for an error, or where it is gone."""
        try:
            self._stdin.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
            self._stdin.flush()
        except BrokenPipeError:
            return None
        for line in self._stdout:
            reply = json.loads(line)
            if "return" in reply:
                return reply["return"]
            if "error" in reply:
                return None
        return None

    def end(self) -> str:
        """Kill it; what it wrote on standard error."""
        self._process.kill()
        _, errors = self._process.communicate()
        return errors


@contextlib.contextmanager
def qmp(emulator: str, *arguments: str) -> Iterator[Qmp]:
    asked = Qmp(emulator, *arguments)
    try:
        yield asked
    finally:
        asked.end()


class Reading:
    """All defaults and compat entries of a build."""

    def __init__(self, emulator: str) -> None:
        with qmp(emulator, "-machine", "none") as asked:
            self.machines = {
                machine["name"]: machine.get("compat-props", [])
                for machine in asked.ask("query-machines", **{"compat-props": True})
            }
            self.defaults = {}
            for each in asked.ask("qom-list-types", implements="device"):
                listed = asked.ask("device-list-properties", typename=each["name"])
                if listed is not None:
                    self.defaults[each["name"]] = {
                        entry["name"]: (entry["type"], entry.get("default-value"))
                        for entry in listed
                    }
            named = {entry["qom-type"] for entries in self.machines.values() for entry in entries}
            self.descendants = {
                name: {
                    each["name"]
                    for each in asked.ask("qom-list-types", implements=name, abstract=True) or ()
                }
                for name in named
            }

    def value(self, machine: str, qom_type: str, name: str) -> Meaning:
        """The value that a machine type leaves a property of a device at; None if not told."""
        kind, default = self.defaults[qom_type][name]
        inner = INNER.get(qom_type)
        for which in (qom_type, *([inner] if inner in self.defaults else [])):
            if name not in self.defaults[which]:
                continue
            for entry in reversed(self.machines[machine]):
                concerned = which in self.descendants[entry["qom-type"]]
                if concerned and entry["property"] == name:
                    return meaning(kind, entry["value"])
        return None if default is None else meaning(kind, default)


def meaning(kind: str, value: bool | int | str) -> bool | int | str:
    """A value as what it means: a truth, a number or a text."""
    if isinstance(value, (bool, int)):
        return value
    if kind == "bool":
        return {"on": True, "yes": True, "true": True, "y": True}.get(value, False)
    with contextlib.suppress(ValueError):
        if kind == "size" and value[-1:] in ("K", "k"):
            return 1024 * int(value[:-1])
        if "int" in kind or kind == "size":
            return int(value, 16) if value.startswith("0x") else int(value)
    return value


def drift(
    source: Reading, destination: Reading, machine: str, types: Sequence[str]
) -> set[tuple[str, str, Any, Any]]:
    """Type, property and both values, where both tell one and they are not the same."""
    found = set()
    for qom_type in types:
        for name in source.defaults.get(qom_type, ()):
            if name in destination.defaults.get(qom_type, ()):
                one, other = (r.value(machine, qom_type, name) for r in (source, destination))
                if one is not None and other is not None and one != other:
                    found.add((qom_type, name, one, other))
    return found

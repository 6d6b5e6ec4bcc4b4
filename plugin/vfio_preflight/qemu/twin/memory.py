"""A guest's memory in its twin: as many blocks by the same names, but small.

What the state says of memory is which blocks there are, by name, and how large each is. Both
halves are given the same sizes; what a guest's memory is backed with (huge pages, files, nodes of
the host) is not in the state at all.

Source: QEMU, ``ram_save_setup()`` and ``parse_ramblocks()`` (migration/ram.c),
``machine_run_board_init()`` (hw/core/machine.c), which wants the backend's size to be the
machine's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from ...osutil.light import TYPE_CHECKING, NamedTuple
from . import words

if TYPE_CHECKING:
    from typing import Any

MIB = 1 << 20
# Of the machine, or of each of its NUMA nodes: a stream has 9 bytes for each page of zeros.
WHOLE, NODE = 64 * MIB, 32 * MIB
# Of what is plugged in: the least that every alignment takes.
PLUGGED = 64 * MIB
# Of other memory of the host's, in a BAR at most: the least that a CXL device takes.
SHARED = 256 * MIB
# QEMU leaves room for each device to be aligned to 1 GiB (pc_get_device_memory_range()).
_ROOM = 1 << 30
BACKEND = "memory-backend-"
DEVICES = ("pc-dimm", "nvdimm", "virtio-mem", "virtio-pmem")
# By which older machine types know a backend's block.
_NAMED = "x-use-canonical-path-for-ramblock-id"


class Memory(NamedTuple):
    """How large each is in the twin: ``whole`` the machine, ``backends`` by id, in bytes;
    ``devices`` is how many memory devices there are."""

    whole: int
    backends: Mapping[str, int]
    devices: int


def plan(arguments: Sequence[tuple[str, str]]) -> Memory:
    """What a guest's arguments, pairs of option and value, come to in its twin."""
    nodes = [
        options for options in _each(arguments, "numa", "type") if options.get("type") == "node"
    ]
    with_memory = [node for node in nodes if "memdev" in node or "mem" in node]
    whole = NODE * len(with_memory) or WHOLE
    backends = {str(node["memdev"]): NODE for node in with_memory if "memdev" in node}
    for machine in (*_each(arguments, "machine", "type"), *_each(arguments, "M", "type")):
        if "memory-backend" in machine:
            backends[str(machine["memory-backend"])] = whole
    plugged = [d for d in _each(arguments, "device", "driver") if is_memory_device(d)]
    for device in plugged:
        block = bytes_of(device.get("block-size"))
        backends[str(device.get("memdev", ""))] = max(PLUGGED, block or 0)
    return Memory(whole, backends, len(plugged))


def is_memory_device(device: Mapping[str, object]) -> bool:
    """Whether a ``-device`` is memory that is plugged in."""
    return str(device.get("driver", "")).startswith(DEVICES)


def size_option(text: str, memory: Memory) -> str:
    """``-m``: the twin's size, with the guest's slots, of which the state has an entry each."""
    given = words.read(text, "size")
    options: dict[str, object] = {"size": f"{memory.whole // MIB}M"}
    if "slots" in given or "maxmem" in given:
        options["slots"] = given.get("slots", "0")
        options["maxmem"] = f"{(memory.whole + _ROOM * (memory.devices + 1)) // MIB}M"
    return words.write(options)


def numa(text: str) -> str:
    """``-numa``: a node's memory by its size gets the twin's."""
    options = words.read(text, "type")
    if "mem" in options:
        options["mem"] = f"{NODE // MIB}M"
    return words.write_like(text, options, "type")


def backend(options: Mapping[str, Any], memory: Memory) -> dict[str, object] | None:
    """A memory backend of the twin; None for one that nothing uses."""
    name = str(options.get("id", ""))
    given = bytes_of(options.get("size"))
    # Of what is no node and not plugged in: shared memory, whose size is that of a BAR.
    size = memory.backends.get(name) or (min(given, SHARED) if given else None)
    if size is None:
        return None
    kept = {_NAMED: options[_NAMED]} if _NAMED in options else {}
    return {"qom-type": "memory-backend-ram", "id": name, **kept, "size": size}


def device(options: Mapping[str, Any]) -> dict[str, Any]:
    """A memory device of the twin: not where the guest has it, which lies beyond its end."""
    # Of a DIMM "addr" is where its memory begins, of virtio-mem the slot.
    place = "memaddr" if str(options["driver"]).startswith("virtio") else "addr"
    kept = {key: value for key, value in options.items() if key != place}
    if "requested-size" in kept:
        kept["requested-size"] = 0
    return kept


def _each(
    arguments: Sequence[tuple[str, str]], option: str, implied: str
) -> Iterator[dict[str, Any]]:
    for name, value in arguments:
        if name == option:
            try:
                yield words.read(value, implied)
            except words.ArgumentError:
                continue  # told by who transforms it


def bytes_of(value: object) -> int | None:
    """A size as QEMU reads it (``do_strtosz``); None for what is none, or a fraction."""
    found = re.fullmatch(r"(?i)([0-9]{1,20})([bkmgtpe]?)", str(value))
    if found is None:
        return None
    return int(found[1]) << 10 * "bkmgtpe".index(found[2].lower() or "b")

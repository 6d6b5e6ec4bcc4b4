"""What a guest's devices stand on, replaced by nothing: chardevs, block devices, networks, objects.

    >>> chardev("socket,id=charserial0,path=/run/x,server=on")
    'null,id=charserial0'

What is put in place has the same id and opens nothing. How large a disk is, who is at the other end
of a network and what a console says does not show in the state; exceptions are beside the tables.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from ...osutil.light import TYPE_CHECKING
from . import words

if TYPE_CHECKING:
    from typing import Any

# Of disks, whose size is in no state; a power of two, as an SD card must have.
DISK_SIZE = 1 << 30
FLOPPY_SIZE = 1440 << 10
# Where the size of a firmware's image cannot be had: that of the variables of a 4 MB OVMF.
FIRMWARE_SIZE = 528 << 10

# Objects by type, or by how their types begin. What is kept is as the guest has it.
KEPT_OBJECTS = ("iothread", "acpi-generic-", "rng-builtin", "can-bus")
# Not in the state, and needed by nothing that is left.
DROPPED_OBJECTS = (
    *("secret", "tls-", "throttle-group", "filter-", "authz-", "iommufd", "pr-manager-helper"),
    *("thread-", "input-linux", "input-barrier", "main-loop"),
)
# Objects put in place of others, by how these types begin.
REPLACED_OBJECTS = {"rng-": "rng-builtin", "cryptodev-": "cryptodev-backend-builtin"}
# A guest of confidential computing, by the machine's properties that name the object.
CONFIDENTIAL = ("memory-encryption", "confidential-guest-support")


def chardev(text: str) -> str:
    """``-chardev``: one that nobody reads or writes."""
    options = words.read(text, "backend")
    kept = {key: options[key] for key in ("id", "mux") if key in options}
    return words.write({"backend": "null", **kept}, "backend")


def character(text: str) -> str:
    """``-serial`` and ``-parallel``."""
    return text if text.startswith("chardev:") or text == "none" else "null"


def netdev(text: str, number: int) -> str:
    """``-netdev``: a hub of its own, with nothing else on it."""
    name = words.read(text, "type").get("id", "")
    return words.write({"type": "hubport", "id": name, "hubid": number}, "type")


def queues(text: str) -> int:
    """How many queues a ``-netdev`` has."""
    options = words.read(text, "type")
    fds = max(str(options.get(name, "")).count(":") for name in ("fds", "vhostfds")) + 1
    # libvirt passes what it opened, several in JSON's form as one string as well.
    return max(fds, words.number(options.get("queues")) or 1)


def audiodev(text: str) -> str:
    """``-audiodev``."""
    options = words.read(text, "driver")
    return words.write({"driver": "none", "id": options.get("id", "")}, "driver")


def fsdev(text: str) -> str:
    """``-fsdev``: QEMU's own made-up file system."""
    return words.write(
        {"fsdriver": "synth", "id": words.read(text, "fsdriver").get("id")}, "fsdriver"
    )


def firmware_value(text: str) -> str:
    """``-fw_cfg``: an entry of that name; of what is in it only that it is there."""
    options = words.read(text, "name")
    return words.write({"name": options.get("name", ""), "string": "0"})


def blockdev(options: Mapping[str, Any], size: int) -> str:
    """``-blockdev``: a node of that name, of so many zeros."""
    return json.dumps(
        {
            "driver": "null-co",
            "node-name": options.get("node-name", ""),
            # A format node may say it in the k=v form.
            "read-only": words.is_set(options.get("read-only", False)),
            "size": size,
            "read-zeroes": True,
        }
    )


# What -drive says of the device that it makes, or of where its node is used.
_OF_DRIVE = ("if", "id", "index", "bus", "unit", "media", "readonly", "read-only", "node-name")


def drive(options: Mapping[str, Any], size: int) -> str:
    """``-drive``: with a medium of so many zeros where there is one."""
    kept = {key: options[key] for key in _OF_DRIVE if key in options}
    if is_empty(options):
        return words.write(kept)
    return words.write({**kept, "driver": "null-co", "size": size, "read-zeroes": "on"})


def is_empty(options: Mapping[str, Any]) -> bool:
    """Whether a ``-drive`` has no medium."""
    return not any(key in ("file", "driver") or key.startswith("file.") for key in options)


def object_(options: Mapping[str, Any]) -> dict[str, object] | None:
    """What takes an object's place; None where nothing does. Memory is not concerned."""
    kind = str(options.get("qom-type", ""))
    if kind.startswith(KEPT_OBJECTS):
        return dict(options)
    for beginning, replacement in REPLACED_OBJECTS.items():
        if kind.startswith(beginning):
            return {"qom-type": replacement, "id": options.get("id", "")}
    return None


def has_many_queues(options: Mapping[str, Any]) -> bool:
    """Whether an object has more queues than what takes its place, which has one."""
    return str(options.get("queues", 1)) != "1"

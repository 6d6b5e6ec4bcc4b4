"""A guest's QEMU arguments, as far as they are sent to another host."""

from __future__ import annotations

from collections.abc import Sequence

from . import backends, words
from .arguments import SIMPLE
from .options import DROPPED, FLAGS, firmware_nodes, nodes, pairs, spelled_out


def portable(argv: Sequence[str]) -> list[str]:
    """``argv`` without what no twin needs, to be sent to another host: no secret, no name, no
    address of a disk, a network or a console. A twin of it is one of ``argv``.
    """
    found = [argv[0]]
    options = [*spelled_out(pairs(argv[1:]))]
    firmware = {*firmware_nodes(options)}
    # A firmware's format names the file below it, whose size is looked up by its name.
    below = {str(node.get("file")) for name, node in nodes(options) if name in firmware}
    for option, value in options:
        try:
            found += _portable(option, value, firmware | below)
        except words.ArgumentError:
            # What it was is told by the transformation.
            found += [f"-{option}", "{"]
    return found


def _portable(option: str, value: str, firmware: set[str]) -> list[str]:
    if option in DROPPED:
        return []
    if option in SIMPLE:
        value = SIMPLE[option](value)
    elif option == "netdev":
        given = words.read(value, "type")
        many = {"queues": backends.queues(value)} if backends.queues(value) > 1 else {}
        value = words.write({"type": "tap", "id": given.get("id", ""), **many}, "type")
    elif option == "blockdev":
        node = words.read(value)
        if str(node.get("node-name")) not in firmware:
            value = backends.blockdev(node, backends.DISK_SIZE)
    elif option == "object":
        made = words.read(value, "qom-type")
        if str(made.get("qom-type", "")).startswith(backends.DROPPED_OBJECTS):
            return []
    elif option == "drive" and words.read(value, "file").get("if") != "pflash":
        value = backends.drive(words.read(value, "file"), backends.DISK_SIZE)
    return [f"-{option}", *([] if option in FLAGS else [value])]

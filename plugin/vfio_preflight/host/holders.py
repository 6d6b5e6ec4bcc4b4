"""Who has VFIO devices of this host open: by the descriptors of its processes.

A group's node (``/dev/vfio/17``) can be opened once (``vfio_group_fops_open``), so whoever has it
has all devices of the group; a device's own node (``/dev/vfio/devices/vfio3``, with iommufd) names
the device. Nothing is opened here to find out: that itself would be in the way of a QEMU that
starts at that moment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

from ..osutil.light import NamedTuple
from ..osutil.regular import read_start
from ..osutil.text import printable
from .text import text

# /dev/vfio/vfio is the container, which is of no device.
_NODE = re.compile(
    r"/dev/vfio/(?:noiommu-)?(?P<group>[0-9]+)|/dev/vfio/devices/(?P<cdev>vfio[0-9]+)"
)
_GUEST = re.compile(rb"\0-name\0(?:guest=)?([^,\0]{1,256})")
_MAX_ARGUMENTS = 1 << 18


class Holders(NamedTuple):
    """Holders by IOMMU group and by character device; ``complete``: every process was seen."""

    nodes: Mapping[str, str]
    complete: bool

    def of(self, group: str, cdev: str) -> str | None:
        """Who has the device open; empty for nobody, None where that is not certain."""
        found = self.nodes.get(group) or self.nodes.get(cdev)
        return found or ("" if self.complete else None)


def read_holders(root: str = "/") -> Holders:
    """Look at all processes. Those of others can be seen by root alone."""
    nodes: dict[str, str] = {}
    complete = True
    for pid in _processes(root):
        try:
            held = list(_held(pid, root))
        except FileNotFoundError:
            continue  # ended meanwhile
        except OSError:
            complete = False
            continue
        if held:
            nodes.update(dict.fromkeys(held, _named(pid, root)))
    return Holders(nodes, complete)


def _processes(root: str) -> list[str]:
    try:
        return [name for name in os.listdir(os.path.join(root, "proc")) if name.isdecimal()]
    except OSError:
        return []


def _held(pid: str, root: str) -> Iterator[str]:
    directory = os.path.join(root, "proc", pid, "fd")
    for descriptor in os.listdir(directory):
        try:
            link = os.readlink(os.path.join(directory, descriptor))
        except FileNotFoundError:
            continue  # closed meanwhile
        match = _NODE.fullmatch(link)
        if match:
            yield match["group"] or match["cdev"]


def _named(pid: str, root: str) -> str:
    """``guest g1 (process 4711)`` for a QEMU of libvirt's, else ``dpdk-testpmd (process 4711)``."""
    home = os.path.join(root, "proc", pid)
    try:
        match = _GUEST.search(read_start(os.path.join(home, "cmdline"), _MAX_ARGUMENTS))
    except OSError:
        match = None
    guest = printable(match[1].decode("utf-8", "replace")) if match else ""
    who = f"guest {guest}" if guest else text(os.path.join(home, "comm")) or "a process"
    return f"{who} (process {pid})"

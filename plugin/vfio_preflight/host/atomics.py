"""Which AtomicOps a device's way to the root completes, worked out of what sysfs shows.

That is what VFIO will say when the device is opened (``VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP``): the
widths that the function itself completes and its root port too, if all switches on the way route
AtomicOps. For a VF it is its physical function's word.

Source: Linux ``vfio_pci_info_atomic_cap`` in ``drivers/vfio/pci/vfio_pci_core.c`` (6.5 and newer),
``pci_enable_atomic_ops_to_root`` in ``drivers/pci/pci.c``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from ..osutil.light import NamedTuple
from ..osutil.regular import read_start
from ..pci.atomics import (
    ALL,
    PCI_EXP_DEVCAP2,
    PCI_EXP_DEVCAP2_ATOMIC_ROUTE,
    PCI_EXP_DEVCTL2,
    PCI_EXP_DEVCTL2_ATOMIC_EGRESS_BLOCK,
    completed,
)
from ..pci.ids import PCI_CAP_ID_EXP
from ..pci.space import capabilities, dword, word
from .sysfs import PCI_DEVICES

# The first release that says it. Distributors bring such things to older ones: there it is not
# known.
SINCE = (6, 5)
_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
# Device/port types of the PCI Express capability (7.5.3.2).
_ENDPOINT, _LEGACY, _ROOT_PORT, _UPSTREAM, _DOWNSTREAM, _INTEGRATED = 0, 1, 4, 5, 6, 9


class _Express(NamedTuple):
    """A PCI Express function's type, and its registers; version 1 has none of the two."""

    type: int
    devcap2: int
    devctl2: int


def read_atomics(address: str, root: str = "/") -> int | None:
    """The widths for the PCI device at ``address``, as in ``pci.atomics``; None: not known."""
    directory = os.path.realpath(os.path.join(root, PCI_DEVICES, address))
    # AtomicOp Requester Enable of a VF is reserved: the physical function's value is for all of
    # them.
    physical = os.path.join(directory, "physfn")
    if os.path.lexists(physical):
        directory = os.path.realpath(physical)
    if _release(root) < SINCE:
        return None
    try:
        own = _express(directory)
        if own is None or own.type not in (_ENDPOINT, _LEGACY, _INTEGRATED):
            return 0
        widths = completed(own.devcap2)
        # Most devices complete none, and what is above them does not matter.
        return widths and _on_the_way(widths, list(_bridges(directory)))
    except (OSError, ValueError, IndexError):
        return None


def _on_the_way(widths: int, bridges: list[_Express]) -> int | None:
    """What is left of ``widths`` at the root port; ``bridges`` begin with the nearest."""
    # Whether a device without a root port can do it, kernels have answered either way.
    if not any(bridge.type == _ROOT_PORT for bridge in bridges):
        return None
    for bridge in bridges:
        if bridge.type == _ROOT_PORT:
            widths &= completed(bridge.devcap2)
        elif bridge.type in (_UPSTREAM, _DOWNSTREAM) and not _routes(bridge):
            return 0
    return widths & ALL


def _routes(port: _Express) -> bool:
    blocks = port.type == _UPSTREAM and port.devctl2 & PCI_EXP_DEVCTL2_ATOMIC_EGRESS_BLOCK
    return bool(port.devcap2 & PCI_EXP_DEVCAP2_ATOMIC_ROUTE) and not blocks


def _bridges(directory: str) -> Iterator[_Express]:
    """The Express bridges above a device: directories of sysfs are nested as buses are."""
    above = os.path.dirname(directory)
    while _ADDRESS.fullmatch(os.path.basename(above)):
        bridge = _express(above)
        if bridge is not None:
            yield bridge
        above = os.path.dirname(above)


def _express(directory: str) -> _Express | None:
    config = read_start(os.path.join(directory, "config"), 256)
    # An unprivileged reader gets the header alone, in which no capability is.
    if len(config) < 256:
        raise ValueError("configuration space is cut short")
    found = next((each for each in capabilities(config) if each.id == PCI_CAP_ID_EXP), None)
    if found is None:
        return None
    flags, at = word(config, found.offset + 2), found.offset
    if flags & 0xF < 2:
        return _Express(flags >> 4 & 0xF, 0, 0)
    return _Express(
        flags >> 4 & 0xF, dword(config, at + PCI_EXP_DEVCAP2), word(config, at + PCI_EXP_DEVCTL2)
    )


def _release(root: str) -> tuple[int, int]:
    """The kernel's release, zeros where it cannot be read."""
    try:
        release = read_start(os.path.join(root, "proc/sys/kernel/osrelease"), 256).decode("ascii")
        match = re.match(r"([0-9]+)\.([0-9]+)", release)
    except (OSError, ValueError):
        match = None
    return (int(match[1]), int(match[2])) if match else (0, 0)

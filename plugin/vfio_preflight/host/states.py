"""What a device of this host presents: an operator's file first, then sysfs.

The states directory holds files named by PCI address, mdev UUID or mdev type, with any of the
suffixes in :data:`SUFFIXES`, in any format of :mod:`vfio_preflight.pci.formats`. A file there is an
operator's word for what the device presents, and therefore wins over what sysfs shows; its evidence
is what the file itself says (JSON), or ``file``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..errors import PreflightError
from ..guest.domain import GuestDevice
from ..pci.state import ConfigState, Missing, State
from . import sysfs

SUFFIXES = ("", ".json", ".txt", ".bin")


def state_of(device: GuestDevice, side: str, states: str, root: str = "/") -> State:
    """The config state of a guest's device on this host; ``side`` is ``source``/``destination``."""
    if device.host is None:
        return Missing(
            f"{side}-unknown",
            "libvirt chooses the host's device when the guest starts; it cannot be told before",
            "name the device in the guest's XML, or migrate with an XML that does (--xml)",
        )
    try:
        return read_state(device.host, states, root)
    except PreflightError as error:
        return Missing(f"{side}-unknown", f"the {side}'s device: {error}", _remedy(device, states))


def read_state(name: str, states: str, root: str = "/") -> ConfigState:
    """The state of PCI address or mdev UUID ``name``. Raises ``HostError``, ``FormatError``."""
    path = find_file(name, states, root)
    if path is not None:
        from ..pci.formats import read_file

        return read_file(path)
    if is_mdev(name):
        raise sysfs.HostError(_no_mdev_state(name, root))
    return sysfs.read_pci(name, root)


def is_mdev(name: str) -> bool:
    """Whether ``name`` is an mdev UUID, not a PCI address."""
    return len(name) == 36


def find_file(name: str, states: str, root: str = "/") -> str | None:
    """The operator's file for a device, or for its mdev type."""
    directory = os.path.join(root, states.lstrip("/"))
    kind = sysfs.mdev_type(name, root) if is_mdev(name) else None
    return next(
        (path for path in _candidates(directory, (name, kind)) if os.path.lexists(path)), None
    )


def _candidates(directory: str, names: tuple[str | None, ...]) -> Iterator[str]:
    for name in names:
        for suffix in SUFFIXES if name else ():
            yield os.path.join(directory, f"{name}{suffix}")


def _no_mdev_state(uuid: str, root: str) -> str:
    kind = sysfs.mdev_type(uuid, root)
    if kind is None and not sysfs.has_mdev(uuid, root):
        return f"this host has no mediated device {uuid}"
    return (
        f"mediated device {uuid} ({kind or 'type unknown'}) shows no configuration space in sysfs"
    )


def _remedy(device: GuestDevice, states: str) -> str:
    names = f"{device.host}" + (" (or its mdev type)" if device.kind == "mdev" else "")
    return f"capture the state and put it on that host into {states}/{names}"

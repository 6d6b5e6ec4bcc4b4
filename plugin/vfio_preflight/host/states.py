"""What a device of this host presents, by the best word there is of it. In this order:

1. an operator's file in the states directory, named by PCI address, mdev UUID, or mdev or vGPU
   type, with any of the suffixes in :data:`SUFFIXES`, in any format of ``pci.formats``. It wins
   because it is there for a reason; its evidence is ``file``, whatever it says of itself, for
   nothing proves that it still holds;
2. the device itself, opened through VFIO, if the operator lists it as one that may be;
3. sysfs, for a PCI device whose configuration space it shows;
4. the catalogue, for what sysfs does not show and nobody must open: mdevs, and vGPUs on VFs;
5. the source's state, where all that determines it is the same here (``inferred``).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from ..errors import PreflightError
from ..guest.addresses import is_mdev
from ..guest.domain import GuestDevice
from ..pci.state import NO_MIGRATION, ConfigState, Missing, State
from . import sysfs

if TYPE_CHECKING:
    from .catalogue import Entry
    from .traits import Traits
    from .vfio import VfioDevice

SUFFIXES = ("", ".json", ".txt", ".bin")


class Sent(NamedTuple):
    """What the source sends for a device, and the facts that its record has of the device there."""

    state: ConfigState
    facts: Mapping[str, str]


def state_of(
    device: GuestDevice,
    side: str,
    states: str,
    root: str = "/",
    catalogue: str = "",
    sent: Sent | None = None,
    opened: tuple[str, ...] = (),
) -> State:
    """The config state of a guest's device on this host; ``side`` is ``source``/``destination``.

    ``states`` and ``catalogue`` are directories; without a catalogue none is asked. ``sent`` is
    what a state may be inferred from; ``opened`` lists the devices that may be opened, as
    ``vendor:device``, ``vendor:*`` or mdev type.
    """
    if device.host is None:
        return _unnamed(device, side)
    try:
        state, offers = read_device(device.host, states, root, catalogue, sent, opened)
    except PreflightError as error:
        remedy = _remedy(device.host, side, states, root)
        return Missing(f"{side}-unknown", f"the {side}'s device: {error}", remedy)
    if offers == NO_MIGRATION:
        return Missing(
            "device-not-migratable",
            f"the driver of {device.host} here offers no migration (VFIO_DEVICE_FEATURE_MIGRATION)",
            "bind the device to its vendor's VFIO driver, or choose another destination",
        )
    return state


def read_device(
    name: str,
    states: str,
    root: str = "/",
    catalogue: str = "",
    sent: Sent | None = None,
    opened: tuple[str, ...] = (),
) -> tuple[ConfigState, str]:
    """The state of PCI address or mdev UUID ``name``, and what its driver offers for migration
    (``stop-copy p2p``, ``none``), empty if that is not known. Raises PreflightError.
    """
    trouble = ""
    if opened and find_file(name, states, root) is None:
        found, trouble = _opened(name, opened, root)
        if found is not None:
            return found.state, found.offers
    try:
        state = read_state(name, states, root, catalogue, sent)
    except sysfs.HostError as error:
        raise sysfs.HostError(f"{error}{trouble}") from error
    return state._replace(origin=f"{state.origin}{trouble}"), ""


def _unnamed(device: GuestDevice, side: str) -> Missing:
    reason = "the guest's XML does not tell which device of the host it is"
    if device.kind == "network":
        reason = "libvirt chooses the host's device when the guest starts; it cannot be told before"
    remedy = "name the device in the guest's XML, or migrate with an XML that does (--xml)"
    return Missing(f"{side}-unknown", reason, remedy)


def read_state(
    name: str, states: str, root: str = "/", catalogue: str = "", sent: Sent | None = None
) -> ConfigState:
    """The state of PCI address or mdev UUID ``name`` without opening it.

    Raises ``HostError``, ``FormatError``.
    """
    path = find_file(name, states, root)
    if path is not None:
        return _operators(path)
    if sysfs_shows(name, root):
        return sysfs.read_pci(name, root)
    return _unshown(name, root, catalogue, sent)


def _opened(name: str, listed: tuple[str, ...], root: str) -> tuple[VfioDevice | None, str]:
    """The device's own word, None where it may not or cannot be opened; and what is wrong there."""
    from .traits import read_traits

    traits = read_traits(name, root)
    names = (f"{traits.vendor}:{traits.device}", f"{traits.vendor}:*")
    if not {traits.type} & set(listed) if is_mdev(name) else not set(names) & set(listed):
        return None, ""
    from .vfio import NotFreeError, VfioError, read_free

    try:
        return read_free(name, root), ""
    except NotFreeError:
        # In use, or not bound to a VFIO driver before libvirt does that: sysfs is next.
        return None, ""
    except VfioError as error:
        return None, f"; could not be opened through VFIO: {error}"


def second_opinion(
    name: str, state: ConfigState, root: str = "/", catalogue: str = ""
) -> ConfigState | None:
    """What sysfs shows, or the catalogue has, of device ``name``, beside another's word for it.

    ``state`` is what is used: an operator's file, or the device's own word. None for any other, and
    where a driver is known to show IDs that sysfs does not.
    """
    if state.evidence not in ("file", "vfio"):
        return None
    try:
        if sysfs_shows(name, root):
            return None if sysfs.shows_own_ids(name, root) else sysfs.read_pci(name, root)
        from .traits import read_traits

        here = read_traits(name, root)
        entry = _entry(here, root, catalogue)
    except PreflightError:
        return None
    return _catalogued(entry, here) if entry is not None and len(entry.states) == 1 else None


def sysfs_shows(name: str, root: str = "/") -> bool:
    """Whether sysfs shows what VFIO presents of ``name``: not for mdevs, nor for vGPUs on VFs."""
    return not is_mdev(name) and sysfs.vgpu_type(name, root) is None


def find_file(name: str, states: str, root: str = "/") -> str | None:
    """The operator's file for a device, or for its mdev or vGPU type."""
    directory = os.path.join(root, states.lstrip("/"))
    kind = sysfs.mdev_type(name, root) if is_mdev(name) else sysfs.vgpu_type(name, root)
    return next(
        (path for path in _candidates(directory, (name, kind)) if os.path.lexists(path)), None
    )


def _candidates(directory: str, names: tuple[str | None, ...]) -> Iterator[str]:
    for name in names:
        for suffix in SUFFIXES if name else ():
            yield os.path.join(directory, f"{name}{suffix}")


def _operators(path: str) -> ConfigState:
    from ..pci.formats import read_file

    for place in (os.path.dirname(path), path):
        _require_operators(place)
    state = read_file(path)
    if state.evidence == "file":
        return state
    return state._replace(evidence="file", origin=f"{state.evidence} evidence by {state.origin}")


def _require_operators(place: str) -> None:
    """Raise HostError if somebody other than root or the caller could have written there."""
    try:
        info = os.stat(place)
    except OSError:
        # Whoever reads it says what is wrong.
        return
    if info.st_uid not in (0, os.geteuid()) or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise sysfs.HostError(
            f"{place}: not only root can write it, so whose word it is cannot be told; chown it to"
            " root, and chmod go-w"
        )


def _unshown(name: str, root: str, catalogue: str, sent: Sent | None) -> ConfigState:
    """The state of a device that sysfs does not show. Raises ``HostError``."""
    reason = _no_bytes(name, root)
    from .traits import read_traits

    here = read_traits(name, root)
    if not here.vendor or not here.type:
        raise sysfs.HostError(reason)
    entry = _entry(here, root, catalogue)
    if entry is not None and len(entry.states) == 1:
        return _catalogued(entry, here)
    if entry is not None:
        reason += (
            f"; the catalogue has {len(entry.states)} different states for {_told(here)},"
            " and cannot tell which it will be"
        )
        raise sysfs.HostError(reason)
    if sent is not None:
        from .inferred import infer

        state, why = infer(sent.state, sent.facts, here)
        if state is not None:
            return state
        reason += f"; {why}" if why else ""
    raise sysfs.HostError(reason)


def _entry(here: Traits, root: str, catalogue: str) -> Entry | None:
    from .catalogue import find, under

    if not catalogue or not here.vendor or not here.type:
        return None
    return find(under(root, catalogue), here)


def _catalogued(entry: Entry, here: Traits) -> ConfigState:
    (seen,) = entry.states
    origin = f"{seen.evidence} evidence of {entry.time} on {entry.host} for {_told(here)}"
    return seen._replace(evidence="catalogue", origin=origin)


def _told(traits: tuple[str, ...]) -> str:
    return " ".join(filter(None, traits))


def _no_bytes(name: str, root: str) -> str:
    if not is_mdev(name):
        kind = sysfs.vgpu_type(name, root)
        if not kind:
            return f"VF {name} has no vGPU type set (nvidia/current_vgpu_type)"
        return f"the vGPU on VF {name} ({kind}) shows no configuration space in sysfs"
    mdev_type = sysfs.mdev_type(name, root)
    if mdev_type is None and not sysfs.has_mdev(name, root):
        return f"this host has no mediated device {name}"
    return (
        f"mediated device {name} ({mdev_type or 'type unknown'}) shows no configuration space in"
        " sysfs"
    )


def _remedy(name: str, side: str, states: str, root: str) -> str:
    mdev = is_mdev(name)
    if find_file(name, states, root) is None and not _exists(name, root):
        create = "create the mediated device there, or " * mdev
        other = f"choose a device that the {side} has (virsh migrate --xml, virsh restore --xml)"
        return f"{create}{other}"
    shared = "import the catalogue of a host with the same driver, or " * mdev
    file = f"{states}/{name}" + " (or its mdev type)" * mdev
    return f"{shared}capture the state and put it on that host into {file}"


def _exists(name: str, root: str) -> bool:
    return sysfs.has_mdev(name, root) if is_mdev(name) else sysfs.has_pci(name, root)

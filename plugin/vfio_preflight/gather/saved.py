"""What a restore will load: the config states inside save images, by the guest's devices.

libvirt does not pass the name of the image to the hook, but holds it open meanwhile: it is the one
among the daemon's open files that is a save image of this very guest. With ``--bypass-cache``
a helper holds it instead; then the guest's managed save is taken if it holds the same XML.

An image's head says whose it is; of other guests' images nothing else is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial

from lxml import etree

from ..errors import PreflightError
from ..guest.domain import Guest, parse_domain, read_guest
from ..guest.mend import only_ours_changed
from ..guest.topology import read_topology
from ..host.networks import hands_out_devices
from ..images.save_image import (
    QEMU_SAVE_MAGIC,
    SaveImage,
    SaveImageError,
    opened,
    read_body,
    read_head,
)
from ..osutil.apart import apart
from ..osutil.light import TYPE_CHECKING, NamedTuple
from ..osutil.regular import read_start
from ..pci.codec import config_from_hex, to_object
from ..pci.state import UNKNOWN, ConfigState, Missing, State

if TYPE_CHECKING:
    from typing import IO, Any

MANAGED_SAVES = "var/lib/libvirt/qemu/save"
# Descriptors of the daemon that are looked at; a host with a thousand guests has some thousands.
MAX_DESCRIPTORS = 100_000
NOT_THERE = "the save image has no state of this device"


def guest_of(image: SaveImage, path: str) -> tuple[Guest, etree._Element]:
    """The guest in an image, with this host's networks.

    Raises ``SaveImageError`` for a bare migration file without one.
    """
    if not image.xml:
        raise SaveImageError(
            f"{path}: a bare QEMU migration file has no domain XML; give the guest's own: check"
            " GUEST.xml --source-state DEVICE=FILE, where FILE has what is printed by: state"
            f" --image {path} --format json"
        )
    root = parse_domain(image.xml)
    return read_guest(root, hands_out_devices), root


def saved_states(guest: Guest, root: etree._Element, vfio: Mapping[str, State]) -> dict[str, State]:
    # The stream names devices by QEMU's path, not by libvirt's address.
    """What an image's stream (``Stream.vfio``) holds of the guest's devices, by their keys."""
    topology = read_topology(root)
    return {device.key: _state(vfio, topology.path_of(device)) for device in guest.devices}


def _state(states: Mapping[str, State], path: str | None) -> State:
    if path is None:
        return Missing(UNKNOWN, "the device's place in the save image is not known")
    return states.get(path) or Missing(UNKNOWN, NOT_THERE)


class Restored(NamedTuple):
    """What the image holds of the guest's devices, by their keys.

    ``problems`` say what could not be read: the whole image, or the states of some devices.
    """

    states: Mapping[str, ConfigState]
    problems: tuple[str, ...] = ()


def restored(
    guest: Guest, root: etree._Element, daemon: int, deadline: float, system: str = "/"
) -> Restored:
    """What libvirt (process ``daemon``) is about to restore, whose XML is ``root``."""
    try:
        path, name = _image_of(guest, root, daemon, system)
        with opened(path) as (file, slack):
            # Through /proc: the descriptor's file, even if the path was renamed or unlinked since.
            # A guest's own bytes, which it fills as it likes: read without privilege.
            read = partial(_vfio_states, file, name, deadline, slack)
            there = _from_objects(apart(read, deadline, SaveImageError), name)
    # An unreadable image is no reason to fail the restore: the record is used instead.
    except PreflightError as error:
        return Restored({}, (str(error),))
    found = saved_states(guest, root, there)
    states = {key: state for key, state in found.items() if isinstance(state, ConfigState)}
    lacking = [(key, state) for key, state in found.items() if isinstance(state, Missing)]
    return Restored(states, tuple(f"device {key}: {missing.reason}" for key, missing in lacking))


def _vfio_states(file: IO[bytes], name: str, deadline: float, slack: int) -> dict[str, object]:
    """The states in the image, as JSON."""
    stream = read_body(file, name, read_head(file, name), deadline, slack=slack)
    return {
        path: to_object(state) if isinstance(state, ConfigState) else state.reason
        for path, state in stream.vfio.items()
    }


def _from_objects(value: Mapping[str, Any], name: str) -> dict[str, State]:
    """States as :func:`_vfio_states` gives them. Raises CodecError, ``ConfigSpaceError``."""
    return {path: _from_object(item, f"{name}: {path}") for path, item in value.items()}


def _from_object(item: object, where: str) -> State:
    if not isinstance(item, dict):
        return Missing(UNKNOWN, str(item))
    # A stream has no BARs, and no other evidence than its own.
    return ConfigState(config_from_hex(item["config"], where), (), "stream", str(item["origin"]))


def _image_of(guest: Guest, root: etree._Element, daemon: int, system: str) -> tuple[str, str]:
    """Where the image of a guest can be opened, and its path. Raises SaveImageError for none.

    Who restores may edit the XML, but not its UUID (``restore --xml``). That is enough where the
    daemon holds the image open. A managed save that it does not may be an older one.
    """
    held = {}
    for path, name in _open_images(daemon, system):
        there = _guest_in(path)
        # The UUID cannot be changed by "restore --xml"; name and devices can.
        if there is not None and there.findtext("uuid") == guest.uuid:
            held[name] = path, only_ours_changed(there, root)
    # Images whose XML also matches are preferred to those of the same guest that only share the
    # UUID.
    alike = {name: (path, same) for name, (path, same) in held.items() if same} or held
    if len(alike) > 1:
        names = ", ".join(sorted(alike))
        raise SaveImageError(f"libvirt has several save images of the guest open: {names}")
    for name, (path, _same) in alike.items():
        return path, name
    # With --bypass-cache it is libvirt_iohelper that holds the image open, not the daemon.
    for path in _managed_save(guest, system):
        there = _guest_in(path)
        if there is None or there.findtext("uuid") != guest.uuid:
            continue
        # An older managed save may exist beside an image that is restored from elsewhere.
        if only_ours_changed(there, root):
            return path, path
        raise SaveImageError(f"{path} holds other XML than what is restored, and no image is open")
    raise SaveImageError("no save image of the guest is open in libvirt, as with --bypass-cache")


def _guest_in(path: str) -> etree._Element | None:
    """The domain in the head of an image; None if it has none or cannot be read."""
    try:
        with opened(path) as (file, _slack):
            head = read_head(file, path)
        return parse_domain(head.xml) if head.xml else None
    except PreflightError:
        return None


def _open_images(daemon: int, system: str) -> Iterator[tuple[str, str]]:
    """The daemon's open files that begin like a save image: where in ``/proc``, and their paths."""
    directory = os.path.join(system, "proc", str(daemon), "fd")
    try:
        # Bounded, so that the hook's deadline also holds on a host with very many guests.
        numbers = os.listdir(directory)[:MAX_DESCRIPTORS]
    except OSError:
        return
    for number in numbers:
        path = os.path.join(directory, number)
        name = _image_at(path)
        if name:
            yield path, name


def _image_at(path: str) -> str:
    """The path of the file that a descriptor in ``/proc`` is of; empty for what is no image."""
    try:
        name = os.readlink(path)
        # Pipes and sockets have no path; reading from one would take data away from the daemon.
        if not name.startswith("/") or not os.path.isfile(path):
            return ""
        # Only complete images: a partial one has another magic, and libvirt refuses to restore it.
        magic = read_start(path, len(QEMU_SAVE_MAGIC))
        return name if magic == QEMU_SAVE_MAGIC else ""
    except OSError:
        return ""


def _managed_save(guest: Guest, system: str) -> tuple[str, ...]:
    # The name becomes part of a path; a hook's argument is not validated.
    if "/" in guest.name:
        return ()
    path = os.path.join(system, MANAGED_SAVES, f"{guest.name}.save")
    return (path,) if os.path.isfile(path) else ()

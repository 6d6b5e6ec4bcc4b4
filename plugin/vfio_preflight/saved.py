"""What a restore will load: the config states inside save images, by the guest's devices.

A hook is not told which file libvirt restores from. But libvirt holds it open meanwhile: it is the
one among the daemon's open files that is a save image of this very guest. With ``--bypass-cache``
a helper holds it instead; then the guest's managed save is taken if it holds the same XML.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from lxml import etree

from .errors import PreflightError
from .guest.domain import Guest, parse_domain, read_guest
from .guest.mend import only_ours_changed
from .guest.save_image import QEMU_SAVE_MAGIC, SaveImage, SaveImageError, read_image
from .guest.topology import read_topology
from .pci.state import Missing, State

MANAGED_SAVES = "var/lib/libvirt/qemu/save"
# Descriptors of the daemon that are looked at; a host with a thousand guests has some thousands.
MAX_DESCRIPTORS = 100_000
NOT_THERE = "the save image has no state of this device"


def guest_of(image: SaveImage, path: str) -> tuple[Guest, etree._Element]:
    """The guest in an image. Raises ``SaveImageError`` for a bare migration file without one."""
    if not image.xml:
        raise SaveImageError(
            f"{path}: a bare QEMU migration file has no domain XML; only a libvirt save image does"
        )
    root = parse_domain(image.xml)
    return read_guest(root), root


def saved_states(guest: Guest, root: etree._Element, image: SaveImage) -> dict[str, State]:
    """What the image holds of each of the guest's devices, by the devices' keys."""
    topology = read_topology(root)
    return {
        device.key: _state(image.stream.vfio, topology.path_of(device)) for device in guest.devices
    }


def _state(states: Mapping[str, State], path: str | None) -> State:
    if path is None:
        return Missing("source-unknown", "the device's place in the save image cannot be told")
    return states.get(path) or Missing("source-unknown", NOT_THERE)


def restored_states(
    guest: Guest, root: etree._Element, daemon: int, deadline: float, system: str = "/"
) -> dict[str, State]:
    """What libvirt (process ``daemon``) is about to restore; nothing where that cannot be told."""
    for path in (*_open_images(daemon, system), *_managed_save(guest, system)):
        try:
            image = read_image(path, deadline)
            if _is_of(image, guest, root):
                return saved_states(guest, root, image)
        except PreflightError:
            # Another guest's, a damaged or a foreign file: QEMU itself will judge it.
            continue
    return {}


def _is_of(image: SaveImage, guest: Guest, root: etree._Element) -> bool:
    if not image.xml:
        return False
    there = parse_domain(image.xml)
    return there.findtext("uuid") == guest.uuid and only_ours_changed(there, root)


def _open_images(daemon: int, system: str) -> Iterator[str]:
    """Paths below ``/proc`` of the daemon's open files that begin like a save image."""
    directory = os.path.join(system, "proc", str(daemon), "fd")
    try:
        names = os.listdir(directory)[:MAX_DESCRIPTORS]
    except OSError:
        return
    for name in names:
        path = os.path.join(directory, name)
        if _begins_like_an_image(path):
            yield path


def _begins_like_an_image(path: str) -> bool:
    try:
        if not os.readlink(path).startswith("/") or not os.path.isfile(path):
            return False
        with open(path, "rb", buffering=0) as file:
            return file.read(len(QEMU_SAVE_MAGIC)) == QEMU_SAVE_MAGIC
    except OSError:
        return False


def _managed_save(guest: Guest, system: str) -> tuple[str, ...]:
    if "/" in guest.name:
        return ()
    path = os.path.join(system, MANAGED_SAVES, f"{guest.name}.save")
    return (path,) if os.path.isfile(path) else ()

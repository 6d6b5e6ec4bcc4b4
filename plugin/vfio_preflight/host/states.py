"""What a guest's device presents on this host, as far as this host knows."""

from __future__ import annotations

import os

from ..errors import PreflightError
from ..guest.addresses import is_mdev
from ..guest.domain import GuestDevice
from ..pci.state import NO_MIGRATION, NOT_MIGRATABLE, UNKNOWN, ConfigState, Missing, State
from . import sysfs
from .sources import order
from .sources import sysfs as shown
from .sources.file import find_file
from .sources.request import Request


def state_of(device: GuestDevice, side: str, request: Request) -> State:
    """The config state of a guest's device on this host; ``side`` is ``source``/``destination``.

    ``request`` has everything but the device's name.
    """
    if device.host is None:
        return unnamed(device)
    # The guest's device names it; the caller's request serves all devices of the guest.
    request = request._replace(name=device.host)
    try:
        answer = order.read(request)
    except PreflightError as error:
        reason = f"the {side}'s device: {error}"
        return Missing(UNKNOWN, reason, _remedy(device.host, side, request.states, request.root))
    assert answer.state is not None  # order.read raises otherwise
    return unless_blocked(device.host, answer.state, answer.offers)


def unless_blocked(name: str, state: State, offers: str) -> State:
    """``state``, unless the device's driver offers no migration (``offers``)."""
    # QEMU blocks migration of a device whose driver lacks the feature (vfio_migration_realize).
    if offers != NO_MIGRATION:
        return state
    return Missing(
        NOT_MIGRATABLE,
        f"the driver of {name} here does not support migration (VFIO_DEVICE_FEATURE_MIGRATION)",
        "bind the device to its vendor's VFIO driver, or choose another destination",
    )


def unnamed(device: GuestDevice) -> Missing:
    """Why a device that the guest's XML names none for has no state."""
    reason = "the guest's XML does not say which device of the host it is"
    if device.kind == "network":
        # libvirt takes a VF from the network's pool when it prepares the start, after this hook.
        reason = "libvirt chooses the host's device when the guest starts; it is not known before"
    remedy = "name the device in the guest's XML, or by virsh migrate --xml"
    return Missing(UNKNOWN, reason, remedy)


def second_opinion(state: ConfigState, request: Request) -> ConfigState | None:
    """What sysfs or the catalogue says about a device, in addition to the source that is used.

    ``state`` is what is used: an operator's file, or the device's own state. None for any other,
    and where a driver is known to show IDs that sysfs does not.
    """
    # A catalogue or inferred state is itself what other devices showed; comparing adds nothing.
    if state.evidence not in ("file", "vfio") or shown.shows_own_ids(request.name, request.root):
        return None
    try:
        return order.read(request, order.SEEN_OTHERWISE).state
    except PreflightError:
        return None


def _remedy(name: str, side: str, states: str, root: str) -> str:
    mdev = is_mdev(name)
    # Neither a file nor the device exists, so binding or capturing something would not help.
    if find_file(name, states, root) is None and not sysfs.exists(name, root):
        # Short enough for a refusal's first line: a state file of no device would be no remedy.
        if mdev:
            return "create the mediated device there, or name one that exists by --xml"
        return f"name a device that the {side} has, with virsh's --xml"
    shared = "import the catalogue of a host with the same driver, or " * mdev
    file = f"{os.path.join(states, name)}" + " (or its mdev type)" * mdev
    return f"{shared}capture the state and put it on that host into {file}"

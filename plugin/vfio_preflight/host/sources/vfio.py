"""The device itself, opened through VFIO, if nobody uses it and the operator allowed that.

Opening resets it, and NVIDIA's driver wakes its vGPU manager: hence ``open-devices``.
"""

from __future__ import annotations

from ...guest.addresses import is_mdev
from .request import FAILED, NOTHING, Answer, Request


def read(request: Request) -> Answer:
    """What VFIO says of the device."""
    # The list comes first: without it the device must not even be looked at through VFIO.
    if not request.opened or not _is_listed(request):
        return NOTHING
    # Imported late: few devices are listed.
    from ..vfio import NotFreeError, VfioError, read_free

    try:
        # NotFreeError is normal: before a migration libvirt has not bound the device yet.
        found = read_free(request.name, request.root)
    except NotFreeError:
        # In use, or not bound to a VFIO driver before libvirt does that for the guest.
        return NOTHING
    except VfioError as error:
        # A real failure is reported, since the operator asked for the device to be opened.
        return Answer(None, f"{FAILED}: {error}")
    return Answer(found.state, offers=found.offers)


def _is_listed(request: Request) -> bool:
    from ..traits import read_traits

    traits = read_traits(request.name, request.root)
    if is_mdev(request.name):
        # An mdev's vendor and device are its parent's, which would list all types at once.
        return traits.type in request.opened
    names = {f"{traits.vendor}:{traits.device}", f"{traits.vendor}:*"}
    return bool(names & set(request.opened))

"""The device itself, opened through VFIO, if nobody uses it and the operator allowed that.

Opening resets it, and NVIDIA's driver wakes its vGPU manager: hence ``open-devices``.
"""

from __future__ import annotations

from ...guest.addresses import is_mdev
from .request import FAILED, NOTHING, Answer, Request


def read(request: Request) -> Answer:
    """What VFIO says of the device."""
    if not request.opened or not _is_listed(request):
        return NOTHING
    # Imported late: few devices are listed.
    from ..vfio import NotFreeError, VfioError, read_free

    try:
        found = read_free(request.name, request.root)
    except NotFreeError:
        # In use, or not bound to a VFIO driver before libvirt does that for the guest.
        return NOTHING
    except VfioError as error:
        return Answer(None, f"{FAILED}: {error}")
    return Answer(found.state, offers=found.offers)


def _is_listed(request: Request) -> bool:
    from ..traits import read_traits

    traits = read_traits(request.name, request.root)
    if is_mdev(request.name):
        return traits.type in request.opened
    names = {f"{traits.vendor}:{traits.device}", f"{traits.vendor}:*"}
    return bool(names & set(request.opened))

"""The catalogue: what another device with the same traits was seen to present."""

from __future__ import annotations

import os

from ..sysfs import HostError
from .request import NOTHING, Answer, Request


def read(request: Request) -> Answer:
    """The catalogue's state for the device's traits.

    Raises ``HostError`` where it has several: then the traits do not determine the bytes, and what
    the source sends says nothing of them either.
    """
    directory = os.path.join(request.root, request.catalogue.lstrip("/"))
    if not request.catalogue or not os.path.isdir(directory):
        return NOTHING
    # Imported and read late: many hosts have no catalogue.
    from .. import catalogue
    from ..traits import read_traits

    here = read_traits(request.name, request.root)
    # The same conditions under which sightings.remember() adds an entry.
    if not here.vendor or not here.type:
        return NOTHING
    entry = catalogue.find(directory, here)
    if entry is None:
        return NOTHING
    shown = " ".join(filter(None, here))
    # Not unknown but contradictory: an inference from the source would be a guess as well.
    if len(entry.states) > 1:
        raise HostError(
            f"the catalogue has {len(entry.states)} different states for {shown}, and does not show"
            " which one applies"
        )
    (seen,) = entry.states
    origin = f"{seen.evidence} evidence of {entry.time} on {entry.host} for {shown}"
    return Answer(seen._replace(evidence="catalogue", origin=origin))

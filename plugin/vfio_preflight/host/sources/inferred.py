"""The source's state, where everything that determines it is the same here: no bytes are read.

A device that must not be opened, that sysfs does not show and that the catalogue does not know
still presents the source's bytes, if its model, type, driver and firmware are the source's. Where
one of them differs, nothing is known; the reason says what is likely.
"""

from __future__ import annotations

from ...guest.traits import NAMES, Traits
from ..traits import read_traits
from .request import NOTHING, Answer, Request, Sent

# Vendors whose devices are known to vary with a trait: vendor, trait, what varies.
VARIES = {
    ("10de", "driver-version"): (
        "the Vendor Specific Information of an NVIDIA vGPU differs between driver versions, which"
        " QEMU refuses unless skip-vsc-check is in force"
    ),
}
# A device of another model differs at least in its IDs.
MODEL = ("vendor", "device", "type")


def read(request: Request) -> Answer:
    """The source's state, where the traits are equal; or what differs, and what that means."""
    if request.sent is None:
        return NOTHING
    here = read_traits(request.name, request.root)
    # Without a type it is a plain PCI device, whose bytes sysfs shows; nothing need be inferred.
    if not here.vendor or not here.type:
        return NOTHING
    return infer(request.sent, here)


def infer(sent: Sent, here: Traits) -> Answer:
    """What a device with traits ``here`` presents, by the source's."""
    there = sent.traits
    # All traits, the subsystem and firmware included: any of them can change the bytes.
    differing = [name for name, a, b in zip(NAMES, there, here) if a != b]
    if differing:
        return Answer(None, _likely(there, here, differing))
    if not here.determined:
        reason = "driver and version are not known, so the source's state says nothing about it"
        return Answer(None, reason)
    basis = ", ".join(f"{name} {value}" for name, value in here.facts().items())
    origin = f"the source's, with {basis}"
    # AtomicOps are the other host's, whatever the device.
    return Answer(sent.state._replace(evidence="inferred", origin=origin, atomics=None))


def _likely(there: Traits, here: Traits, differing: list[str]) -> str:
    differences = ", ".join(
        f"{name} is {a or 'not known'} at the source and {b or 'not known'} here"
        for name, a, b in zip(NAMES, there, here)
        if name in differing
    )
    # A trait unknown on one side is no known difference.
    known = [name for name in differing if there.named(name) and here.named(name)]
    if any(name in MODEL for name in known):
        return f"{differences}: likely another device, which QEMU refuses"
    for name in known:
        reason = VARIES.get((here.vendor, name))
        if reason is not None:
            return f"{differences}: likely to differ, since {reason}"
    return differences

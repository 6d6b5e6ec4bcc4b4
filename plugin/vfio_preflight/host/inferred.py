"""A state that nobody saw: the source's, where all that determines it is the same here.

A device that must not be opened, that sysfs does not show and that the catalogue does not know
still presents the source's bytes, if its model, type, driver and firmware are the source's. Where
one of them differs, nothing is known; what is likely is told in words.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..pci.state import ConfigState
from .traits import NAMES, Traits, from_facts

# Vendors whose devices are known to vary with a trait: vendor, trait, what varies.
VARIES = {
    ("10de", "driver-version"): (
        "the Vendor Specific Information of an NVIDIA vGPU differs between driver versions, which"
        " QEMU refuses unless skip-vsc-check is in force"
    ),
}
# A device of another model differs at least in its IDs.
MODEL = ("vendor", "device", "type")


def infer(
    sent: ConfigState | None, facts: Mapping[str, str], here: Traits
) -> tuple[ConfigState | None, str]:
    """The state that a device with traits ``here`` presents, by the source's; or why none.

    ``sent`` is the source's state and ``facts`` what its record has of the device. The text says,
    of a state, what it rests on; otherwise what is missing, or what is likely.
    """
    if sent is None or not facts:
        return None, ""
    there = from_facts(facts)
    differing = [name for name, a, b in zip(NAMES, there, here) if a != b]
    if differing:
        return None, _likely(there, here, differing)
    if not here.determined:
        return None, "driver and version are not known, so the source's state says nothing of it"
    basis = ", ".join(f"{name} {value}" for name, value in here.facts().items())
    return ConfigState(sent.config, sent.bars, "inferred", f"the source's, with {basis}"), basis


def _likely(there: Traits, here: Traits, differing: list[str]) -> str:
    told = ", ".join(
        f"{name} is {a or 'not known'} at the source and {b or 'not known'} here"
        for name, a, b in zip(NAMES, there, here)
        if name in differing
    )
    known = [n for n in differing if from_names(there, n) and from_names(here, n)]
    if any(name in MODEL for name in known):
        return f"{told}: likely another device, which QEMU refuses"
    for name in known:
        reason = VARIES.get((here.vendor, name))
        if reason is not None:
            return f"{told}: likely to differ, since {reason}"
    return told


def from_names(traits: Traits, name: str) -> str:
    """The trait that a record calls ``name``."""
    return traits[NAMES.index(name)]

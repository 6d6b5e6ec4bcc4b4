"""What concerns the guest as a whole: its record, its networks, its image, vendors' rules."""

from __future__ import annotations

from .. import codes
from ..facts import Facts
from ..findings import Finding

REMEDY_RULES = "correct the file, or remove it"


def check_guest(facts: Facts) -> tuple[Finding, ...]:
    """Findings that are of no device: on the record, networks, the image, vendors' rules."""
    strays = tuple(
        # PASS: an entry for a device that was detached does not affect the others.
        Finding(
            codes.RECORD_STRAY,
            f"the record has an entry for {key[:80]!a}, where the guest has no VFIO device; it is"
            " ignored",
        )
        for key in facts.strays
    )
    networks = tuple(
        Finding(
            codes.NETWORK_UNRESOLVED,
            f"network {name[:80]!a} is not defined on this host: libvirt refuses to start the guest"
            ' here ("Network not found"), and whether it provides VFIO devices is not known',
            "define the network on the destination (virsh net-define)",
        )
        for name in facts.guest.unresolved
    )
    used_instead = "the guest's record, if it has one, was used instead of the image"
    images = tuple(
        Finding(codes.IMAGE_UNREAD, f"{problem}; {used_instead}")
        for problem in facts.image_problems
    )
    unread = tuple(
        # PASS: a rule only adds to what the bytes decide.
        Finding(codes.VENDOR_RULES_UNREAD, f"vendors' rules are ignored: {problem}", REMEDY_RULES)
        for problem in facts.rule_problems
    )
    return (*strays, *networks, *images, *unread)

"""What the check does not judge: that it judged nothing at all, and refusals that are known anyway.

A guest's other devices of the host (``guest.unjudged``) do not change the verdict on its VFIO PCI
devices. Where libvirt or QEMU is known to refuse one, the guest's move is undecided at best.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...guest.domain import Guest
from ...guest.unjudged import Kind, Unjudged
from .. import codes
from ..findings import Finding

NOTHING = "the guest has no VFIO PCI device: nothing was checked"


def check_unjudged(guest: Guest, saved: bool = False) -> tuple[Finding, ...]:
    """Findings on the guest as a whole; ``saved``: QEMU has sent it already, into an image."""
    return (*_nothing(guest), *known_refusals(guest, saved))


def _nothing(guest: Guest) -> Iterator[Finding]:
    # An unresolved network may provide devices: that has a finding of its own.
    if not guest.devices and not guest.unresolved:
        seen = len(guest.unjudged)
        others = f"; not judged: {seen} other device{'s' if seen > 1 else ''}" if seen else ""
        yield Finding(codes.NOTHING_JUDGED, f"{NOTHING}{others}")


def known_refusals(guest: Guest, saved: bool = False) -> Iterator[Finding]:
    """A finding for each kind of device that libvirt or QEMU is known to refuse."""
    kinds = dict.fromkeys(device.kind for device in guest.unjudged)
    for kind in kinds:
        # What QEMU refuses to send it cannot have sent.
        if kind.refusal and (kind.at_start or not saved):
            found = [device for device in guest.unjudged if device.kind == kind]
            remedy = f"{kind.what}: {kind.remedy}" if kind.remedy else ""
            yield Finding(codes.UNJUDGED_REFUSED, _text(kind, found), remedy)


def _text(kind: Kind, found: Sequence[Unjudged]) -> str:
    names = [name for name in map(_name, found) if name][:3]
    more = f" and {len(found) - len(names)} more" if names and len(found) > len(names) else ""
    which = f" ({', '.join(names)}{more})" if names else ""
    return f"{kind.what}{which}, not judged here: {kind.refusal}"


def _name(device: Unjudged) -> str:
    return " ".join(filter(None, (device.alias, device.host)))

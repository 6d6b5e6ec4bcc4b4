"""A device that a line is about, in words, and what is to be done for a device of its kind."""

from __future__ import annotations

OTHER_QEMU = (
    "use the same QEMU package on both hosts and the same machine type, and compare what the two"
    " logs'"
    " command lines have for this device; 'vfio-preflight check' does not judge it"
)
NO_VFIO = "no VFIO device is involved"


def is_vfio(path: str) -> bool:
    """Whether QEMU's id of a device, ``0000:00:02.0/vfio``, is a VFIO device's."""
    return path.rpartition("/")[2] == "vfio"


def guest_device(path: str) -> str:
    """``0000:00:01.0:00.0/vfio`` in words: the path from the root bus down to the device.

    QEMU's ids are slot and function on each bridge's way (``pcibus_get_dev_path``), and bus numbers
    only of the root, because the guest may renumber all others.
    """
    place, _, name = path.partition("/")
    steps = place.split(":")
    if len(steps) < 3:
        return f"'{path}'"
    domain, bus, *hops = steps
    way = (
        f"slot {hops[-1]}"
        if len(hops) == 1
        else f"slot {hops[-1]} behind {' and '.join(hops[:-1])}"
    )
    return (
        f"the {name or 'PCI'} device in {way} of root bus {domain}:{bus} (guest's view, '{path}')"
    )

"""Which libvirt networks of this host hand out VFs: those with ``<forward mode='hostdev'>``.

Read from libvirt's own files, because a hook must not call libvirt: persistent definitions under
``/etc/libvirt/qemu/networks``, running ones under ``/run/libvirt/network``, each as NAME.xml.
"""

from __future__ import annotations

import os

from ..osutil.regular import read_regular

# The running definition first: it is the one that libvirt uses when the guest starts.
DIRECTORIES = ("run/libvirt/network", "etc/libvirt/qemu/networks")
MAX_FILE = 1 << 20
# A definition, and a running network's status, which has one in it.
NETWORKS = ("network", "networkstatus/network")
FORWARD = tuple(f"{network}/forward" for network in NETWORKS)


def hands_out_devices(name: str, root: str = "/") -> bool | None:
    """Whether network ``name`` gives guests host devices; None if this host does not have it.

    libvirt does not start a guest with a network that its host does not have ("Network not found").
    """
    # The name becomes part of a path and comes from the guest's XML. With ".xml" behind it, "."
    # and ".." are files like any other.
    if not name or "/" in name or "\0" in name:
        return None
    for directory in DIRECTORIES:
        modes = _forward_modes(os.path.join(root, directory, f"{name}.xml"))
        if modes is not None:
            return "hostdev" in modes
    return None


def _forward_modes(path: str) -> list[str] | None:
    """The mode of a network's ``<forward>``, if it has one; None for what is no network's file."""
    # Imported here: most guests have no interface of a network.
    from ..osutil.elements import elements

    try:
        # read_regular: a FIFO planted there must not hang the hook.
        found = elements(read_regular(path, MAX_FILE), ("network", "forward"))
    except (OSError, ValueError):
        return None
    if not any(path in NETWORKS for path, _ in found):
        return None
    # By its place: title and metadata of any network may hold these words.
    return [attributes.get("mode", "nat") for path, attributes in found if path in FORWARD]

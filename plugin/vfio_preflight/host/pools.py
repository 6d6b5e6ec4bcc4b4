"""libvirt's pools of VFs: networks with ``<forward mode='hostdev'>``, and which VFs they have.

libvirt takes the first VF that no guest has, and refuses the guest
where none is left. Read from libvirt's own files, as in :mod:`.networks`.

Source: libvirt, "Network XML format", ``<forward mode='hostdev'>``: either ``<pf dev='eth0'/>`` or
a list of ``<address type='pci' …/>``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from lxml import etree

from ..guest.addresses import pci_address
from ..guest.xml import GuestError
from ..osutil.light import NamedTuple
from ..osutil.regular import read_regular
from ..osutil.text import printable
from .networks import DIRECTORIES, MAX_FILE
from .text import names_in, target

NET = "sys/class/net"


class Pool(NamedTuple):
    """A libvirt network; ``hands_out`` is whether it hands out VFs, ``devices`` are all its VFs,
    be they free or not."""

    name: str
    hands_out: bool
    devices: tuple[str, ...] = ()


def read_pools(root: str = "/") -> tuple[Pool, ...]:
    """The networks that this host has, whether they hand out VFs or not, by name."""
    found: dict[str, Pool] = {}
    # The running definition comes first, and counts.
    for directory in DIRECTORIES:
        for file in names_in(root, directory):
            name, dot, _ = file.rpartition(".xml")
            if dot and name not in found:
                pool = _read(name, os.path.join(root, directory, file), root)
                if pool is not None:
                    found[name] = pool
    return tuple(found[name] for name in sorted(found))


def _read(name: str, path: str, root: str) -> Pool | None:
    try:
        parser = etree.XMLParser(resolve_entities=False, no_network=True)
        tree = etree.fromstring(read_regular(path, MAX_FILE), parser)
    except (OSError, etree.LxmlError):
        return None
    # A running network's status has the definition within.
    network = tree if tree.tag == "network" else tree.find("network")
    if network is None:
        return None
    forward = network.find("forward")
    if forward is None or forward.get("mode") != "hostdev":
        return Pool(printable(name, 256), False)
    return Pool(printable(name, 256), True, tuple(dict.fromkeys(_members(forward, root))))


def _members(forward: etree._Element, root: str) -> Iterator[str]:
    for address in forward.findall("address[@type='pci']"):
        try:
            yield pci_address({str(name): str(value) for name, value in address.items()})
        except GuestError:
            continue
    for function in forward.findall("pf"):
        device = os.path.join(NET, os.path.basename(function.get("dev", "")), "device")
        links = [name for name in names_in(root, device) if name.startswith("virtfn")]
        for link in sorted(links, key=lambda name: (len(name), name)):
            yield target(os.path.join(root, device, link))

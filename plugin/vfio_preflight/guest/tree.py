"""What a guest's machine is made of, as one digest: equal for equal device trees, on every host.

    >>> tree_digest(root, {"0000:05:00.0": state})
    '5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef'

What a device stands on (a disk's file, a network's name, a console's socket) and what it is called
is not in it: that is no part of what QEMU migrates, and may differ from host to host. Everything
else is, known or not, so that two guests with one digest have one machine. A libvirt that writes a
default out where another does not makes another digest: then nothing is known, and nothing is said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from lxml import etree

from ..pci.state import ConfigState

# Of <domain>; the rest concerns the host, or says what to do with the guest.
PARTS = frozenset(
    ("os", "features", "cpu", "clock", "devices", "vcpu", "vcpus", "iothreads", "iothreadids")
)
_QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"
# Of a device, or of anything in one.
_LEFT_OUT = frozenset(
    (
        *("source", "alias", "seclabel", "mac", "serial", "wwn", "vendor", "product", "auth"),
        *("iotune", "backingStore", "mirror", "encryption", "reservations", "bandwidth"),
        *("filterref", "link", "boot", "virtualport", "vlan", "port", "actual", "log", "protocol"),
        *("graphics", "emulator", "audio", "backenddomain", "throttlefilters", "guest", "ip"),
        *("listen", "nvram", "loader", "cachetune", "stats", "privateData"),
    )
)
# What a disk or an interface is called on the host.
_NAMES = {"target": ("dev", "path")}


def tree_digest(root: etree._Element, states: Mapping[str, ConfigState]) -> str:
    """The digest of a ``<domain>`` whose VFIO devices present ``states``, by their keys."""
    digest = hashlib.sha256()
    for child in root:
        if child.tag in PARTS or str(child.tag).startswith(_QEMU):
            for word in _words(child):
                digest.update(word.encode("utf-8", "replace") + b"\0")
    # Of the firmware only where it lies: what is in it does not run.
    for loader in root.iterfind("os/loader"):
        digest.update((loader.text or "").strip().encode("utf-8", "replace") + b"\0")
    for key, state in sorted(states.items()):
        digest.update(repr((key, state.config, state.bars, state.atomics)).encode())
    return digest.hexdigest()


def _words(element: etree._Element) -> Iterator[str]:
    yield f"<{element.tag}"
    named = _NAMES.get(str(element.tag), ())
    for name, value in sorted(element.attrib.items()):
        if name not in named:
            yield f"{name!s}={value!s}"
    yield (element.text or "").strip()
    for child in element:
        # Comments have no tag that is text.
        if isinstance(child.tag, str) and child.tag not in _LEFT_OUT:
            yield from _words(child)
    yield ">"

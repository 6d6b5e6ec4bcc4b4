"""The libvirt networks that a guest's interfaces come from, read without lxml.

The hook asks this of every guest with such an interface. ``guest.domain`` reads the same from the
tree, for guests that are judged.
"""

from __future__ import annotations

from ..osutil.elements import elements

_INTERFACE = "domain/devices/interface"


def networks_of(xml: bytes) -> tuple[str, ...]:
    """The network of each ``<interface type='network'>``, empty where it names none.

    Raises ValueError for what is not XML.
    """
    names: list[str | None] = []
    wanted = False
    for path, attributes in elements(xml, ("interface", "source")):
        if path == _INTERFACE:
            wanted = attributes.get("type") == "network"
            names += [None] if wanted else []
        # The first <source> counts, as to the reader of the tree.
        elif path == f"{_INTERFACE}/source" and wanted and names[-1] is None:
            names[-1] = attributes.get("network", "")
    return tuple(name or "" for name in names)

"""The libvirt networks that a guest's interfaces are to be connected to."""

from __future__ import annotations

from lxml import etree


def networks_asked(root: etree._Element) -> tuple[str, ...]:
    """The network of each ``<interface type='network'>``, also where several name the same."""
    sources = root.iterfind("devices/interface[@type='network']/source")
    return tuple(filter(None, (source.get("network", "") for source in sources)))

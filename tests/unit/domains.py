"""Domain XML with VFIO devices and records, as a hook gets it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lxml import etree

from lab.guests import guest_xml, hostdev_pci
from unit.makers import EMULATOR, HOST, make_record
from vfio_preflight.guest.metadata import NAMESPACE, set_record, write_record
from vfio_preflight.guest.xml import parse_domain, to_bytes
from vfio_preflight.pci.state import ConfigState

# The guest address, and therefore the key, of the first device of make_domain().
KEY = "0000:00:05.0"


def guest_address(number: int) -> str:
    """The address of device ``number`` (0-9) in the guest."""
    return f"<address type='pci' domain='0' bus='0' slot='0x{5 + number:x}' function='0'/>"


def make_domain(
    record: Mapping[str, ConfigState] | None = None,
    hosts: Sequence[str] = (HOST,),
    machine: str = "pc-q35-9.0",
    emulator: str = EMULATOR,
    metadata: str = "",
) -> bytes:
    """Guest g1 with a device for each of ``hosts``; ``record`` holds states by key."""
    devices = [hostdev_pci(host, guest_address(number)) for number, host in enumerate(hosts)]
    xml = guest_xml("g1", machine, devices, emulator=emulator, metadata=metadata).encode()
    if record is None:
        return xml
    root = parse_domain(xml)
    set_record(root, write_record(make_record(record)))
    return to_bytes(root)


def report_of(xml: bytes) -> etree._Element:
    """The report that annotates a domain."""
    ours = f"{{{NAMESPACE}}}"
    (element,) = parse_domain(xml).findall(f"metadata/{ours}preflight/report")
    return element

"""Documents that the fuzzer begins with: guests with each kind of device, with and without ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lab.guests import (
    as_json,
    guest_xml,
    hostdev_mdev,
    hostdev_pci,
    interface_hostdev,
    vfio_commandline,
)
from unit.domains import KEY, guest_address, make_domain
from unit.makers import HOST, UUID, make_state
from vfio_preflight.guest.metadata import NAMESPACE

REFERENCE = Path(__file__).parents[1] / "unit" / "guest" / "data" / "q35.xml"
POLICY = f"<p:preflight xmlns:p='{NAMESPACE}'><policy fail='block' unknown='allow'/></p:preflight>"
NETWORK = "<interface type='network'><source network='vfs'/></interface>"


def documents() -> Iterator[bytes]:
    """Domain XML."""
    yield make_domain({KEY: make_state()})
    yield make_domain({KEY: make_state()}, machine="pc-q35-9.1")
    yield make_domain(metadata=POLICY)
    devices = [hostdev_pci(HOST, guest_address(1)), hostdev_mdev(UUID), interface_hostdev(HOST)]
    lines = [*vfio_commandline(HOST), *as_json(vfio_commandline(UUID, slot=0x11))]
    yield guest_xml("g1", devices=[*devices, NETWORK], commandline=lines).encode()
    yield REFERENCE.read_bytes()


def seeds() -> Iterator[bytes]:
    """Inputs: each document with each operation and policy."""
    for document in documents():
        for choice in range(16):
            yield bytes([choice]) + document

"""Dumps of a PCI device as an operator makes them, held against what VFIO shows of the device.

A dump is taken before VFIO opens the device, by the device's own driver or none; compared are the
bytes that VFIO gives, and the copy of a QEMU whose guest's firmware has been at the device.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

from unit.makers import make_facts, make_guest
from unit.physical import as_lspci, as_words
from vfio_preflight.errors import PreflightError
from vfio_preflight.guest.domain import GuestDevice
from vfio_preflight.host.sources.physical import presented
from vfio_preflight.judge.model import preflight
from vfio_preflight.pci.formats import parse
from vfio_preflight.pci.state import ConfigState

from .guest import PCI

PLACES = (
    *(("pc-q35-9.0", place) for place in ("root-port", "root-complex", "conventional")),
    ("pc-i440fx-9.0", "conventional"),
)
LSPCI = ("lspci", "-xxxx", "-s")


def dumps(name: str) -> dict[str, bytes]:
    """What files of the device come to, by the way in which they are made."""
    config = (PCI / name / "config").read_bytes()
    ids = ((PCI / name / file).read_text().strip()[2:] for file in ("vendor", "device"))
    heading = f"{name} 0200: {':'.join(ids)}"
    made = {
        "raw": config,
        "words": as_words(config),
        "lspci -n, by hand": as_lspci(config, heading),
    }
    for more in ((), ("-n",), ("-nn", "-vvv")):
        command = (*LSPCI, name, *more)
        made[" ".join(command)] = subprocess.run(command, check=True, capture_output=True).stdout
    return made


def read(made: dict[str, bytes]) -> tuple[dict[str, ConfigState], list[str]]:
    """The states of those that can be read, and what was refused for IDs that are not in it."""
    states, refused = {}, []
    for label, data in made.items():
        try:
            states[label] = presented(parse(data, label))
        except PreflightError as error:
            if "ID read ffff" not in str(error):
                raise
            refused.append(label)
    return states, refused


def is_vf(name: str) -> bool:
    return os.path.lexists(PCI / name / "physfn")


def differing(dump: ConfigState, shown: ConfigState) -> Iterator[str]:
    """Where a dump and ``shown``, a stream or what VFIO gives, are not what ``shown`` is alone."""
    streamed = shown.evidence == "stream"
    # A stream is what QEMU made of the device at its place in the guest.
    for place in PLACES[:1] if streamed else PLACES:
        alone = verdict(shown, shown, *place)[0] if not streamed else "pass"
        for source, destination in [(shown, dump)] + [(dump, shown)] * (not streamed):
            found, text = verdict(source, destination, *place)
            if found != alone:
                yield f"{' '.join(place)}: {found}, not {alone}: {text}"


def verdict(
    source: ConfigState, destination: ConfigState, machine: str, place: str
) -> tuple[str, str]:
    """The verdict on the device at that place of such a machine, and what was found."""
    device = GuestDevice("device", "pci", None, "device", "vfio-pci", place, {})
    guest = make_guest(device, machine=machine)
    report = preflight(make_facts(source, destination, guest)).devices[0]
    return report.verdict, "; ".join(finding.text for finding in report.findings)

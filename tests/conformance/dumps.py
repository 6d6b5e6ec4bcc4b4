"""Config states of real devices: this machine's own, and those in ``tests/devices``."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from vfio_preflight.errors import PreflightError
from vfio_preflight.host.sources.physical import presented
from vfio_preflight.pci.formats import read_file
from vfio_preflight.pci.state import ConfigState

from .cases import PLACEMENTS, Case, Device

DEVICES = Path(__file__).resolve().parents[1] / "devices"
SYSFS = Path("/sys/bus/pci/devices")
_FLIPS = 12
_MACHINES = ("9.0", "10.0")


def real_states() -> Iterator[tuple[str, ConfigState]]:
    """States by name; what is no config space is left out."""
    for path in [*sorted(DEVICES.glob("*.json")), *sorted(SYSFS.glob("*/config"))]:
        try:
            yield str(path), presented(read_file(str(path)))
        except PreflightError:
            continue


def cases_of(state: ConfigState) -> list[Case]:
    """The state against itself, and against itself with single bytes changed, everywhere."""
    device = Device(state.config, state.bars)
    chance = random.Random(state.config)
    others = [device, *(_flipped(device, chance) for _ in range(_FLIPS))]
    return [
        Case(device, other, machine, placement)
        for machine in _MACHINES
        for placement in PLACEMENTS
        for other in others
    ]


def _flipped(device: Device, chance: random.Random) -> Device:
    """One of the bytes changed that are not zero, or else any."""
    filled = [at for at, value in enumerate(device.config) if value]
    at = chance.choice(filled or [0])
    config = bytearray(device.config)
    config[at] ^= 1 << chance.randrange(8)
    return device._replace(config=bytes(config))

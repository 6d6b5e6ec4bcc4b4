"""What guests' devices presented when QEMU on this host realised them, kept for the guests' runs.

The hook reads the devices at ``started begin`` and leaves what it read in the runtime directory;
``record`` and ``watch`` take it from there, whenever they come. It holds for one process, and goes
when the guest does (``release end``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..osutil import jsondir
from ..osutil.light import NamedTuple
from ..pci import codec
from ..pci.codec import CodecError
from ..pci.state import ConfigState

SCHEMA = 1
DIRECTORY = "started"
# The prefix that the shell part of the hook looks for: no guest's name can make another path of it.
PREFIX = "g-"
# More guests than a host can run; only beyond that the oldest captures are dropped.
MAX_GUESTS = 4096


class Capture(NamedTuple):
    """A device at its QEMU's start: its state, what its driver offers, and QEMU's age (seconds)."""

    state: ConfigState
    offers: str
    age: int


def keep(runtime: str, guest: str, instance: str, devices: Mapping[str, Capture]) -> bool:
    """Keep ``devices``, by their names on this host, of the guest's process ``instance``.

    Return whether that could be stored.
    """
    value = {
        "schema": SCHEMA,
        "process": instance,
        "devices": {
            name: {**codec.to_object(capture.state), "offers": capture.offers, "age": capture.age}
            for name, capture in devices.items()
        },
    }
    name = _name(guest)
    return bool(name) and jsondir.store(_directory(runtime), name, value, MAX_GUESTS)


def captured(runtime: str, guest: str, instance: str) -> dict[str, Capture]:
    """What was kept of the guest's process ``instance``, by the devices' names on this host."""
    value = jsondir.load(_directory(runtime), _name(guest)) if _name(guest) else None
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        return {}
    devices = value.get("devices")
    # Another process: the guest was started anew while nobody looked.
    if value.get("process") != instance or not isinstance(devices, dict):
        return {}
    found = {name: _capture(device, name) for name, device in devices.items()}
    return {name: capture for name, capture in found.items() if capture is not None}


def _capture(value: object, name: str) -> Capture | None:
    if not isinstance(value, dict):
        return None
    try:
        config = codec.config_from_hex(value.get("config"), name)
        bars = codec.bars_from_objects(value.get("bars", []))
        evidence = codec.evidence(value.get("evidence"))
    except CodecError:
        return None
    state = ConfigState(config, bars, evidence, str(value.get("origin", "")))
    age = value.get("age")
    return Capture(state, str(value.get("offers", "")), age if isinstance(age, int) else 0)


def _directory(runtime: str) -> str:
    return os.path.join(runtime, DIRECTORY)


def _name(guest: str) -> str:
    # libvirt refuses such names, a hook's argument may have them.
    return "" if "/" in guest or not guest else PREFIX + guest

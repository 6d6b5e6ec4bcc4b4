"""What guests' devices presented when QEMU on this host realised them, kept for the guests' runs.

The hook reads the devices at ``started begin`` and leaves what it read in the runtime directory;
``record`` and ``watch`` take it from there, whenever they come. It holds for one process, and goes
when the guest does (``release end``).
"""

from __future__ import annotations

from collections.abc import Mapping

from ..osutil.light import NamedTuple
from ..pci import atomics, codec
from ..pci.codec import CodecError
from ..pci.state import ConfigState
from .runtime import load, store

SCHEMA = 1
KIND = "started"
# More guests than a host can run; only beyond that the oldest captures are dropped.
MAX_GUESTS = 4096


class Capture(NamedTuple):
    """A device at its QEMU's start: its state, what its driver offers, QEMU's age (seconds), and
    ``data_size`` of ``host.vfio_api.VfioDevice``."""

    state: ConfigState
    offers: str
    age: int
    data_size: int | None = None


def keep(runtime: str, guest: str, instance: str, devices: Mapping[str, Capture]) -> bool:
    """Keep ``devices``, by their names on this host, of the guest's process ``instance``.

    Return whether that could be stored.
    """
    value = {
        "schema": SCHEMA,
        "process": instance,
        "devices": {
            name: {
                **codec.to_object(capture.state),
                "offers": capture.offers,
                "age": capture.age,
                "data_size": capture.data_size,
            }
            for name, capture in devices.items()
        },
    }
    return store(runtime, KIND, guest, value, MAX_GUESTS)


def captured(runtime: str, guest: str, instance: str) -> dict[str, Capture]:
    """What was kept of the guest's process ``instance``, by the devices' names on this host."""
    value = load(runtime, KIND, guest)
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
    widths = atomics.from_text(value.get("atomic_ops"))
    state = ConfigState(config, bars, evidence, str(value.get("origin", "")), widths)
    age, size = value.get("age"), value.get("data_size")
    return Capture(
        state,
        str(value.get("offers", "")),
        age if isinstance(age, int) else 0,
        size if isinstance(size, int) else None,
    )

"""The devices of a QEMU of this host that has just realised them, read through its descriptors."""

from __future__ import annotations

from ..errors import PreflightError
from ..guest.domain import Guest, GuestDevice, Property
from ..host.captures import Capture
from ..host.processes import Process
from ..host.vfio import read_in_use
from ..pci.state import UNKNOWN, ConfigState, Missing, State
from ..qemu.model.properties import TEXT

ORIGIN = "QEMU's arguments"


def captures(guest: Guest, process: Process) -> dict[str, Capture]:
    """The devices of a guest that was started here, by their names on this host.

    What cannot be read is left out: the recorder will say why.
    """
    found = {}
    for device in guest.devices:
        if device.host is None:
            continue
        try:
            seen = read_in_use(device.host, process.pid)
        except PreflightError:
            continue
        state = seen.state._replace(origin=f"{seen.state.origin} at QEMU's start")
        found[device.host] = Capture(state, seen.offers, round(process.age), seen.data_size)
    return found


def presented(guest: Guest, process: Process) -> dict[str, State]:
    """What the devices of a guest that migrates in present, by their keys.

    Their drivers are not asked about migration, which is about to begin. A device that cannot be
    read is left out where the XML names it: what else this host knows of it was good enough before.
    """
    found = ((device, _presented(device, process)) for device in guest.devices)
    return {
        device.key: state
        for device, state in found
        if device.host is None or isinstance(state, ConfigState)
    }


def _presented(device: GuestDevice, process: Process) -> State:
    name = device.host or process.devices.get(device.alias or "")
    if not name:
        return Missing(UNKNOWN, "QEMU's arguments do not say which device of the host it is")
    try:
        return read_in_use(name, process.pid, migration=False).state
    except PreflightError as error:
        return Missing(UNKNOWN, f"the destination's device: {error}")


def as_started(guest: Guest, process: Process) -> Guest:
    """The guest with the properties that its QEMU was started with, whatever the XML says."""
    devices = tuple(_as_started(device, process) for device in guest.devices)
    return guest._replace(devices=devices)


def _as_started(device: GuestDevice, process: Process) -> GuestDevice:
    options = process.options.get(device.alias or "")
    if options is None:
        return device
    given = {name: Property(value, ORIGIN, TEXT) for name, value in options.items()}
    return device._replace(properties=given, driver=options.get("driver", device.driver))

"""Collects the facts that this host can give: for the hook, and for the command run here."""

from __future__ import annotations

from collections.abc import Mapping

from .configuration import Configuration
from .findings import Finding
from .guest.domain import Guest
from .guest.metadata import RecordError, read_record
from .host.states import state_of
from .pci.state import Missing, State
from .preflight import Facts
from .qemu.emulator import emulator_facts
from .qemu.executable import EmulatorError
from .qemu.machines import EmulatorFacts

NO_RECORD = (
    "the guest carries no record of this device, so it is not known what the source will send"
)
REMEDY_RECORD = "on the source, run: vfio-preflight record {guest}"


def facts_here(
    guest: Guest,
    settings: Configuration,
    deadline: float,
    source: Mapping[str, State] | None = None,
    destination: Mapping[str, State] | None = None,
) -> Facts:
    """Facts for a move of ``guest`` to this host; ``deadline`` on the ``time.monotonic()`` clock.

    States given in ``source`` or ``destination``, by device key, stand in for those of the record
    and of this host.
    """
    recorded, remarks = recorded_states(guest)
    here = {
        device.key: state_of(device, "destination", settings.states)
        for device in guest.devices
        if device.key not in (destination or {})
    }
    return Facts(
        guest,
        {**recorded, **(source or {})},
        {**here, **(destination or {})},
        ask_emulator(guest, settings, deadline),
        (*remarks, *_networks(guest)),
    )


def recorded_states(guest: Guest) -> tuple[dict[str, State], tuple[Finding, ...]]:
    """The source's states by the record, one for every device, and remarks on the record."""
    remedy = REMEDY_RECORD.format(guest=guest.name)
    try:
        record = read_record(guest.metadata)
    except RecordError as error:
        lost = Missing("record-damaged", f"the guest's record cannot be used: {error}", remedy)
        return {device.key: lost for device in guest.devices}, ()
    if record is None:
        return {d.key: Missing("source-unknown", NO_RECORD, remedy) for d in guest.devices}, ()
    states: dict[str, State] = {}
    for device in guest.devices:
        if device.key in record.damaged:
            reason = f"its entry in the guest's record is damaged: {record.damaged[device.key]}"
            states[device.key] = Missing("record-damaged", reason, remedy)
        elif device.key in record.states:
            states[device.key] = record.states[device.key]
        else:
            states[device.key] = Missing("source-unknown", NO_RECORD, remedy)
    strays = sorted({*record.states, *record.damaged} - {device.key for device in guest.devices})
    return states, tuple(_stray(key) for key in strays)


def _stray(key: str) -> Finding:
    return Finding(
        "record-stray",
        f"the record has an entry for {key[:80]!a}, where the guest has no VFIO device; not used",
    )


def _networks(guest: Guest) -> tuple[Finding, ...]:
    return tuple(
        Finding(
            "network-unresolved",
            f"network {name[:80]!a} is not defined here: whether it hands out VFIO devices is not"
            " known",
            "define the network on the destination",
        )
        for name in guest.unresolved
    )


def ask_emulator(guest: Guest, settings: Configuration, deadline: float) -> EmulatorFacts | Finding:
    """What the guest's emulator on this host can do, or the finding that it could not be asked."""
    if not guest.emulator:
        return Finding(
            "emulator-unknown",
            "the guest's XML names no emulator",
            "add <emulator> to the guest's <devices>",
        )
    try:
        return emulator_facts(guest.emulator, cache_dir=settings.cache, deadline=deadline)
    except EmulatorError as error:
        return Finding("emulator-unknown", str(error), "see that the emulator runs on this host")

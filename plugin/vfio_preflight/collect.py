"""Collects the facts that this host can give: for the hook, and for the command run here."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping

from .checks.device import check_migratable, is_unplugged_to_migrate
from .checks.evidence import check_age, contradictions, contradicts_record
from .configuration import Configuration
from .errors import PreflightError
from .findings import Finding
from .guest.domain import Guest, GuestDevice
from .guest.metadata import Record, RecordError, read_record
from .host.states import Sent, second_opinion, state_of
from .pci.state import ConfigState, Missing, State
from .preflight import Facts, environment_of
from .qemu.emulator import emulator_facts
from .qemu.executable import EmulatorError
from .qemu.machines import EmulatorFacts
from .qemu.versions import behaviour
from .qemu.vfio_pci import Environment, VirtualConfig, compare, realise

NO_RECORD = (
    "the guest carries no record of this device, so it is not known what the source will send"
)
REMEDY_RECORD = "on the source, run: vfio-preflight record {guest}"
# There is no source to run anything on; what is saved can only be read.
REMEDY_RESTORE = (
    "restore without --bypass-cache, so that the image can be read, or judge it beforehand:"
    " vfio-preflight check --image FILE"
)


def facts_here(
    guest: Guest,
    settings: Configuration,
    deadline: float,
    source: Mapping[str, State] | None = None,
    destination: Mapping[str, State] | None = None,
    root: str = "/",
    remedy: str = REMEDY_RECORD,
) -> Facts:
    """Facts for a move of ``guest`` to this host; ``deadline`` on the ``time.monotonic()`` clock.

    States given in ``source`` or ``destination``, by device key, stand in for those of the record
    and of this host. ``remedy`` is what is to be done if the source's are not known.
    """
    recorded, remarks, noted = recorded_states(guest, remedy)
    sent = {**recorded, **(source or {})}
    here = {
        device.key: state_of(
            device,
            "destination",
            settings.states,
            root,
            catalogue=settings.catalogue,
            sent=_sent(sent[device.key], noted.get(device.key)),
            opened=settings.open_devices,
        )
        for device in guest.devices
        if device.key not in (destination or {})
    }
    against = _contradictions(guest, recorded, noted, source or {}, here, root, settings.catalogue)
    _remember_what_was_opened(guest, here, settings, root)
    return Facts(
        guest,
        sent,
        {**here, **(destination or {})},
        ask_emulator(guest, settings, deadline),
        (*remarks, *_networks(guest)),
        _merged(against, _reservations(guest, recorded, source or {}, noted)),
        settings.evidence,
    )


def _sent(state: State, facts: Mapping[str, str] | None) -> Sent | None:
    return Sent(state, facts) if isinstance(state, ConfigState) and facts else None


def _contradictions(
    guest: Guest,
    recorded: Mapping[str, State],
    noted: Mapping[str, Mapping[str, str]],
    given: Mapping[str, State],
    here: Mapping[str, State],
    root: str,
    catalogue: str,
) -> dict[str, tuple[Finding, ...]]:
    """Evidence that speaks against the state that is used, of those devices that have such."""
    found = {}
    for device in guest.devices:
        findings: list[Finding] = []
        sent, record = given.get(device.key), recorded[device.key]
        if isinstance(sent, ConfigState) and isinstance(record, ConfigState):
            findings += _against_record(guest, device, sent, record, noted.get(device.key, {}))
        present = here.get(device.key)
        if isinstance(present, ConfigState) and device.host is not None:
            other = second_opinion(device.host, present, root, catalogue)
            findings += contradictions("destination", present, other) if other else ()
        if findings:
            found[device.key] = tuple(findings)
    return found


def _reservations(
    guest: Guest,
    recorded: Mapping[str, State],
    given: Mapping[str, State],
    noted: Mapping[str, Mapping[str, str]],
) -> dict[str, tuple[Finding, ...]]:
    """What those entries of the record that are used say against themselves, or the device.

    Of a device that is unplugged before the migration nothing is sent.
    """
    return {
        device.key: (*check_age(facts), *check_migratable(facts))
        for device in guest.devices
        if device.key not in given
        and isinstance(recorded[device.key], ConfigState)
        and not is_unplugged_to_migrate(device)
        for facts in (noted.get(device.key, {}),)
    }


def _merged(*mappings: Mapping[str, tuple[Finding, ...]]) -> dict[str, tuple[Finding, ...]]:
    merged: dict[str, tuple[Finding, ...]] = {}
    for mapping in mappings:
        for key, findings in mapping.items():
            merged[key] = (*merged.get(key, ()), *findings)
    return merged


def _against_record(
    guest: Guest,
    device: GuestDevice,
    sent: ConfigState,
    record: ConfigState,
    facts: Mapping[str, str],
) -> tuple[Finding, ...]:
    """What the record says against the source's state; one made late need not be what QEMU has."""
    if check_age(facts):
        return contradictions("source", sent, record)
    there = environment_of(guest, device, None)
    if "qemu" in facts:
        there = there._replace(behaviour=behaviour(facts["qemu"]))
    return contradicts_record(sent, record, there)


def recorded_states(
    guest: Guest, remedy: str = REMEDY_RECORD
) -> tuple[dict[str, State], tuple[Finding, ...], Mapping[str, Mapping[str, str]]]:
    """The source's states by the record, one for every device; remarks on the record; and what it
    has noted of each device besides."""
    remedy = remedy.format(guest=guest.name)
    try:
        record = read_record(guest.metadata)
    except RecordError as error:
        lost = Missing("record-damaged", f"the guest's record cannot be used: {error}", remedy)
        return {device.key: lost for device in guest.devices}, (), {}
    if record is None:
        return {d.key: Missing("source-unknown", NO_RECORD, remedy) for d in guest.devices}, (), {}
    states: dict[str, State] = {}
    for device in guest.devices:
        if device.key in record.damaged:
            reason = f"its entry in the guest's record is damaged: {record.damaged[device.key]}"
            states[device.key] = Missing("record-damaged", reason, remedy)
        elif device.key in record.states:
            states[device.key] = _dated(record, device.key)
        else:
            states[device.key] = Missing("source-unknown", NO_RECORD, remedy)
    strays = sorted({*record.states, *record.damaged} - {device.key for device in guest.devices})
    return states, tuple(_stray(key) for key in strays), record.devices


def _dated(record: Record, key: str) -> ConfigState:
    """A state of the record, with where and when: what its origin names is not on this host."""
    state, facts = record.states[key], record.devices.get(key, {})
    on, at = facts.get("on") or record.host, facts.get("time") or record.time
    told = f"recorded{f' on {on}' if on else ''}{f' at {at}' if at else ''}"
    return state._replace(origin=f"{state.origin}, {told}")


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


def _remember_what_was_opened(
    guest: Guest, here: Mapping[str, State], settings: Configuration, root: str
) -> None:
    """Free devices that were opened go into the catalogue, for when they, or others, are in use.

    No verdict depends on that, for the catalogue may not be writable.
    """
    for device in guest.devices:
        state = here.get(device.key)
        if device.host is not None and isinstance(state, ConfigState) and state.evidence == "vfio":
            with contextlib.suppress(PreflightError, OSError):
                remember(device.host, state, settings, root)


def remember(name: str, state: ConfigState, settings: Configuration, root: str = "/") -> bool:
    """Put what device ``name`` of this host was seen to present into the catalogue.

    Return whether that told the catalogue anything new: it takes no device that sysfs shows, whose
    traits do not determine it, or whose state was not read from the device itself (evidence
    ``vfio``). Raises CatalogueError where the catalogue cannot be written.
    """
    from .host import catalogue
    from .host.states import sysfs_shows
    from .host.traits import read_traits

    if state.evidence not in catalogue.SEEN or sysfs_shows(name, root):
        return False
    traits = read_traits(name, root)
    if not traits.determined or not traits.type:
        return False
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    entry = catalogue.Entry(traits, (state,), os.uname().nodename, now)
    return catalogue.add(catalogue.under(root, settings.catalogue), entry, agree)


def agree(one: ConfigState, other: ConfigState) -> bool:
    """Whether two states are one to QEMU: equal in every byte that it compares anywhere."""
    if one.config == other.config:
        return True
    strictest = Environment("root-port")._replace(skip_vsc_check=False)
    a, b = realise(one, strictest), realise(other, strictest)
    if not isinstance(a, VirtualConfig) or not isinstance(b, VirtualConfig):
        return False
    return len(a.config) == len(b.config) and not compare(a.config, b)

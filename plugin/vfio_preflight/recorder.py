"""Keeps the record of a running guest true: what ``record`` and ``watch`` share, without libvirt.

QEMU sends what a device presented when it was realised on the guest's first host, and every QEMU
after that one sends what it was sent. So this host's bytes are the right ones in two cases only:
the guest was started here, and not to load another QEMU's state; or the device was plugged in here.
Which it is, the arguments of the guest's QEMU tell at any time, but for one thing: a device that
was unplugged and plugged in again, the same at the same place, while nobody watched looks as if it
had stayed, and keeps its entry. Its bytes as they are now do not tell either: a guest that runs
changes some that QEMU compares (link, power, errors).

- A device that came along with a migration or a save image keeps its entry. Without one none is
  made: what this host's device presents is not what QEMU will send.
- A cold start begins a new record, whatever the guest's persistent XML carries: an entry made here
  is good for the process it was made for alone.
- A device that is gone loses its entry.

Done twice, the second time changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

from lxml import etree

from .collect import agree, ask_emulator, remember
from .configuration import Configuration
from .errors import PreflightError
from .findings import Finding
from .guest.addresses import pci_address
from .guest.domain import Guest, GuestDevice
from .guest.metadata import RecordError, read_record, write_record
from .guest.record import MAX_DEVICES, Record
from .host.processes import Process
from .host.states import state_of
from .host.traits import read_traits
from .host.vfio import read_in_use
from .pci.space import identity
from .pci.state import ConfigState, Missing, State

# Bytes of XML. libvirt passes a domain's XML, metadata included, in strings of 4 MiB at most
# (REMOTE_STRING_MAX): beyond that no tool could read it any more, and no migration send it.
MAX_RECORD = 1 << 20

RECORDED, KEPT, MISSING, DROPPED = "recorded", "kept", "missing", "dropped"


class Entry(NamedTuple):
    """What became of one device (one of the four words above), and why.

    ``passing`` is whether what is in the way may go by itself: it is worth another try.
    """

    device: str
    result: str
    reason: str
    passing: bool = False


class Running(NamedTuple):
    """A running guest and its QEMU. ``names`` are the devices' aliases in this run, by key.

    ``reverted`` is whether it goes on from a snapshot; ``added`` are the aliases of devices that
    are known to have been plugged in just now.
    """

    guest: Guest
    process: Process
    names: Mapping[str, str]
    reverted: bool = False
    added: Collection[str] = ()

    def name(self, device: GuestDevice) -> str:
        """The device's alias, or what else it goes by."""
        return self.names.get(device.key) or device.alias or device.key

    def came_along(self, device: GuestDevice) -> bool:
        """Whether the device's state was loaded: QEMU goes on sending what it was sent."""
        if not (self.process.incoming or self.reverted) or self.name(device) in self.added:
            return False
        begun_with = self.process.devices.get(self.name(device))
        if begun_with is None:
            # Without an id there is no unplugging, and no plugging in either.
            return device.kind == "commandline"
        return begun_with in ("", device.host)


class Revision(NamedTuple):
    """The record as it should be, None if the guest has it already; and an entry a device."""

    record: Record | None
    entries: list[Entry]


class _Item(NamedTuple):
    key: str
    entry: Entry
    state: ConfigState | None = None
    facts: Mapping[str, str] = {}


class _Here(NamedTuple):
    host: str
    time: str
    qemu: str


def live_aliases(root: etree._Element) -> dict[str, str]:
    """The aliases that libvirt gave to host devices in this run, by guest address."""
    names = {}
    for element in (*root.iterfind("devices/interface"), *root.iterfind("devices/hostdev")):
        alias, address = element.find("alias"), element.find("address[@type='pci']")
        if alias is not None and address is not None:
            key = pci_address({str(name): str(value) for name, value in address.items()})
            names[key] = alias.get("name", "")
    return names


def revise(running: Running, settings: Configuration) -> Revision:
    """Bring a guest's record up to date; a device that cannot be recorded costs only itself."""
    devices = running.guest.devices
    old, trouble = _existing(running.guest)
    items = [_standing(running, device, old, trouble) for device in devices]
    if any(item.entry.result == RECORDED for item in items):
        here = _here(running, settings)
        items = [
            _recorded(running, device, item, old, here, settings)
            if item.entry.result == RECORDED
            else item
            for device, item in zip(devices, items)
        ]
        items = _bounded(items)
    else:
        here = _Here("", "", "")
    return _revision(items, old, here)


def _existing(guest: Guest) -> tuple[Record, str]:
    """The guest's record; an empty one, with the reason, if there is none that can be read."""
    try:
        record = read_record(guest.metadata)
    except RecordError as error:
        return Record({}), f"with a record that cannot be used ({error})"
    return record or Record({}), "without a record of this device"


def _standing(running: Running, device: GuestDevice, old: Record, trouble: str) -> _Item:
    """What the old record has for a device, and what is to be done about it."""
    name, facts = running.name(device), old.devices.get(device.key, {})
    state, damage = old.states.get(device.key), old.damaged.get(device.key)
    if running.came_along(device):
        if state is None:
            why = f"with a damaged one ({damage})" if damage else trouble
            reason = (
                f"the guest came {why}; QEMU will send what the device presented where it was first"
                " started, and that cannot be told from this host"
            )
            return _Item(device.key, Entry(name, MISSING, reason))
        if running.reverted:
            facts = {**facts, "process": running.process.instance}
    elif (
        state is None
        or name in running.added
        or facts.get("process") != running.process.instance
        or facts.get("host") != (device.host or "")
    ):
        return _Item(device.key, Entry(name, RECORDED, ""))
    since = f"recorded on {facts.get('on') or old.host} at {facts.get('time') or old.time}"
    return _Item(device.key, Entry(name, KEPT, since), state, facts)


def _recorded(
    running: Running,
    device: GuestDevice,
    item: _Item,
    old: Record,
    here: _Here,
    settings: Configuration,
) -> _Item:
    """The device with this host's state, if it can be had."""
    name = running.name(device)
    state, offers = _state(running, device, settings)
    if isinstance(state, Missing):
        reason = "; ".join(part for part in (state.reason, state.remedy) if part)
        return _Item(item.key, Entry(name, MISSING, reason, device.host is not None))
    facts = _facts(running, device, state, here)
    if offers:
        facts["migration"] = offers
    before, standing = old.devices.get(item.key, {}), old.states.get(item.key)
    if standing is not None and _same_device(before, facts) and agree(standing, state):
        return _Item(item.key, Entry(name, KEPT, "recorded here already"), standing, before)
    return _Item(item.key, Entry(name, RECORDED, _told(state, facts)), state, facts)


def _state(running: Running, device: GuestDevice, settings: Configuration) -> tuple[State, str]:
    """What the device presents: by an operator's file, VFIO, or what else this host has of it; and
    what its driver offers for migration, empty if that is not known.

    VFIO is asked through the descriptor that QEMU has open: nothing is opened. Such a state also
    goes into the catalogue, for devices of its sort that are not in use.
    """
    state = state_of(device, "source", settings.states, catalogue=settings.catalogue)
    known = isinstance(state, ConfigState) and state.evidence == "file"
    if device.host is None or known:
        return state, ""
    try:
        seen = read_in_use(device.host, running.process.pid)
    except PreflightError:
        return state, ""
    # The record does not depend on the catalogue, which may not be writable.
    with contextlib.suppress(PreflightError, OSError):
        remember(device.host, seen.state, settings)
    return seen.state, seen.offers


def _told(state: ConfigState, facts: Mapping[str, str]) -> str:
    read = f"{state.evidence} ({state.origin})"
    told = [identity(state.config), f"{len(state.config)} bytes", read]
    if "driver" in facts:
        told.append(f"driver {facts['driver']} {facts.get('driver-version', '')}".rstrip())
    if "age" in facts:
        told.append(f"{facts['age']} s after QEMU started")
    return ", ".join(told)


def _same_device(before: Mapping[str, str], after: Mapping[str, str]) -> bool:
    return all(before.get(name) == after[name] for name in ("process", "host"))


def _facts(
    running: Running, device: GuestDevice, state: ConfigState, here: _Here
) -> dict[str, str]:
    """What is known of a device beside its state; see the README, "Record"."""
    facts = {
        "id": identity(state.config),
        "host": device.host or "",
        "on": here.host,
        "time": here.time,
        "process": running.process.instance,
    }
    if here.qemu:
        facts["qemu"] = here.qemu
    # Of one that was plugged in while nobody watched, it is not known when: at most so long ago.
    if running.name(device) not in running.added:
        facts["age"] = f"{running.process.age:.0f}"
    return {**facts, **read_traits(device.host or "").facts()}


def _here(running: Running, settings: Configuration) -> _Here:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return _Here(os.uname().nodename, now, _qemu_version(running, settings))


def _qemu_version(running: Running, settings: Configuration) -> str:
    """The version of the QEMU that runs; empty if its binary was replaced, or will not say."""
    guest = running.guest._replace(emulator=running.process.executable)
    if not guest.emulator:
        return ""
    facts = ask_emulator(guest, settings, time.monotonic() + settings.deadline)
    return "" if isinstance(facts, Finding) else facts.version


def _bounded(items: list[_Item]) -> list[_Item]:
    """``items`` without the newest that would make the record too large."""
    room = MAX_RECORD - sum(_size(item) for item in items if item.entry.result == KEPT)
    free = MAX_DEVICES - sum(item.entry.result == KEPT for item in items)
    bounded = []
    for item in items:
        if item.entry.result == RECORDED:
            room -= _size(item)
            free -= 1
            if room < 0 or free < 0:
                limits = f"{MAX_RECORD} bytes of XML or {MAX_DEVICES} devices"
                reason = f"the record would grow beyond {limits}"
                item = _Item(item.key, Entry(item.entry.device, MISSING, reason))
        bounded.append(item)
    return bounded


def _size(item: _Item) -> int:
    states = {item.key: item.state} if item.state else {}
    return len(etree.tostring(write_record(Record(states, devices={item.key: item.facts}))))


def _revision(items: list[_Item], old: Record, here: _Here) -> Revision:
    states = {item.key: item.state for item in items if item.state is not None}
    facts = {item.key: item.facts for item in items if item.state is not None}
    entries = [item.entry for item in items]
    strays = sorted({*old.states, *old.damaged} - {item.key for item in items})
    entries += [Entry(key[:80], DROPPED, "the guest has no such device") for key in strays]
    unchanged = states == dict(old.states) and all(
        dict(facts[key]) == dict(old.devices.get(key, {})) for key in facts
    )
    if unchanged and not strays:
        return Revision(None, entries)
    if here.host and not any(item.entry.result == KEPT for item in items):
        begun = {"qemu": here.qemu} if here.qemu else {}
        return Revision(Record(states, here.host, here.time, begun, facts), entries)
    return Revision(Record(states, old.host, old.time, old.facts, facts), entries)

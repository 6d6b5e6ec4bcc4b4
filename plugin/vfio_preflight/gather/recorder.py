"""Keeping a running guest's record correct: common to ``record`` and ``watch``, without libvirt.

QEMU sends what a device presented when it was realised on the guest's first host, and every QEMU
after that sends on what it was sent. So this host's bytes are the right ones in two cases only: the
guest was started here, and not to load another QEMU's state; or the device was plugged in here. The
arguments of the guest's QEMU show which at any time, with one exception: a device that was
unplugged and plugged in again at the same place while ``watch`` was not running looks as if it had
stayed, and keeps its entry. Its current bytes do not show it either: a running guest changes some
that QEMU compares (link, power, errors).

- A device that was migrated in or restored keeps its entry. Without one none is made: what this
  host's device presents is not what QEMU will send.
- A cold start begins a new record, whatever the guest's persistent XML carries: an entry made here
  is valid for the process it was made for alone.
- A device that is gone loses its entry.

Doing it a second time changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Mapping

from lxml import etree

from ..configuration import Configuration
from ..errors import PreflightError
from ..guest.addresses import pci_address
from ..guest.domain import Guest, GuestDevice
from ..guest.metadata import RecordError, read_record, write_record
from ..guest.record import MAX_DEVICES, Record, RecordEntry
from ..host.captures import Capture, captured
from ..host.processes import Process
from ..host.sightings import remember
from ..host.sources.request import Request
from ..host.states import state_of
from ..host.traits import read_traits
from ..host.vfio import read_in_use
from ..osutil.light import NamedTuple
from ..pci.space import identity
from ..pci.state import ConfigState, Missing, State
from ..qemu.model.equivalence import equivalent_to_qemu
from .here import ask_emulator
from .recordedbuild import build_of, with_build

# Bytes of XML. libvirt passes a domain's XML, metadata included, in strings of 4 MiB at most
# (REMOTE_STRING_MAX): beyond that no tool could read it any more, and no migration send it.
MAX_RECORD = 1 << 20

RECORDED, KEPT, MISSING, DROPPED = "recorded", "kept", "missing", "dropped"


class Entry(NamedTuple):
    """The result for one device (one of the four words above), and why.

    ``transient`` is whether the obstacle may go away by itself: another attempt is worthwhile.
    """

    device: str
    result: str
    reason: str
    transient: bool = False


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
        """The device's alias, or else its key."""
        return self.names.get(device.key) or device.alias or device.key

    def was_migrated_in(self, device: GuestDevice) -> bool:
        # "added" devices were plugged in on this host after the load, so QEMU read them here.
        """Whether the device's state was loaded, so that QEMU sends on what it was sent."""
        if not (self.process.incoming or self.reverted) or self.name(device) in self.added:
            return False
        begun_with = self.process.devices.get(self.name(device))
        if begun_with is None:
            # It was not on QEMU's command line: plugged in later. A device of <qemu:commandline>
            # without an id can be neither unplugged nor plugged in.
            return device.kind == "commandline"
        # Equal to what QEMU was started with: not replaced since. Empty: the arguments do not say.
        return begun_with in ("", device.host)


class Revision(NamedTuple):
    """The record as it should be, None if the guest has it already; and an entry a device."""

    record: Record | None
    entries: list[Entry]


class _Item(NamedTuple):
    key: str
    entry: Entry
    recorded: RecordEntry | None = None


class _Seen(NamedTuple):
    """A device's state; what its driver offers for migration, empty if that is not known; and
    QEMU's age when the hook read it (seconds), None if it was read now."""

    state: State
    offers: str = ""
    age: int | None = None
    length: str = ""


class _Here(NamedTuple):
    host: str
    time: str
    qemu: str


def live_aliases(root: etree._Element) -> dict[str, str]:
    """The aliases that libvirt gave to host devices in this run, by guest address."""
    names = {}
    # Interfaces of any type: only those that are host devices are looked up by their key later.
    for element in (*root.iterfind("devices/interface"), *root.iterfind("devices/hostdev")):
        alias, address = element.find("alias"), element.find("address[@type='pci']")
        if alias is not None and address is not None:
            key = pci_address({str(name): str(value) for name, value in address.items()})
            names[key] = alias.get("name", "")
    return names


def revise(running: Running, settings: Configuration) -> Revision:
    """Bring a guest's record up to date; a device that cannot be recorded costs only itself."""
    devices = running.guest.devices
    old, problem = _existing(running.guest)
    items = [_standing(running, device, old, problem) for device in devices]
    # The emulator is asked for its version only if something is to be recorded.
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
    revision = _revision(items, old, here)
    build = build_of(running.guest, running.process, old.build, settings, bool(running.added))
    return revision._replace(record=with_build(revision.record, old, build))


def _existing(guest: Guest) -> tuple[Record, str]:
    """The guest's record; an empty one, with the reason, if there is none that can be read."""
    try:
        record = read_record(guest.metadata)
    except RecordError as error:
        return Record({}), f"with a record that cannot be used ({error})"
    return record or Record({}), "without a record of this device"


def _standing(running: Running, device: GuestDevice, old: Record, problem: str) -> _Item:
    """What the old record has for a device, and what is to be done about it."""
    name = running.name(device)
    entry = old.entries.get(device.key)
    if running.was_migrated_in(device):
        if entry is None or entry.state is None:
            # The source's bytes cannot be found out here: QEMU holds them, the device may differ.
            why = f"with a damaged one ({entry.damage})" if entry else problem
            reason = (
                f"the guest arrived {why}; QEMU will send what the device presented where the guest"
                " was first started, which cannot be found out on this host"
            )
            return _Item(device.key, Entry(name, MISSING, reason))
        if running.reverted:
            # After a revert QEMU is a new process that loaded the old state: the entry stays valid.
            entry = entry._replace(process=running.process.instance)
    elif (
        entry is None
        or entry.state is None
        or name in running.added
        # Another process: the guest was started anew, so the device was read anew.
        or entry.process != running.process.instance
        # Another host device at the same guest address.
        or entry.host != (device.host or "")
    ):
        return _Item(device.key, Entry(name, RECORDED, ""))
    since = f"recorded on {entry.on or old.host} at {entry.time or old.time}"
    return _Item(device.key, Entry(name, KEPT, since), entry)


def _recorded(
    running: Running,
    device: GuestDevice,
    item: _Item,
    old: Record,
    here: _Here,
    settings: Configuration,
) -> _Item:
    """The device with this host's state, if that can be read."""
    name = running.name(device)
    state, offers, age, length = _state(running, device, settings)
    if isinstance(state, Missing):
        reason = "; ".join(part for part in (state.reason, state.remedy) if part)
        # With a host device, a failure may pass (a driver being reloaded); without one it cannot.
        return _Item(item.key, Entry(name, MISSING, reason, device.host is not None))
    new = _entry(running, device, state, here)
    new = new._replace(migration=offers, stop_copy_length=length)
    if age is not None:
        new = new._replace(age=age)
    before = old.entries.get(item.key)
    # The older bytes are nearer to what QEMU read at its start.
    if before is not None and _same_device(before, new):
        return _Item(item.key, Entry(name, KEPT, "recorded here already"), before)
    return _Item(item.key, Entry(name, RECORDED, _summary(state, new)), new)


def _state(running: Running, device: GuestDevice, settings: Configuration) -> _Seen:
    """What the device presents: by an operator's file, by VFIO as the hook read it when QEMU
    started or as it is now, or by whatever else this host knows.

    VFIO is asked through the descriptor that QEMU has open: nothing is opened. Such a state also
    goes into the catalogue, for devices of its kind that are not in use.
    """
    request = Request("", states=settings.states, catalogue=settings.catalogue)
    state = state_of(device, "source", request)
    # An operator's file replaces everything, also on the source.
    known = isinstance(state, ConfigState) and state.evidence == "file"
    if device.host is None or known:
        return _Seen(state)
    start = _captured(running, device, settings)
    try:
        seen = start or read_in_use(device.host, running.process.pid)
    # Not certain which descriptor, or no privilege: sysfs or the catalogue must do.
    except PreflightError:
        return _Seen(state)
    # The record does not depend on the catalogue, which may not be writable.
    with contextlib.suppress(PreflightError, OSError):
        remember(device.host, seen.state, settings.catalogue, equivalent_to_qemu)
    length = "" if seen.data_size is None else str(seen.data_size)
    return _Seen(seen.state, seen.offers, start.age if start else None, length)


def _captured(running: Running, device: GuestDevice, settings: Configuration) -> Capture | None:
    """What the hook read of the device when QEMU started; nothing of one plugged in since."""
    if running.name(device) in running.added:
        return None
    process = running.process
    return captured(settings.runtime, running.guest.name, process.instance).get(device.host or "")


def _summary(state: ConfigState, entry: RecordEntry) -> str:
    """What was recorded, for the log."""
    read = f"{state.evidence} ({state.origin})"
    parts = [identity(state.config), f"{len(state.config)} bytes", read]
    traits = entry.traits
    if traits.driver:
        parts.append(f"driver {traits.driver} {traits.driver_version}".rstrip())
    if entry.age is not None:
        parts.append(f"{entry.age} s after QEMU started")
    return ", ".join(parts)


def _same_device(before: RecordEntry, after: RecordEntry) -> bool:
    """Whether both are of one run of one device, and equal to QEMU.

    Then the older one is kept: what the guest changed since is not what QEMU sends.
    """
    if before.process != after.process or before.host != after.host:
        return False
    known, now = before.state, after.state
    return known is not None and now is not None and equivalent_to_qemu(known, now)


def _entry(running: Running, device: GuestDevice, state: ConfigState, here: _Here) -> RecordEntry:
    """A new entry. Of a device that was plugged in just now, QEMU's age says nothing."""
    plugged_in = running.name(device) in running.added
    return RecordEntry(
        state,
        host=device.host or "",
        on=here.host,
        time=here.time,
        process=running.process.instance,
        qemu=here.qemu,
        # The device was realised just now, whatever the age of the process.
        age=None if plugged_in else round(running.process.age),
        traits=read_traits(device.host or ""),
    )


def _here(running: Running, settings: Configuration) -> _Here:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return _Here(os.uname().nodename, now, _qemu_version(running, settings))


def _qemu_version(running: Running, settings: Configuration) -> str:
    """The version of the running QEMU; empty if its binary was replaced, or does not answer."""
    # /proc/PID/exe ended in "(deleted)": the file on disk is another version.
    if not running.process.executable:
        return ""
    end = time.monotonic() + settings.deadline
    facts = ask_emulator(running.process.executable, settings, end)
    return "" if isinstance(facts, Missing) else facts.version


def _bounded(items: list[_Item]) -> list[_Item]:
    """``items`` without the newest that would make the record too large."""
    # Entries that are kept have priority: their bytes may exist nowhere else.
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
    entries = {item.key: item.recorded} if item.recorded else {}
    return len(etree.tostring(write_record(Record(entries))))


def _revision(items: list[_Item], old: Record, here: _Here) -> Revision:
    entries = {item.key: item.recorded for item in items if item.recorded is not None}
    results = [item.entry for item in items]
    strays = sorted(old.entries.keys() - {item.key for item in items})
    results += [Entry(key[:80], DROPPED, "the guest has no such device") for key in strays]
    readable = {key: entry for key, entry in old.entries.items() if entry.state is not None}
    # No write without a change: setMetadata sends an event and writes the status file.
    if entries == readable and not strays:
        return Revision(None, results)
    # All entries are from this run, so host and time of the record are set anew.
    if here.host and not any(item.entry.result == KEPT for item in items):
        return Revision(Record(entries, here.host, here.time, here.qemu), results)
    return Revision(Record(entries, old.host, old.time, old.qemu, old.other), results)

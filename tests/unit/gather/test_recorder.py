"""What the recorder keeps, records and drops, for every way a guest can have come about."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from lab.configs import make_config, patched
from unit.makers import HOST, KEY, make_device, make_guest, make_state
from vfio_preflight.configuration import Configuration
from vfio_preflight.gather import recorder
from vfio_preflight.gather.recorder import Running, live_aliases, revise
from vfio_preflight.guest.domain import Guest, GuestDevice, parse_domain, read_guest
from vfio_preflight.guest.metadata import set_record, write_record
from vfio_preflight.guest.record import Record, RecordEntry
from vfio_preflight.host.captures import Capture, keep
from vfio_preflight.host.processes import Process
from vfio_preflight.host.vfio_api import VfioDevice
from vfio_preflight.pci.formats import to_json
from vfio_preflight.pci.state import ConfigState

OTHER_KEY, OTHER_HOST = "0000:06:00.0", "0000:06:00.5"
OLD = make_state(patched(make_config(), 0x63, 0xAA))
HERE = make_config()
SINCE = make_state(patched(make_config(), 0x63, 0xBB))._replace(evidence="vfio")


@pytest.fixture
def settings(tmp_path: Path) -> Configuration:
    for host in (HOST, OTHER_HOST):
        (tmp_path / f"{host}.json").write_text(to_json(make_state(HERE)))
    return Configuration(states=str(tmp_path), cache=str(tmp_path / "cache"))


def make_process(*, incoming: bool = False, instance: str = "boot:77:1") -> Process:
    """A QEMU that was started with the usual device."""
    return Process(77, instance, 2.0, "", incoming, {"hostdev0": HOST})


def with_record(guest: Guest, record: Record) -> Guest:
    root = etree.fromstring("<domain/>")
    set_record(root, write_record(record))
    (metadata,) = root
    return guest._replace(metadata=metadata[0])


def make_record(process: str = "boot:77:1", host: str = HOST, key: str = KEY) -> Record:
    entry = RecordEntry(OLD, host=host, process=process, on="first", time="then")
    return Record({key: entry}, "first", "then", "9.1.0")


def second() -> GuestDevice:
    return make_device(OTHER_KEY, host=OTHER_HOST, alias="hostdev1")


def results(revision: recorder.Revision) -> dict[str, str]:
    return {entry.device: entry.result for entry in revision.entries}


def state(revision: recorder.Revision, key: str = KEY) -> ConfigState:
    assert revision.record is not None
    return revision.record.states[key]


def test_cold_start_without_record(settings: Configuration) -> None:
    revision = revise(Running(make_guest(), make_process(), {}), settings)
    assert results(revision) == {"hostdev0": "recorded"}
    assert state(revision).config == HERE
    assert revision.record is not None
    entry = revision.record.entries[KEY]
    assert (entry.host, entry.process, entry.age) == (HOST, "boot:77:1", 2)


def test_second_time_changes_nothing(settings: Configuration) -> None:
    first = revise(Running(make_guest(), make_process(), {}), settings).record
    assert first is not None
    guest = with_record(make_guest(), first)
    again = revise(Running(guest, make_process(), {}), settings)
    assert again.record is None
    assert results(again) == {"hostdev0": "kept"}


def test_driver_reload_changes_nothing(settings: Configuration) -> None:
    guest = with_record(make_guest(), make_record())
    assert revise(Running(guest, make_process(), {}), settings).record is None


def test_cold_start_with_the_record_of_an_earlier_run(settings: Configuration) -> None:
    guest = with_record(make_guest(), make_record("boot:66:0"))
    revision = revise(Running(guest, make_process(), {}), settings)
    assert results(revision) == {"hostdev0": "recorded"}
    assert state(revision).config == HERE
    assert revision.record is not None
    assert revision.record.host != "first"


def test_record_from_elsewhere_is_kept(settings: Configuration) -> None:
    guest = with_record(make_guest(), make_record("elsewhere", "0000:99:00.0"))
    revision = revise(Running(guest, make_process(incoming=True), {}), settings)
    assert revision.record is None
    assert revision.entries[0].reason == "recorded on first at then"


def test_guest_from_elsewhere_without_record(settings: Configuration) -> None:
    revision = revise(Running(make_guest(), make_process(incoming=True), {}), settings)
    assert revision.record is None
    assert results(revision) == {"hostdev0": "missing"}
    assert "arrived without a record" in revision.entries[0].reason
    assert not revision.entries[0].transient


def test_guest_from_elsewhere_with_a_damaged_record(settings: Configuration) -> None:
    guest = with_record(make_guest(), make_record("elsewhere"))
    assert guest.metadata is not None
    next(guest.metadata.iter("device")).set("sha256", "00")
    revision = revise(Running(guest, make_process(incoming=True), {}), settings)
    assert results(revision) == {"hostdev0": "missing"}
    assert "SHA-256" in revision.entries[0].reason
    next(guest.metadata.iter("record")).set("schema", "99")
    revision = revise(Running(guest, make_process(incoming=True), {}), settings)
    assert "schema" in revision.entries[0].reason


def test_device_plugged_into_a_guest_from_elsewhere(settings: Configuration) -> None:
    guest = with_record(make_guest(make_device(), second()), make_record("elsewhere"))
    revision = revise(Running(guest, make_process(incoming=True), {}), settings)
    assert results(revision) == {"hostdev0": "kept", "hostdev1": "recorded"}
    assert state(revision) == OLD
    assert state(revision, OTHER_KEY).config == HERE
    assert revision.record is not None
    assert revision.record.host == "first"
    assert revision.record.qemu == "9.1.0"
    assert revision.record.entries[OTHER_KEY].age == 2
    running = Running(guest, make_process(incoming=True), {}, added=["hostdev1"])
    seen = revise(running, settings).record
    assert seen is not None
    assert seen.entries[OTHER_KEY].age is None


def test_device_replaced_by_another_unseen(settings: Configuration) -> None:
    """Unplugged and another plugged in at the same place while nobody watched."""
    for incoming in (False, True):
        guest = make_guest(make_device(host=OTHER_HOST))
        guest = with_record(guest, make_record())
        revision = revise(Running(guest, make_process(incoming=incoming), {}), settings)
        assert results(revision) == {"hostdev0": "recorded"}
        assert state(revision).config == HERE


def test_device_replaced_by_itself_as_events_tell(settings: Configuration) -> None:
    guest = with_record(make_guest(), make_record())
    for incoming in (False, True):
        process = make_process(incoming=incoming)
        revision = revise(Running(guest, process, {}, added=["hostdev0"]), settings)
        assert results(revision) == {"hostdev0": "recorded"}
        assert state(revision).config == HERE


def test_event_that_comes_late_records_nothing_twice(settings: Configuration) -> None:
    first = revise(Running(make_guest(), make_process(), {}), settings).record
    assert first is not None
    guest = with_record(make_guest(), first)
    revision = revise(Running(guest, make_process(), {}, added=["hostdev0"]), settings)
    assert revision.record is None
    assert results(revision) == {"hostdev0": "kept"}


def test_device_that_is_gone(settings: Configuration) -> None:
    guest = with_record(make_guest(), make_record(key=OTHER_KEY))
    revision = revise(Running(guest, make_process(), {}), settings)
    assert results(revision) == {"hostdev0": "recorded", OTHER_KEY: "dropped"}
    assert revision.record is not None
    assert set(revision.record.states) == {KEY}


def test_state_that_cannot_be_had(settings: Configuration) -> None:
    """Of two devices one has no state here, and its old entry is of an earlier run."""
    lost = make_device(host="0000:99:00.0")
    record = make_record("boot:66:0", "0000:99:00.0")
    guest = with_record(make_guest(lost, second()), record)
    revision = revise(Running(guest, make_process(), {}), settings)
    assert results(revision) == {"hostdev0": "missing", "hostdev1": "recorded"}
    assert [entry.transient for entry in revision.entries] == [True, False]
    assert revision.record is not None
    assert set(revision.record.states) == {OTHER_KEY}


def test_vfio_is_asked_through_qemus_descriptor(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not where an operator's file says what the device presents."""
    asked = []

    def read_in_use(host: str, pid: int) -> VfioDevice:
        asked.append((host, pid))
        return VfioDevice(OLD._replace(evidence="vfio"), ("stop-copy", "p2p"), 8224)

    monkeypatch.setattr(recorder, "read_in_use", read_in_use)
    unknown = make_device(host="0000:99:00.0")
    revision = revise(Running(make_guest(unknown, second()), make_process(), {}), settings)
    assert (state(revision).config, state(revision).evidence) == (OLD.config, "vfio")
    assert (state(revision, OTHER_KEY).config, state(revision, OTHER_KEY).evidence) == (
        HERE,
        "file",
    )
    assert asked == [("0000:99:00.0", 77)]
    assert revision.record is not None
    by_key = revision.record.entries
    assert (by_key[KEY].migration, by_key[KEY].stop_copy_length) == ("stop-copy p2p", "8224")
    assert (by_key[OTHER_KEY].migration, by_key[OTHER_KEY].stop_copy_length) == ("", "")


def test_what_the_hook_read_at_the_start_is_recorded(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not what the device presents by now; and not of another run of the guest."""
    monkeypatch.setattr(recorder, "read_in_use", lambda *_: VfioDevice(SINCE, ("stop-copy",)))
    settings = settings._replace(runtime=str(tmp_path / "run"), catalogue=str(tmp_path / "c"))
    device = make_device(host="0000:99:00.0")
    start = Capture(OLD._replace(evidence="vfio"), "stop-copy p2p", 1, 8224)
    for instance, found in (("boot:66:0", SINCE.config), ("boot:77:1", OLD.config)):
        keep(settings.runtime, "g1", instance, {"0000:99:00.0": start})
        revision = revise(Running(make_guest(device), make_process(), {}), settings)
        assert state(revision).config == found
    assert revision.record is not None
    entry = revision.record.entries[KEY]
    assert (entry.age, entry.migration, entry.stop_copy_length) == (1, "stop-copy p2p", "8224")


def test_snapshot_keeps_and_adopts(settings: Configuration) -> None:
    """A process of its own without -incoming: later only the record tells that it was kept."""
    guest = with_record(make_guest(), make_record("boot:66:0"))
    revision = revise(Running(guest, make_process(), {}, reverted=True), settings)
    assert results(revision) == {"hostdev0": "kept"}
    assert state(revision) == OLD
    assert revision.record is not None
    later = with_record(make_guest(), revision.record)
    assert revise(Running(later, make_process(), {}), settings).record is None


def test_device_on_the_command_line_without_id(settings: Configuration) -> None:
    device = make_device("commandline:0", "commandline", alias=None)
    guest = make_guest(device)
    come = revise(Running(guest, make_process(incoming=True), {}), settings)
    assert results(come) == {"commandline:0": "missing"}
    started = revise(Running(guest, make_process(), {}), settings)
    assert results(started) == {"commandline:0": "recorded"}


def test_record_that_would_be_too_large(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there stays; what is new and does not fit is left out, and said."""
    monkeypatch.setattr(recorder, "MAX_RECORD", 2000)
    devices = [make_device(f"0000:{bus:02x}:00.0", alias=f"d{bus}") for bus in range(5)]
    revision = revise(Running(make_guest(*devices), make_process(), {}), settings)
    assert revision.record is not None
    assert 0 < len(revision.record.states) < 5
    assert len(etree.tostring(write_record(revision.record))) <= 2000
    left_out = [entry for entry in revision.entries if entry.result == "missing"]
    assert len(left_out) == 5 - len(revision.record.states)
    assert "2000 bytes" in left_out[0].reason


def test_record_of_too_many_devices(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "MAX_DEVICES", 3)
    devices = [make_device(f"0000:{bus:02x}:00.0", alias=f"d{bus}") for bus in range(5)]
    revision = revise(Running(make_guest(*devices), make_process(), {}), settings)
    assert [entry.result for entry in revision.entries] == ["recorded"] * 3 + ["missing"] * 2
    assert revision.record is not None and len(revision.record.states) == 3


def test_record_of_too_many_devices_keeps_what_it_has(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries that are kept count, and have the room before what is new."""
    monkeypatch.setattr(recorder, "MAX_DEVICES", 3)
    new, next_new, *old = (make_device(f"0000:0{bus}:00.0", alias=f"d{bus}") for bus in range(4))
    first = revise(Running(make_guest(*old), make_process(), {}), settings).record
    assert first is not None
    guest = with_record(make_guest(new, next_new, *old), first)
    revision = revise(Running(guest, make_process(), {}), settings)
    assert [entry.result for entry in revision.entries] == ["recorded", "missing", "kept", "kept"]


def test_aliases_of_a_running_guest() -> None:
    """After an unplug, numbers are not what they would be at the next start."""
    xml = """
    <domain type='kvm'><name>g</name><os><type machine='pc-q35-9.0'>hvm</type></os><devices>
      <hostdev mode='subsystem' type='pci'><source><address domain='0' bus='6' slot='0'/></source>
        <alias name='hostdev1'/><address type='pci' bus='0x05' slot='0'/></hostdev>
    </devices></domain>"""
    root = parse_domain(xml.encode())
    (device,) = read_guest(root).devices
    assert device.alias == "hostdev0"
    assert live_aliases(root) == {KEY: "hostdev1"}

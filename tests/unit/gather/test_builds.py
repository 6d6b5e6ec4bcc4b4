"""What the record gets of a guest's QEMU, and what is made of it on another host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lxml import etree

from lab.configs import make_config
from unit.builds import MACHINE, PROPERTIES, changed, make_types
from unit.makers import EMULATOR, HOST, KEY, make_emulator, make_guest, make_state
from vfio_preflight.configuration import Configuration
from vfio_preflight.gather import builds, here, hostfacts, recordedbuild
from vfio_preflight.gather.builds import builds_here, builds_of
from vfio_preflight.gather.here import facts_here
from vfio_preflight.gather.hostfacts import HostEmulator, HostFacts
from vfio_preflight.gather.hostjson import FactsError, from_json, to_json
from vfio_preflight.gather.recordedbuild import build_of, sent_of
from vfio_preflight.gather.recorder import Running, revise
from vfio_preflight.gather.there import facts_there
from vfio_preflight.guest.arguments import read_arguments
from vfio_preflight.guest.build import RecordedBuild
from vfio_preflight.guest.domain import Guest
from vfio_preflight.guest.metadata import read_record, set_record, write_record
from vfio_preflight.guest.record import Record, RecordEntry, parse_record
from vfio_preflight.host.inventory import Inventory
from vfio_preflight.host.processes import Process
from vfio_preflight.judge.facts import Builds
from vfio_preflight.pci.formats import to_json as state_json
from vfio_preflight.pci.state import Missing
from vfio_preflight.qemu.emulator.facts import EmulatorError
from vfio_preflight.qemu.emulator.sent import ENCODING
from vfio_preflight.qemu.emulator.types import TypeFacts

PROCESS = Process(77, "boot:77:1", 2.0, EMULATOR, False, {"hostdev0": HOST})
ARGUMENTS = [
    *("-machine", MACHINE, "-accel", "kvm", "-cpu", "host"),
    *("-global", "virtio-device.host_uso=off"),
    *("-device", '{"driver":"virtio-net-pci","mac":"52:54:00:00:00:01","id":"net0"}'),
    *("-device", f"vfio-pci,host={HOST},id=hostdev0"),
]
TYPES = make_types(properties={**PROPERTIES, "mch": {"extended-tseg-mbytes": ("uint16", 16)}})


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    (tmp_path / f"{HOST}.json").write_text(state_json(make_state(make_config())))
    for module in (builds, recordedbuild):
        monkeypatch.setattr(module, "type_facts", lambda *_args, **_options: TYPES)
    monkeypatch.setattr(recordedbuild, "arguments_of", lambda _process: ARGUMENTS)
    monkeypatch.setattr(here, "emulator_facts", lambda *_args, **_options: make_emulator())
    return Configuration(states=str(tmp_path), cache=str(tmp_path / "cache"))


def with_metadata(guest: Guest, record: Record, moved: str = "") -> Guest:
    root = etree.fromstring("<domain/>")
    set_record(root, write_record(record))
    ours = root[0][0]
    if moved:
        etree.SubElement(ours, "report", time=moved)
    return guest._replace(metadata=ours)


def recorded(settings: Configuration, process: Process = PROCESS) -> RecordedBuild:
    build = build_of(make_guest(), process, None, settings)
    assert build is not None
    return build


def make_record(build: RecordedBuild | None, process: str = PROCESS.instance) -> Record:
    entry = RecordEntry(make_state(), host=HOST, process=process, on="a", time="then")
    return Record({KEY: entry}, "a", "then", "10.0.2", build=build)


# --- on the source --------------------------------------------------------------------------------


def test_what_is_recorded(settings: Configuration) -> None:
    build = recorded(settings)
    assert (build.version, build.machine, build.on) == ("10.0.2", MACHINE, os.uname().nodename)
    assert (build.process, build.encoding) == (PROCESS.instance, ENCODING)
    sent = sent_of(TYPES, make_guest(), read_arguments(ARGUMENTS))
    # Of the board, of the command line, and of what is plugged in.
    assert set(sent.types) == {"mch", "virtio-net-pci", "vfio-pci"}
    # By -global, on what the device is made of.
    assert "host_uso" not in sent.types["virtio-net-pci"]
    assert sent.given["virtio-net-pci"] == ("host_uso", "mac")


def test_device_that_was_plugged_in(settings: Configuration) -> None:
    guest = make_guest()
    sent = sent_of(TYPES, guest, read_arguments(ARGUMENTS[:-2]))
    assert set(sent.types["vfio-pci"]) == {"x-igd-opregion", "x-no-mmap"}


def test_kept_for_one_process(settings: Configuration, monkeypatch: pytest.MonkeyPatch) -> None:
    known = recorded(settings)._replace(time="earlier")
    guest = make_guest()
    assert build_of(guest, PROCESS, known, settings) is known
    assert build_of(guest, PROCESS, known, settings, anew=True) != known
    another = PROCESS._replace(instance="boot:78:1")
    assert recorded(settings, another).process == "boot:78:1"


@pytest.mark.parametrize(
    "process", [PROCESS._replace(executable=""), PROCESS._replace(instance="other", executable="")]
)
def test_binary_that_was_replaced(settings: Configuration, process: Process) -> None:
    assert build_of(make_guest(), process, None, settings) is None


def test_build_that_says_too_little(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    def say(facts: TypeFacts) -> RecordedBuild | None:
        monkeypatch.setattr(recordedbuild, "type_facts", lambda *_args, **_options: facts)
        return build_of(make_guest(), PROCESS, None, settings)

    assert say(TYPES._replace(compat_props_known=False)) is None
    assert say(TYPES._replace(machines={})) is None

    def refuse(*_args: object, **_options: object) -> TypeFacts:
        raise EmulatorError("it hung")

    monkeypatch.setattr(recordedbuild, "type_facts", refuse)
    assert build_of(make_guest(), PROCESS, None, settings) is None


def test_recorder_puts_it_into_the_record_once(settings: Configuration) -> None:
    first = revise(Running(make_guest(), PROCESS, {}), settings).record
    assert first is not None and first.build is not None
    again = revise(Running(with_metadata(make_guest(), first), PROCESS, {}), settings)
    assert again.record is None


def test_recorder_renews_it_where_the_guest_came_in(settings: Configuration) -> None:
    """The devices' entries are the first host's; the build is this one's."""
    old = recorded(settings)._replace(process="elsewhere", on="a", version="9.2.0")
    guest = with_metadata(make_guest(), make_record(old, "elsewhere"))
    record = revise(Running(guest, PROCESS._replace(incoming=True), {}), settings).record
    assert record is not None and record.build is not None
    assert (record.build.version, record.build.process) == ("10.0.2", PROCESS.instance)
    assert record.entries[KEY].process == "elsewhere"


def test_recorder_drops_what_is_another_builds(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = recorded(settings)._replace(process="elsewhere")
    guest = with_metadata(make_guest(), make_record(old, "elsewhere"))
    process = PROCESS._replace(incoming=True, executable="")
    record = revise(Running(guest, process, {}), settings).record
    assert record is not None and record.build is None


def test_guest_that_was_not_recorded_gets_no_record_of_it_alone(settings: Configuration) -> None:
    process = PROCESS._replace(incoming=True)
    assert revise(Running(make_guest(), process, {}), settings).record is None


# --- in the record --------------------------------------------------------------------------------


def test_written_and_read(settings: Configuration) -> None:
    build = recorded(settings)
    record = parse_record(write_record(make_record(build)))
    assert record.build == build
    assert len(etree.tostring(write_record(Record({}, build=build)))) < 2048
    assert parse_record(write_record(make_record(None))).build is None


def test_absurd_size_is_not_read(settings: Configuration) -> None:
    build = recorded(settings)._replace(text="A" * (1 << 17))
    assert parse_record(write_record(make_record(build))).build is None


# --- on the destination ---------------------------------------------------------------------------


def test_compared(settings: Configuration) -> None:
    guest = with_metadata(make_guest(), make_record(recorded(settings)))
    found = facts_here(guest, settings, float("inf")).builds
    assert isinstance(found, Builds)
    assert found.origin.startswith(f"recorded on {os.uname().nodename} at ")
    assert found.sent == sent_of(TYPES, make_guest(), read_arguments(ARGUMENTS))


def test_without_a_recorded_build_nobody_is_asked(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_options: object) -> TypeFacts:
        raise AssertionError("asked")

    monkeypatch.setattr(builds, "type_facts", refuse)
    guest = with_metadata(make_guest(), make_record(None))
    assert facts_here(guest, settings, float("inf")).builds is None


@pytest.mark.parametrize(
    ("moved", "stale"), [("2026-11-28T12:00:01Z", True), ("2026-11-28T11:00:00Z", False)]
)
def test_build_of_before_the_last_move(settings: Configuration, moved: str, stale: bool) -> None:
    """A host in between has another build; what it made of the guest was not recorded."""
    build = recorded(settings)._replace(time="2026-11-28T12:00:00Z")
    guest = with_metadata(make_guest(), make_record(build), moved)
    found = builds_of(build, guest, TYPES)
    assert isinstance(found, Missing) is stale
    if isinstance(found, Missing):
        assert "was moved or restored since" in found.reason
        assert found.remedy == "on the source, run: vfio-preflight record g1"


@pytest.mark.parametrize("changes", [{"encoding": "later"}, {"text": "eJxj"}])
def test_what_cannot_be_read(settings: Configuration, changes: dict[str, str]) -> None:
    build = recorded(settings)._replace(**changes)
    found = builds_here(build, make_guest(), settings, float("inf"))
    assert isinstance(found, Missing)


def test_destination_that_does_not_answer(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = recorded(settings)

    def refuse(*_args: object, deadline: float, **_options: object) -> TypeFacts:
        # Nothing is begun that the time does not suffice for.
        assert deadline == 0.0
        raise EmulatorError("it was not asked")

    monkeypatch.setattr(builds, "type_facts", refuse)
    found = builds_here(build, make_guest(), settings, 0.5)
    assert isinstance(found, Missing) and "it was not asked" in found.reason


# --- by another host's facts ----------------------------------------------------------------------


def facts_of(types: TypeFacts | None) -> HostFacts:
    return HostFacts(
        *("b", "1.0", "2026-11-28T12:00:00Z", "6.12", "x86_64", "11.3.0"),
        {EMULATOR: HostEmulator(make_emulator(), "00", types)},
        Inventory({}),
        {},
        Configuration(),
    )


def test_facts_travel(settings: Configuration) -> None:
    there = make_types(properties=changed("vfio-pci", x_no_mmap=True))
    facts = from_json(to_json(facts_of(there)), "b.json")
    assert facts.emulators[EMULATOR].types == there
    guest = with_metadata(make_guest(), make_record(recorded(settings)))
    found = facts_there(guest, facts, settings).builds
    assert isinstance(found, Builds) and found.there == there


def test_facts_of_an_earlier_release(settings: Configuration) -> None:
    facts = from_json(to_json(facts_of(None)), "b.json")
    assert facts.emulators[EMULATOR].types is None
    guest = with_metadata(make_guest(), make_record(recorded(settings)))
    assert isinstance(facts_there(guest, facts, settings).builds, Missing)


@pytest.mark.parametrize("text", ["", "eJxj", "AAAA", 7])
def test_facts_that_are_damaged(text: object) -> None:
    import json

    value = json.loads(to_json(facts_of(make_types())))
    value["emulators"][0]["device-types"] = text
    with pytest.raises(FactsError):
        from_json(json.dumps(value), "b.json")


def test_host_whose_emulator_does_not_tell_its_types(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_options: object) -> TypeFacts:
        raise EmulatorError("it hung")

    monkeypatch.setattr(hostfacts, "type_facts", refuse)
    monkeypatch.setattr(hostfacts, "_usual", lambda: [EMULATOR])
    found = hostfacts.host_facts(settings, float("inf"))
    assert found.emulators[EMULATOR].types is None


def test_record_is_read_as_it_was(settings: Configuration) -> None:
    record = make_record(recorded(settings))
    assert read_record(with_metadata(make_guest(), record).metadata) == record

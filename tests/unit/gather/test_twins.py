"""A running guest's arguments, and what is known of a twin when the guest is about to come."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from unit.makers import HOST, KEY, make_device, make_guest, make_state
from vfio_preflight.configuration import Configuration
from vfio_preflight.gather.knowntwins import first_process, known_here
from vfio_preflight.gather.twins import changed_since, presented
from vfio_preflight.guest.metadata import find_ours
from vfio_preflight.guest.record import Record, RecordEntry
from vfio_preflight.host import twins
from vfio_preflight.qemu.twin.told import ACCEPTED, Told

ARGV = [
    *("q", "-S", "-device", '{"driver":"e1000e","id":"net0"}'),
    *("-device", "virtio-blk-pci,id=virtio-disk0", "-device", "ich9-intel-hda,id=sound0"),
    *("-device", "pvpanic"),
]


def live(*aliases: str) -> etree._Element:
    devices = "".join(f"<x><alias name='{alias}'/></x>" for alias in aliases)
    return etree.fromstring(f"<domain><devices>{devices}</devices></domain>")


def test_guest_as_it_was_started() -> None:
    assert changed_since(ARGV, live("net0", "virtio-disk0", "ide", "pcie.0")) == (ARGV, [])


def test_what_was_unplugged_is_left_out() -> None:
    argv, notes = changed_since(ARGV, live("virtio-disk0"))
    assert argv == [*ARGV[:2], *ARGV[4:]]
    assert notes == []


def test_what_was_plugged_in_is_named() -> None:
    argv, notes = changed_since(ARGV, live("net0", "net1", "virtio-disk0", "ua-mine", "ide"))
    assert argv == ARGV
    assert notes == [f"{name}: plugged in since the guest started" for name in ("net1", "ua-mine")]


def test_states_by_the_devices_names_on_the_host() -> None:
    state = make_state()
    guest = make_guest(make_device(), make_device(key="0000:06:00.0")._replace(host=None))
    assert presented(guest, Record({KEY: RecordEntry(state)})) == {HOST: state}
    assert presented(guest, Record({})) == {}


@pytest.mark.parametrize(
    ("processes", "expected"), [(["a"], "a"), (["a", "a"], "a"), (["a", "b"], ""), ([], "")]
)
def test_process_that_the_record_was_made_of(processes: list[str], expected: str) -> None:
    entries = {str(n): RecordEntry(None, process=p) for n, p in enumerate(processes)}
    assert first_process(Record(entries)) == expected


XML = (
    "<domain xmlns:p='urn:vfio-preflight:1'><metadata><p:preflight>{}</p:preflight></metadata>"
    "<os/></domain>"
)
TOLD = Told(ACCEPTED, "", "", "QEMU 1", "QEMU 2")
RECORD = Record({KEY: RecordEntry(make_state(), process="boot:1:2")})


def asked(tmp_path: Path, ours: str = "") -> Told | None:
    root = etree.fromstring(XML.format(ours))
    guest = make_guest()._replace(metadata=find_ours(root))
    return known_here(guest, RECORD, Configuration(cache=str(tmp_path)))


def test_hook_finds_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "known", lambda *_arguments: TOLD)
    assert asked(tmp_path) is None  # without the directory nothing is looked up
    (tmp_path / twins.DIRECTORY).mkdir()
    assert asked(tmp_path) == TOLD


def test_hook_does_not_take_it_for_a_guest_that_went_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report is the hook's of a host that the guest came to: another QEMU sends it now."""
    monkeypatch.setattr(twins, "known", lambda *_arguments: TOLD)
    (tmp_path / twins.DIRECTORY).mkdir()
    assert asked(tmp_path, "<p:report/>") is None

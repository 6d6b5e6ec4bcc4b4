"""The end of a migration: which attempt it was, what QEMU said, and whether that was foreseen."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from unit.domains import make_domain
from unit.expectations import LINE, LOADING, OTHER_LINE, PATH, make_expected, make_expected_device
from unit.makers import HOST, KEY, UUID
from vfio_preflight.configuration import Configuration
from vfio_preflight.guest.xml import GuestError
from vfio_preflight.hook import expected
from vfio_preflight.hook.annotation import annotated
from vfio_preflight.hook.outcome import Learned, cause_of, completed, released
from vfio_preflight.host import history
from vfio_preflight.host.guestlog import LOGS, mark
from vfio_preflight.host.history import Entry
from vfio_preflight.judge.findings import Report
from vfio_preflight.report.schema import as_dict

STARTED = "starting up libvirt\nqemu-system-x86_64 \\\n-incoming defer \\\n"
REFUSAL = f"qemu-system-x86_64: {LINE}\nqemu-system-x86_64: Failed to load x\nq: {LOADING}\n"
FAILING = make_expected_device("fail", LINE)


def domain(uuid: str = UUID) -> bytes:
    return make_domain().replace(b"</name>", f"</name><uuid>{uuid}</uuid>".encode(), 1)


def line_of(learned: Learned | None) -> str:
    return learned.line if learned else ""


class Host:
    """A host with a guest that is expected, and the end of its attempt."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = Configuration(runtime=str(path / "run"), history=str(path / "history"))
        self.log = path / LOGS / "g1.log"
        self.log.parent.mkdir(parents=True)
        self.log.write_text(f"earlier attempt: {OTHER_LINE}\n")

    def expect(self, *devices: dict[str, Any], **changes: str | bool) -> None:
        value = make_expected(*devices, **changes)  # type: ignore[arg-type]
        value["log"] = list(mark("g1", str(self.path)))
        assert expected.leave(self.settings.runtime, "g1", value)

    def write(self, text: str) -> None:
        with self.log.open("a") as file:
            file.write(text)

    def end(self, reason: str = "failed", xml: bytes | None = None) -> str:
        """The line that tells of it, empty where there is none."""
        return line_of(released("g1", reason, xml or domain(), self.settings, str(self.path)))

    @property
    def entries(self) -> list[Entry]:
        return [entry for _, entry in history.entries(self.settings.history)]

    @property
    def is_waiting(self) -> bool:
        return expected.is_waiting(self.settings.runtime, "g1")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


# --- what was predicted, and what happened -------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "agrees"),
    [
        (FAILING, True),
        (make_expected_device("fail"), True),
        (make_expected_device("fail", OTHER_LINE), False),
        (make_expected_device("fail", LINE, mended=True), False),
        (make_expected_device("pass"), False),
        (make_expected_device("tolerated"), False),
        (make_expected_device("unknown"), None),
    ],
)
@pytest.mark.parametrize("reason", ["failed", "-"])
def test_refused(device: dict[str, Any], agrees: bool | None, reason: str, host: Host) -> None:
    host.expect(device, verdict=device["verdict"])
    host.write(STARTED + REFUSAL)
    line = host.end(reason)
    (entry,) = host.entries
    assert (entry.outcome, entry.agrees, entry.device) == ("refused", agrees, KEY)
    assert (entry.line, entry.note, entry.host) == (LINE, "", os.uname().nodename)
    assert not host.is_waiting
    words = {True: "as predicted", False: "NOT as predicted", None: "not predicted"}[agrees]
    assert line.startswith(f"guest 'g1': migration refused, {words}: \"{LINE}\"; history 20")
    assert host.end(reason) == ""
    assert len(host.entries) == 1


def test_failed_for_another_reason(host: Host) -> None:
    host.expect(FAILING, verdict="fail")
    host.write(f"{STARTED}load of migration failed: Input/output error\n")
    host.end()
    (entry,) = host.entries
    assert (entry.outcome, entry.agrees, entry.device) == ("failed", None, "")
    assert entry.line == "load of migration failed: Input/output error"


@pytest.mark.parametrize(
    "place",
    [f"for instance 0x0 of device '{PATH}/vfio'", f"section id 36({PATH}/vfio)"],
)
@pytest.mark.parametrize(
    ("error", "outcome"), [("Input/output error", "failed"), ("Invalid argument", "refused")]
)
def test_stream_that_ends_in_a_devices_state_is_no_refusal(
    place: str, error: str, outcome: str, host: Host
) -> None:
    """Cancelled, or the connection was lost: QEMU names what it was loading."""
    host.expect(FAILING, verdict="fail")
    loading = f"qemu-system-x86_64: error while loading state {place}"
    host.write(f"{STARTED}{loading}\nqemu-system-x86_64: load of migration failed: {error}\n")
    host.end()
    (entry,) = host.entries
    assert entry.outcome == outcome
    assert place in entry.line
    assert bool(entry.device) == (outcome == "refused")


def test_failed_without_a_word(host: Host) -> None:
    host.expect()
    host.write(STARTED)
    host.end()
    (entry,) = host.entries
    assert (entry.outcome, entry.agrees, entry.line) == ("failed", None, "")


@pytest.mark.parametrize("reason", ["migrated", "shutdown", "destroyed", "saved", "crashed", "-"])
def test_end_of_a_guest_that_ran_is_not_guessed_about(reason: str, host: Host) -> None:
    host.expect()
    host.write(STARTED)
    assert host.end(reason) == ""
    assert host.entries == [] and not host.is_waiting


# --- whose end it is -----------------------------------------------------------------------------


def test_nothing_is_expected(host: Host) -> None:
    host.write(STARTED + REFUSAL)
    assert host.end() == ""
    assert host.entries == []


def test_other_guest_of_the_same_name(host: Host) -> None:
    host.expect()
    host.write(STARTED + REFUSAL)
    assert host.end(xml=domain("99999999-2222-3333-4444-555555555555")) == ""
    assert host.entries == [] and host.is_waiting


def test_other_attempt_of_the_same_guest(host: Host) -> None:
    report = as_dict(Report("g1", UUID, "m", "e", (), ()), None)
    ours, others = (annotated(domain(), report, token=token) for token in ("mine", "other"))
    host.expect(token="mine", marked=True)
    host.write(STARTED + REFUSAL)
    for xml in (domain(), others):
        assert host.end(xml=xml) == ""
        assert host.entries == [] and host.is_waiting
    assert host.end(xml=ours) != ""
    assert len(host.entries) == 1


def test_token_of_an_earlier_hop_does_not_matter(host: Host) -> None:
    report = as_dict(Report("g1", UUID, "m", "e", (), ()), None)
    host.expect(token="mine", marked=False)
    host.write(STARTED + REFUSAL)
    assert host.end(xml=annotated(domain(), report, token="of another host"))


def test_cold_start_that_fails_is_not_the_attempt(host: Host) -> None:
    """libvirt gave up the migration before QEMU was started."""
    host.expect()
    host.write("qemu-system-x86_64 \\\n-device x\nq: vfio 0000:06:00.4: failed to add PCI "
               "capability 0x11[0x50]@0xb0: table & pba overlap\n")  # fmt: skip
    assert host.end() == ""
    assert host.entries == [] and not host.is_waiting


def test_xml_that_is_none(host: Host) -> None:
    host.expect()
    with pytest.raises(GuestError):
        host.end(xml=b"<domain>")
    assert host.is_waiting


# --- the log -------------------------------------------------------------------------------------


def test_truncated_log(host: Host) -> None:
    host.expect(FAILING, verdict="fail")
    os.truncate(host.log, 0)
    host.write(REFUSAL)
    host.end()
    (entry,) = host.entries
    assert (entry.outcome, entry.agrees) == ("refused", True)
    assert entry.note == "the log was cut off or rotated meanwhile"


def test_unreadable_log(host: Host) -> None:
    host.expect(FAILING, verdict="fail")
    host.log.unlink()
    host.log.mkdir()
    host.end()
    (entry,) = host.entries
    assert (entry.outcome, entry.agrees) == ("failed", None)
    assert entry.note.endswith("g1.log cannot be read: Is a directory")


def test_history_that_cannot_be_written(host: Host) -> None:
    (host.path / "history").write_text("")
    host.expect()
    host.write(STARTED + REFUSAL)
    assert "not kept: " in host.end()
    assert not host.is_waiting


# --- what QEMU said, and of what -----------------------------------------------------------------

OTHER = make_expected_device(key="0000:00:06.0", path="0000:00:06.0", host="0000:06:00.5")


def about(text: str, *devices: dict[str, Any]) -> tuple[str, str]:
    cause = cause_of(text, list(devices))
    return cause.line, cause.device["key"] if cause.device else ""


def test_device_by_its_path() -> None:
    assert about(REFUSAL, OTHER, FAILING) == (LINE, KEY)
    moved = REFUSAL.replace("00:05.0/vfio", "00:06.0/vfio")
    assert about(moved, FAILING, OTHER) == (LINE, OTHER["key"])


def test_device_that_is_no_vfio_device() -> None:
    text = REFUSAL.replace("00:05.0/vfio", "00:02.0/pcie-root-port")
    assert about(text, FAILING) == (LINE, "")


def test_only_device_at_a_path_that_was_not_known() -> None:
    unplaced = make_expected_device(path="")
    assert about(REFUSAL, unplaced) == (LINE, KEY)
    assert about(REFUSAL, unplaced, {**OTHER, "path": ""}) == (LINE, "")


def test_device_without_a_path_by_the_line_that_was_predicted() -> None:
    assert about(LINE, OTHER, FAILING) == (LINE, KEY)
    assert about(LINE, OTHER) == (LINE, "")


def test_device_by_its_name_on_the_host() -> None:
    line = f"vfio {HOST}: failed to add PCI capability 0x11[0x50]@0xb0: table & pba overlap"
    assert about(f"q: -device x: {line}", OTHER, FAILING)[1] == KEY
    assert about(f"q: -device x: {line}1".replace(HOST, f"{HOST}1"), FAILING)[1] == ""


def test_vendors_driver_that_refuses_is_learned_of_as_well() -> None:
    assert about(f"q: {LOADING}\nq: load of migration failed: Invalid argument", FAILING) == (
        LOADING,
        KEY,
    )


def test_first_line_counts() -> None:
    second = REFUSAL.replace("0x63", "0x64").replace("00:05.0/vfio", "00:06.0/vfio")
    assert about(REFUSAL + second, FAILING, OTHER) == (LINE, KEY)
    assert about("nothing known", FAILING) == ("", "")


# --- arrivals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "action", "agrees"),
    [
        ("pass", "annotate", True),
        ("tolerated", "allow", True),
        ("unknown", "annotate", None),
        ("fail", "allow", False),
        ("fail", "mend", True),
    ],
)
def test_completed(verdict: str, action: str, agrees: bool | None, host: Host) -> None:
    host.expect(verdict=verdict, action=action)
    line = line_of(completed("g1", UUID, 0.1, host.settings))
    assert line.startswith("guest 'g1': migration completed, ")
    (entry,) = host.entries
    assert (entry.outcome, entry.agrees, entry.line) == ("completed", agrees, "")
    assert completed("g1", UUID, 0.1, host.settings) is None


def test_qemu_that_ran_before_is_not_the_one_that_is_expected(host: Host) -> None:
    host.expect()
    age = time.time() - 1_000_000_000
    assert completed("g1", UUID, age, host.settings) is None
    assert completed("g1", "other", 0.1, host.settings) is None
    assert host.is_waiting and host.entries == []

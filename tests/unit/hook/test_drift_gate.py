"""The gate and the builds of QEMU: what the record says of the source's, against this host's."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from unit.builds import MACHINE, changed, make_builds, make_types
from unit.domains import KEY, make_domain, report_of
from unit.hooked import answered
from unit.makers import HOST, make_emulator, make_record, make_state
from vfio_preflight.configuration import Configuration
from vfio_preflight.gather import builds, here
from vfio_preflight.guest.build import RecordedBuild
from vfio_preflight.guest.metadata import find_ours, read_record, set_record, write_record
from vfio_preflight.guest.xml import parse_domain, to_bytes
from vfio_preflight.hook.gate import Gate
from vfio_preflight.hook.supervise import Outcome
from vfio_preflight.pci.formats import to_json
from vfio_preflight.qemu.emulator.sent import ENCODING, pack
from vfio_preflight.qemu.emulator.types import TypeFacts

SENT = make_builds(make_types()).sent
BUILD = RecordedBuild("10.0.2", "", MACHINE, "a", "now", "boot:77:1", ENCODING, pack(SENT))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    monkeypatch.setattr(here, "emulator_facts", lambda *_args, **_options: make_emulator())
    (tmp_path / f"{HOST}.json").write_text(to_json(make_state()))
    return Configuration(
        states=str(tmp_path), runtime=str(tmp_path / "run"), log=str(tmp_path / "log")
    )


def domain(build: RecordedBuild | None = BUILD) -> bytes:
    root = parse_domain(make_domain())
    record = make_record({KEY: make_state()})._replace(build=build)
    set_record(root, write_record(record))
    return to_bytes(root)


def migrate(
    settings: Configuration,
    there: TypeFacts,
    monkeypatch: pytest.MonkeyPatch,
    build: RecordedBuild | None = BUILD,
) -> Outcome:
    monkeypatch.setattr(builds, "type_facts", lambda *_args, **_options: there)
    gate = Gate("g1", settings, time.monotonic() + 5)
    return answered(gate.judge("migrate", domain(build)), settings)


def test_known_to_be_refused(settings: Configuration, monkeypatch: pytest.MonkeyPatch) -> None:
    there = make_types(("pcie-root-port", "x-speed", "2_5"), version="11.1.3")
    outcome = migrate(settings, there, monkeypatch)
    assert (outcome.status, outcome.out) == (1, b"")
    assert outcome.err.decode().splitlines()[0] == (
        "vfio-preflight: migration blocked: property x-speed of pcie-root-port is '16' on the"
        " source and '2_5' on the destination; to do: choose a host with the source's build of"
        " QEMU, or restart the guest"
    )


def test_not_known_passes_with_a_notice(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = make_types(properties=changed("vfio-pci", x_no_mmap=True))
    outcome = migrate(settings, there, monkeypatch)
    assert outcome.status == 0
    assert report_of(outcome.out).find("finding[@code='drift']") is not None
    # What travels on is the source's: this host's own takes its place as the guest is recorded.
    record = read_record(find_ours(parse_domain(outcome.out)))
    assert record is not None and record.build == BUILD


def test_same_build(settings: Configuration, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = migrate(settings, make_types(), monkeypatch)
    assert outcome.status == 0
    found = report_of(outcome.out).findall("finding")
    assert [each.get("code") for each in found if "drift" in str(each.get("code"))] == []


def test_record_without_a_build(settings: Configuration, monkeypatch: pytest.MonkeyPatch) -> None:
    there = make_types(("pcie-root-port", "x-speed", "2_5"))
    assert migrate(settings, there, monkeypatch, None).status == 0


@pytest.mark.parametrize("text", ["eJxj", "", "\N{SNOWMAN}"])
def test_damage_blocks_nobody(
    text: str, settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = migrate(settings, make_types(), monkeypatch, BUILD._replace(text=text))
    assert outcome.status == 0
    assert report_of(outcome.out).find("finding[@code='drift-not-compared']") is not None


def test_after_a_hop_over_a_host_that_did_not_record(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report of the migration before says when: what was recorded is of another build."""
    earlier = BUILD._replace(time="2020-01-01T00:00:00Z")
    there = make_types(("pcie-root-port", "x-speed", "2_5"))
    monkeypatch.setattr(builds, "type_facts", lambda *_args, **_options: make_types())
    gate = Gate("g1", settings, time.monotonic() + 5)
    hopped = answered(gate.judge("migrate", domain(earlier)), settings).out
    monkeypatch.setattr(builds, "type_facts", lambda *_args, **_options: there)
    outcome = answered(gate.judge("migrate", hopped), settings)
    assert outcome.status == 0
    (finding,) = report_of(outcome.out).findall("finding[@code='drift-not-compared']")
    assert "was moved or restored since" in str(finding.text)

"""Evidence on its way into the facts: what is inferred, contradicts, and is remembered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from lab.configs import make_config, patched
from unit.expectations import LINE, TIME, make_expected, make_expected_device
from unit.host.hosts import MDEV, UUID, make_mdev, make_rules
from unit.makers import (
    HOST,
    KEY,
    PMC,
    VSC_BODY,
    differing,
    make_device,
    make_emulator,
    make_guest,
    make_record,
    make_state,
)
from vfio_preflight.configuration import Configuration
from vfio_preflight.gather import here
from vfio_preflight.gather.here import facts_here
from vfio_preflight.guest.domain import Guest, Property
from vfio_preflight.guest.metadata import Record, write_record
from vfio_preflight.guest.traits import Traits
from vfio_preflight.guest.xml import parse_fragment
from vfio_preflight.host import history, traits, vendor_rules, vfio
from vfio_preflight.host.sightings import remember
from vfio_preflight.host.vfio import VfioDevice
from vfio_preflight.judge.facts import Refused
from vfio_preflight.judge.findings import DeviceReport
from vfio_preflight.judge.model import preflight
from vfio_preflight.pci.formats import to_json
from vfio_preflight.pci.state import ConfigState, State
from vfio_preflight.qemu.model.equivalence import equivalent_to_qemu

SEEN = make_state(evidence="vfio")
DEVICE = make_device(kind="mdev", host=UUID)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    """Settings with paths below ``tmp_path``, which stands for a host's root."""
    monkeypatch.setattr(here, "emulator_facts", lambda *_args, **_options: make_emulator())
    (tmp_path / "states").mkdir()
    return Configuration(states="/states", catalogue="/catalogue")


def recorded(state: ConfigState, facts: Mapping[str, str] | None = None) -> Guest:
    """A guest with a record of its one device."""
    return with_record(make_record({KEY: state}, {KEY: facts or {}}))


def with_record(record: Record) -> Guest:
    ours = parse_fragment(b"<preflight xmlns='urn:vfio-preflight:1'/>")
    ours.append(write_record(record))
    return make_guest(DEVICE)._replace(metadata=ours)


def judged(
    root: Path, guest: Guest, settings: Configuration, source: Mapping[str, State] | None = None
) -> DeviceReport:
    return preflight(facts_here(guest, settings, 0.0, source, root=str(root))).devices[0]


def codes(report: DeviceReport) -> list[str]:
    return [finding.code for finding in report.findings]


# --- the record ----------------------------------------------------------------------------------


def test_record_that_was_made_late(tmp_path: Path, settings: Configuration) -> None:
    make_mdev(tmp_path)
    guest = recorded(SEEN, {**MDEV.facts(), "age": "8640000"})
    report = judged(tmp_path, guest, settings)
    assert report.verdict == "pass"
    assert "record-late" in codes(report)
    (late,) = [finding for finding in report.findings if finding.code == "record-late"]
    assert "100 days after QEMU started" in late.text


def test_source_that_cannot_migrate(tmp_path: Path, settings: Configuration) -> None:
    make_mdev(tmp_path)
    guest = recorded(SEEN, {**MDEV.facts(), "migration": "none"})
    report = judged(tmp_path, guest, settings)
    assert report.verdict == "fail"
    assert "device-not-migratable" in codes(report)


def test_record_that_is_not_used_is_not_late(tmp_path: Path, settings: Configuration) -> None:
    """A save image has what is sent; of a failover device nothing is."""
    make_mdev(tmp_path)
    guest = recorded(SEEN, {**MDEV.facts(), "age": "8640000"})
    image = judged(tmp_path, guest, settings, {KEY: make_state(evidence="stream")})
    assert "record-late" not in codes(image)
    device = DEVICE._replace(properties={"failover_pair_id": Property("net0", "made up")})
    leaves = judged(tmp_path, guest._replace(devices=(device,)), settings)
    assert "failover-unplugged" in codes(leaves)
    assert "record-late" not in codes(leaves)


# --- inferred ------------------------------------------------------------------------------------


def test_state_is_inferred_from_the_record(tmp_path: Path, settings: Configuration) -> None:
    make_mdev(tmp_path)
    report = judged(tmp_path, recorded(SEEN, MDEV.facts()), settings)
    assert report.verdict == "pass"
    assert codes(report) == ["config-identical", "state-inferred", "skip-vsc-check"]
    assert report.destination is not None and report.destination.evidence == "inferred"


def test_driver_that_differs_stays_unknown(tmp_path: Path, settings: Configuration) -> None:
    make_mdev(tmp_path, version="550.90.05")
    report = judged(tmp_path, recorded(SEEN, MDEV.facts()), settings)
    assert (report.verdict, codes(report)) == ("unknown", ["destination-unknown"])
    assert "likely to differ" in report.findings[0].text


def test_catalogue_goes_before_what_is_inferred(tmp_path: Path, settings: Configuration) -> None:
    make_mdev(tmp_path)
    seen = differing(VSC_BODY)._replace(evidence="vfio")
    remember(UUID, seen, settings.catalogue, equivalent_to_qemu, str(tmp_path))
    report = judged(tmp_path, recorded(SEEN, MDEV.facts()), settings)
    assert report.destination is not None and report.destination.evidence == "catalogue"
    assert (report.verdict, report.mendable) == ("fail", True)


# --- contradictions ------------------------------------------------------------------------------


def test_file_against_sysfs(tmp_path: Path, settings: Configuration) -> None:
    make_pci_device(tmp_path, make_config(device=0x2236))
    (tmp_path / "states" / f"{HOST}.json").write_text(to_json(make_state()))
    report = judged(tmp_path, recorded(SEEN)._replace(devices=(make_device(),)), settings)
    assert report.verdict == "unknown"
    assert codes(report) == ["config-identical", "evidence-contradicts", "skip-vsc-check"]
    assert (
        "of the destination's device disagree; one is of evidence file" in report.findings[1].text
    )


def make_pci_device(root: Path, config: bytes) -> None:
    home = root / "sys/bus/pci/devices" / HOST
    home.mkdir(parents=True)
    (home / "config").write_bytes(config)
    (home / "resource").write_text("")


def test_image_against_record(tmp_path: Path, settings: Configuration) -> None:
    make_pci_device(tmp_path, make_config())
    guest = recorded(make_state(make_config(4096)))._replace(devices=(make_device(),))
    report = judged(tmp_path, guest, settings, {KEY: make_state(evidence="stream")})
    expected = ["config-identical", "evidence-contradicts", "not-decided", "skip-vsc-check"]
    assert codes(report) == expected, "as sysfs shows no BARs there"
    assert (
        "evidence stream (made up), the other of sysfs (made up, recorded)"
        in report.findings[1].text
    )


def test_evidence_that_agrees(tmp_path: Path, settings: Configuration) -> None:
    make_pci_device(tmp_path, differing(PMC).config)
    (tmp_path / "states" / f"{HOST}.json").write_text(to_json(make_state()))
    guest = recorded(SEEN)._replace(devices=(make_device(),))
    report = judged(tmp_path, guest, settings, {KEY: make_state(evidence="stream")})
    assert codes(report) == ["config-identical", "skip-vsc-check"]


def test_atomic_ops_of_an_image_are_the_records(tmp_path: Path, settings: Configuration) -> None:
    """The root port has a section of its own in the image; the record was made of its device."""
    guest = recorded(make_state(evidence="vfio")._replace(atomics=3))
    stream = {KEY: make_state(evidence="stream")}
    here_none = {KEY: make_state(evidence="vfio")._replace(atomics=0)}
    facts = facts_here(guest, settings, 0, stream, here_none, str(tmp_path))
    assert [known.source.atomics for known in facts.devices] == [3]  # type: ignore[union-attr]
    assert facts_here(recorded(SEEN), settings, 0, stream).devices[0].source == stream[KEY]


def test_image_against_bytes_of_the_record(tmp_path: Path, settings: Configuration) -> None:
    """Behind QEMU 9.2's eyes, PM runs to the next capability; the first host's QEMU counts."""
    make_pci_device(tmp_path, make_config())
    guest = recorded(SEEN, {"qemu": "9.2.0", "on": "a"})._replace(devices=(make_device(),))
    stream = differing(VSC_BODY)._replace(evidence="stream")
    report = judged(tmp_path, guest, settings, {KEY: stream})
    (finding,) = [f for f in report.findings if f.code == "evidence-contradicts"]
    assert "offset 0x63: fe and 01" in finding.text
    assert "vfio (made up, recorded on a)" in finding.text
    guest = recorded(SEEN, {"age": "7200"})._replace(devices=(make_device(),))
    assert "evidence-contradicts" not in codes(judged(tmp_path, guest, settings, {KEY: stream}))
    beyond = make_state(patched(make_config(), 0x48, 0x55), evidence="stream")  # behind PM
    for qemu, known in (("9.2.0", True), ("10.0.0", False)):
        guest = recorded(SEEN, {"qemu": qemu})._replace(devices=(make_device(),))
        found = codes(judged(tmp_path, guest, settings, {KEY: beyond}))
        assert ("evidence-contradicts" in found) == known


def test_file_against_the_catalogue(tmp_path: Path, settings: Configuration) -> None:
    make_mdev(tmp_path)
    other = SEEN._replace(config=make_config(device=1))
    remember(UUID, other, settings.catalogue, equivalent_to_qemu, str(tmp_path))
    (tmp_path / "states" / f"{UUID}.json").write_text(to_json(make_state()))
    report = judged(tmp_path, recorded(SEEN), settings)
    assert codes(report) == ["config-identical", "evidence-contradicts", "skip-vsc-check"]
    assert "vendor:device 10de:1eb8 and 10de:0001" in report.findings[1].text


# --- minimum -------------------------------------------------------------------------------------


def test_weak_evidence_does_not_count(tmp_path: Path, settings: Configuration) -> None:
    make_pci_device(tmp_path, differing(VSC_BODY).config)
    guest = recorded(SEEN)._replace(devices=(make_device(),))
    assert judged(tmp_path, guest, settings).verdict == "fail"
    report = judged(tmp_path, guest, settings._replace(evidence="vfio"))
    assert (report.verdict, report.mendable, report.quote) == ("unknown", False, "")
    assert codes(report) == ["evidence-weak", "not-decided", "skip-vsc-check"]
    assert "the verdict would be fail" in report.findings[0].text
    assert judged(tmp_path, guest, settings._replace(evidence="sysfs")).verdict == "fail"


def test_gathering_writes_nothing(
    tmp_path: Path, settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read of a device that was opened goes into the catalogue later, or not at all."""
    make_mdev(tmp_path)
    monkeypatch.setattr(vfio, "read_free", lambda *_: VfioDevice(SEEN, ("stop-copy",)))
    listed = settings._replace(open_devices=("nvidia-63",))
    assert judged(tmp_path, recorded(SEEN), listed).destination == SEEN
    assert not (tmp_path / "catalogue").exists()


# --- vendors' rules ------------------------------------------------------------------------------


@pytest.fixture
def ruled(tmp_path: Path, settings: Configuration) -> Configuration:
    """Settings of a host with the shipped rules."""
    make_rules(tmp_path)
    return settings


def test_manager_of_another_branch(tmp_path: Path, ruled: Configuration) -> None:
    make_mdev(tmp_path, version="570.10.01")
    (tmp_path / "states" / f"{UUID}.json").write_text(to_json(make_state()))
    report = judged(tmp_path, recorded(SEEN, MDEV.facts()), ruled)
    assert report.verdict == "pass"
    texts = [f.text for f in report.findings if f.code == "vendor-rule"]
    assert texts[0].endswith("(RHEL 10 guide, undated, read 2026-11)")
    assert "VEP 109" in texts[1] and "ECC" in texts[2]
    assert len(texts) == 3
    same = judged(tmp_path, recorded(SEEN, {**MDEV.facts(), "driver-version": "570.10.01"}), ruled)
    assert codes(same).count("vendor-rule") == 1


def test_state_of_the_operators_is_of_no_device_here(tmp_path: Path, ruled: Configuration) -> None:
    make_mdev(tmp_path, version="570.10.01")
    guest, given = recorded(SEEN, MDEV.facts()), {KEY: make_state()}
    (device,) = facts_here(guest, ruled, 0.0, destination=given, root=str(tmp_path)).devices
    assert device.traits == Traits()
    (device,) = facts_here(guest, ruled, 0.0, root=str(tmp_path)).devices
    assert device.traits == MDEV._replace(driver_version="570.10.01")


def test_damaged_rules_are_told_of(tmp_path: Path, ruled: Configuration) -> None:
    make_mdev(tmp_path)
    own = tmp_path / "etc/vfio-preflight/vendor-rules.d/own.ini"
    own.write_text("nvidia")
    report = preflight(facts_here(recorded(SEEN, MDEV.facts()), ruled, 0.0, root=str(tmp_path)))
    assert report.verdict == "pass"
    (unread,) = [finding for finding in report.findings if finding.code == "vendor-rules-unread"]
    assert f"{own}: " in unread.text


@pytest.mark.parametrize("facts", [{}, {**MDEV.facts(), "driver": "vfio-pci"}])
def test_plain_devices_pay_nothing_for_rules(
    facts: dict[str, str],
    tmp_path: Path,
    ruled: Configuration,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(vendor_rules, "read_rules", never)
    monkeypatch.setattr(traits, "read_traits", never)
    make_mdev(tmp_path)
    (tmp_path / "states" / f"{UUID}.json").write_text(to_json(make_state()))
    facts_here(recorded(SEEN, facts), ruled, 0.0, root=str(tmp_path))
    facts_here(make_guest(DEVICE), ruled, 0.0, root=str(tmp_path))


def test_traits_are_read_only_where_a_rule_compares_them(
    tmp_path: Path, ruled: Configuration
) -> None:
    make_mdev(tmp_path)
    other = {**MDEV.facts(), "vendor": "8086", "driver": "qat_vfio_pci", "device": "4941"}
    facts = facts_here(recorded(SEEN, other), ruled, 0.0, root=str(tmp_path))
    assert facts.rules and facts.devices[0].traits == Traits()


# --- what QEMU refused before --------------------------------------------------------------------


@pytest.mark.parametrize("version", ["535.1", "550.54.16"])
def test_refusal_of_the_same_traits_is_found(
    version: str, settings: Configuration, tmp_path: Path
) -> None:
    make_mdev(tmp_path)
    value = make_expected(make_expected_device())
    entry = history.Entry(value, "refused", False, KEY, LINE, time=TIME, host="b")
    name = history.add(f"{tmp_path}/history", entry)
    there = MDEV._replace(driver_version=version)
    known = facts_here(
        recorded(SEEN, there.facts()),
        settings._replace(history="/history"),
        1.0,
        root=str(tmp_path),
    )
    found = known.devices[0].refused
    assert found == ((Refused(LINE, TIME, name),) if version == "535.1" else ())


def test_without_a_history_nothing_is_read(
    settings: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_mdev(tmp_path)
    monkeypatch.setattr(history, "refusals_of", lambda *_: pytest.fail("it looked"))
    facts_here(recorded(SEEN, MDEV.facts()), settings, 1.0, root=str(tmp_path))

"""The gate, with an emulator that is made up and this host's devices given as files."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from unit.domains import KEY, make_domain, report_of
from unit.hooked import answered
from unit.makers import (
    HOST,
    PMC,
    UUID,
    VSC_BODY,
    differing,
    make_emulator,
    make_host_device,
    make_inventory,
    make_state,
)
from unit.streams import make_image, make_stream, vfio
from vfio_preflight.configuration import Configuration, ConfigurationError
from vfio_preflight.gather import here, saved
from vfio_preflight.gather.saved import Restored
from vfio_preflight.guest.domain import read_guest
from vfio_preflight.guest.mend import Mend, only_ours_changed
from vfio_preflight.guest.metadata import PROBE_NAME_PREFIX, read_record
from vfio_preflight.guest.xml import parse_domain
from vfio_preflight.hook import expected, gate, journal
from vfio_preflight.hook.annotation import token_of
from vfio_preflight.hook.gate import Gate
from vfio_preflight.hook.probe import MARK, decode
from vfio_preflight.hook.supervise import Outcome
from vfio_preflight.host import guestlog, inventory, sightings
from vfio_preflight.host.guestlog import Mark
from vfio_preflight.judge.confirm import TryStates
from vfio_preflight.judge.facts import Facts
from vfio_preflight.judge.findings import Report
from vfio_preflight.judge.pipeline import examine
from vfio_preflight.judge.verdicts import DEFAULT_POLICY, NEVER
from vfio_preflight.osutil.digest import sha256
from vfio_preflight.pci.formats import to_json
from vfio_preflight.pci.state import ConfigState
from vfio_preflight.qemu.model.vfio_pci import Environment, VirtualConfig, realise
from vfio_preflight.report.schema import ReportDict

OTHER = "0000:06:00.5"
OLD = "pc-q35-9.0"
RECORD = {KEY: make_state()}
SECRET = "<graphics type='vnc' passwd='s3cret'/>"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    monkeypatch.setattr(here, "emulator_facts", lambda *_args, **_options: make_emulator())
    (tmp_path / "states").mkdir()
    return Configuration(
        states=str(tmp_path / "states"), runtime=str(tmp_path / "run"), log=str(tmp_path / "log")
    )


def present(settings: Configuration, state: ConfigState, host: str = HOST) -> None:
    """Have this host's device present ``state``."""
    (Path(settings.states) / f"{host}.json").write_text(to_json(state))


def with_policy(settings: Configuration, **policy: str) -> Configuration:
    return settings._replace(policy={**DEFAULT_POLICY, **policy}, vsc_tolerant=("10de:*",))


def judge(settings: Configuration, xml: bytes, operation: str = "migrate") -> Outcome:
    return answered(Gate("g1", settings, time.monotonic() + 5).judge(operation, xml), settings)


def migrated(
    settings: Configuration, xml: bytes, mends: tuple[Mend, ...] = ()
) -> tuple[str, str, bytes]:
    """Verdict and action of a migration that passes, and its XML, changed in nothing else."""
    outcome = judge(settings, xml)
    assert (outcome.status, outcome.err) == (0, b"")
    assert only_ours_changed(parse_domain(xml), parse_domain(outcome.out), mends)
    report = report_of(outcome.out)
    return str(report.get("verdict")), str(report.get("action")), outcome.out


# --- migrate -------------------------------------------------------------------------------------


def test_pass_is_annotated(settings: Configuration) -> None:
    present(settings, make_state())
    verdict, action, out = migrated(settings, make_domain(RECORD))
    assert (verdict, action) == ("pass", "annotate")
    (device,) = report_of(out).findall("device")
    names = ("key", "verdict", "alias", "host", "source", "destination")
    shown = [device.get(name) for name in names]
    assert shown == [KEY, "pass", "hostdev0", HOST, "sysfs", "file"]
    codes = [finding.get("code") for finding in device.findall("finding")]
    assert codes == ["config-identical", "skip-vsc-check"]


def test_record_travels_on_unchanged(settings: Configuration) -> None:
    present(settings, differing(VSC_BODY))
    xml = make_domain(RECORD, machine="pc-q35-9.1")
    _, _, out = migrated(settings, xml)
    before, after = (read_guest(parse_domain(text)) for text in (xml, out))
    assert read_record(after.metadata) == read_record(before.metadata)


def test_tolerated_is_annotated(settings: Configuration) -> None:
    present(settings, differing(VSC_BODY))
    verdict, action, _ = migrated(settings, make_domain(RECORD, machine="pc-q35-9.1"))
    assert (verdict, action) == ("tolerated", "annotate")


def test_fail_is_blocked(settings: Configuration) -> None:
    present(settings, differing(VSC_BODY))
    outcome = judge(settings, make_domain(RECORD))
    assert (outcome.status, outcome.out) == (1, b"")
    first = outcome.err.decode().splitlines()[0]
    assert first.startswith("vfio-preflight: migration blocked: hostdev0 (0000:06:00.4): VSC at")
    for part in ("0x63", "source 01, destination fe", "to do:"):
        assert part in first
    assert "QEMU would fail with: get_pci_config_device: Bad config data: i=0x63 " in (
        outcome.err.decode()
    )


def test_without_record_is_unknown(settings: Configuration) -> None:
    present(settings, make_state())
    verdict, action, out = migrated(settings, make_domain())
    assert (verdict, action) == ("unknown", "annotate")
    assert b"carries no record of this device" in out
    assert judge(with_policy(settings, unknown="block"), make_domain()).status == 1


@pytest.mark.parametrize("wish", ["<policy/>", "<policy fail='allow' unknown='allow'/>"])
@pytest.mark.parametrize("evidence", ["file", "stream"])
def test_what_hangs_qemu_never_passes(settings: Configuration, wish: str, evidence: str) -> None:
    present(settings, make_state(b"\xff" * 256))
    lenient = with_policy(settings, fail="annotate", unknown="allow")._replace(evidence=evidence)
    xml = make_domain(RECORD).replace(b"<record", f"{wish}<record".encode(), 1)
    assert wish.encode() in xml
    outcome = judge(lenient, xml)
    assert (outcome.status, outcome.out) == (1, b"")
    assert b"  note: a device that hangs QEMU is blocked whatever the policy" in outcome.err


@pytest.mark.parametrize("policy", [{"fail": "allow", "pass": "allow"}, {"fail": "annotate"}])
def test_fail_may_pass(policy: dict[str, str], settings: Configuration) -> None:
    present(settings, differing(PMC))
    outcome = judge(with_policy(settings, **policy), make_domain(RECORD))
    assert outcome.status == 0
    assert bool(outcome.out) == (policy["fail"] == "annotate")


def test_annotate_never(settings: Configuration) -> None:
    present(settings, make_state())
    never = settings._replace(annotate="never")
    assert judge(never, make_domain(RECORD)) == Outcome(0)
    assert judge(never, make_domain()) == Outcome(0)


def test_guest_without_vfio_devices(settings: Configuration) -> None:
    assert judge(settings, make_domain(hosts=())) == Outcome(0)


# --- mend ----------------------------------------------------------------------------------------


def test_mend(settings: Configuration) -> None:
    present(settings, differing(VSC_BODY))
    mends = (Mend("hostdev0", "skip-vsc-check", True),)
    verdict, action, out = migrated(with_policy(settings, fail="mend"), make_domain(RECORD), mends)
    assert (verdict, action) == ("fail", "mend")
    assert out.count(b'name="skip-vsc-check" type="bool" value="true"') == 1


def test_mend_touches_no_other_device(settings: Configuration) -> None:
    present(settings, make_state())
    present(settings, differing(VSC_BODY), OTHER)
    record = {KEY: make_state(), "0000:00:06.0": make_state()}
    xml = make_domain(record, (HOST, OTHER))
    mends = (Mend("hostdev1", "skip-vsc-check", True),)
    _, action, _ = migrated(with_policy(settings, fail="mend"), xml, mends)
    assert action == "mend"


def test_mend_without_annotation(settings: Configuration) -> None:
    present(settings, differing(VSC_BODY))
    never = with_policy(settings, fail="mend")._replace(annotate="never")
    outcome = judge(never, make_domain(RECORD))
    assert outcome.status == 0
    assert b"skip-vsc-check" in outcome.out and b"<report" not in outcome.out


def test_mend_does_not_help_with_other_bytes(settings: Configuration) -> None:
    present(settings, differing(PMC))
    outcome = judge(with_policy(settings, fail="mend"), make_domain(RECORD))
    assert outcome.status == 1
    assert b"note: not mended: more than Vendor Specific Information" in outcome.err


def test_mend_needs_the_device_listed(settings: Configuration) -> None:
    present(settings, differing(VSC_BODY))
    unlisted = with_policy(settings, fail="mend")._replace(vsc_tolerant=("15b3:*",))
    outcome = judge(unlisted, make_domain(RECORD))
    assert outcome.status == 1 and b"not listed under vsc-tolerant" in outcome.err


# --- the guest's own policy ----------------------------------------------------------------------


def wishing(attributes: str, record: Mapping[str, ConfigState] | None = None) -> bytes:
    ours = f"<p:preflight xmlns:p='urn:vfio-preflight:1'><policy {attributes}/></p:preflight>"
    return make_domain(record, metadata=ours)


def test_guests_policy(settings: Configuration) -> None:
    assert judge(settings, wishing("unknown='block'")).status == 1
    open_to_all = settings._replace(guest_override="yes")
    assert judge(open_to_all, wishing("unknown='block'")).status == 1
    assert judge(open_to_all, wishing("unknown='allow'")) == Outcome(0)


def test_guests_policy_not_allowed(settings: Configuration) -> None:
    closed = settings._replace(guest_override="no")
    assert judge(closed, wishing("unknown='block'")).status == 0


@pytest.mark.parametrize("wish", ["allow", "annotate", "mend"])
def test_guest_does_not_switch_the_check_off(wish: str, settings: Configuration) -> None:
    """Its metadata may be its tenant's."""
    present(settings, differing(PMC))
    blocked = judge(settings, wishing(f"fail='{wish}'", RECORD))
    assert blocked.status == 1 and b"PM at 0x40" in blocked.err.splitlines()[0]
    assert f"guest-policy-refused: <policy> in the guest's metadata asks for fail={wish}" in (
        blocked.err.decode()
    )


@pytest.mark.parametrize("wish", ["fial='annotate'", "fail='banana'", "fail='banana' x='y'"])
def test_guests_policy_that_does_not_exist(wish: str, settings: Configuration) -> None:
    """A typo does not switch the check off: the host's policy applies, and the report tells."""
    present(settings, differing(PMC))
    blocked = judge(settings, wishing(wish, RECORD))
    assert blocked.status == 1 and b"PM at 0x40" in blocked.err.splitlines()[0]
    assert b"guest-policy-unusable: <policy " + wish.split()[0].encode() in blocked.err
    assert b"to do for the guest: correct it; supported are pass: annotate, allow; " in blocked.err


def test_guests_policy_that_does_not_exist_leaves_the_others(settings: Configuration) -> None:
    assert judge(settings, wishing("fial='annotate' unknown='block'")).status == 1
    verdict, action, out = migrated(settings, wishing("fial='annotate'"))
    assert (verdict, action) == ("unknown", "annotate")
    assert b"guest-policy-unusable" in out


def test_words_that_come_from_outside_are_compared_by_value(settings: Configuration) -> None:
    """libvirt's argument and the configuration's values are strings of their own."""
    present(settings, differing(VSC_BODY))
    mending = with_policy(settings, fail="".join("mend"))._replace(annotate="".join("never"))
    outcome = judge(mending, make_domain(RECORD), "".join("migrate"))
    assert b"skip-vsc-check" in outcome.out and b"<report" not in outcome.out
    blocked = judge(settings, make_domain(RECORD), "".join("migrate"))
    assert blocked.status == 1 and b"migration blocked" in blocked.err
    restored = judge(settings, make_domain(RECORD), "".join("restore"))
    assert restored.status == 0
    assert b"image-unread" in restored.out
    assert judge(settings, restored.out, "".join("prepare")).status == 1
    trouble = ConfigurationError("x")
    blocking = settings._replace(on_error="".join("block"))
    gate = Gate("g1", blocking, time.monotonic() + 5, trouble)
    assert gate.judge("".join("migrate"), make_domain(RECORD)).status == 1
    allowing = with_policy(settings, fail="".join("allow"), **{"pass": "".join("allow")})
    assert judge(allowing, make_domain(RECORD)) == Outcome(0)
    silent = with_policy(settings, fail="annotate")._replace(annotate="".join("never"))
    assert judge(silent, make_domain(RECORD)) == Outcome(0)


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("on_error", ["allow", "block"])
def test_configuration_error(on_error: str, settings: Configuration) -> None:
    trouble = ConfigurationError("/etc/x.conf: [policy] fial: no such setting")
    gate = Gate("g1", settings._replace(on_error=on_error), time.monotonic() + 5, trouble)
    outcome = gate.judge("migrate", make_domain(RECORD))
    told = outcome.err if on_error == "block" else outcome.out
    assert outcome.status == (1 if on_error == "block" else 0)
    assert b"[policy] fial: no such setting" in told


@pytest.mark.parametrize("on_error", ["allow", "block"])
def test_internal_error_tells_no_secret(
    on_error: str, settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_args: object, **_options: object) -> None:
        raise RuntimeError("s3cret from the XML")

    monkeypatch.setattr("vfio_preflight.hook.gate.facts_here", break_down)
    outcome = judge(settings._replace(on_error=on_error), make_domain(RECORD))
    told = outcome.err if on_error == "block" else outcome.out
    assert b"internal error (RuntimeError in test_gate.py, line " in told
    assert b"s3cret" not in told and b"Traceback" not in told


def test_log_has_no_xml(settings: Configuration) -> None:
    present(settings, differing(PMC))
    xml = make_domain(RECORD).replace(b"<vcpu>", SECRET.encode() + b"<vcpu>")
    judge(settings, xml)
    line = Path(settings.log).read_text()
    assert "migrate guest 'g1': fail, blocked [hostdev0=config-differs]" in line
    assert "s3cret" not in line and "<" not in line


def test_changed_xml_is_checked(settings: Configuration, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfio_preflight.hook.annotation.only_ours_changed", lambda *_: False)
    with pytest.raises(RuntimeError, match="differs in more than the annotation"):
        judge(settings, make_domain())


# --- restore, prepare ----------------------------------------------------------------------------


def refused(settings: Configuration) -> bytes:
    """The XML of a restore that is to be refused."""
    present(settings, differing(PMC))
    outcome = judge(settings, make_domain(RECORD), "restore")
    assert (outcome.status, outcome.err) == (0, b"")
    return outcome.out


def test_restore_is_refused_by_prepare(settings: Configuration) -> None:
    xml = refused(settings)
    outcome = judge(settings, xml, "prepare")
    assert (outcome.status, outcome.out) == (1, b"")
    assert outcome.err.startswith(b"vfio-preflight: restore blocked: guest g1, hostdev0")


def test_refusal_is_for_one_attempt(settings: Configuration) -> None:
    xml = refused(settings)
    assert judge(settings, xml, "prepare").status == 1
    assert judge(settings, xml, "prepare") == Outcome(0)


def test_refusal_does_not_meet_a_cold_start(settings: Configuration) -> None:
    xml = refused(settings)
    assert judge(settings, make_domain(RECORD), "prepare") == Outcome(0)
    assert judge(settings, xml, "prepare").status == 1


def test_refusals_of_two_attempts_at_once_meet_one_each(settings: Configuration) -> None:
    """Two restores of one image, 20 ms apart: both are refused, in whatever order."""
    first, second, third = (refused(settings) for _ in range(3))
    assert judge(settings, second, "prepare").status == 1
    assert judge(settings, first, "prepare").status == 1
    assert judge(settings, first, "prepare") == Outcome(0)
    assert judge(settings, third, "prepare").status == 1


def test_restore_without_a_record_has_no_source_to_record_on(settings: Configuration) -> None:
    present(settings, make_state())
    strict = with_policy(settings, unknown="block")
    xml = judge(strict, make_domain(), "restore").out
    restore = judge(strict, xml, "prepare").err.decode()
    assert "check --image FILE" in restore and "vfio-preflight record" not in restore
    migrate = judge(strict, make_domain()).err.decode()
    assert "on the source, run: vfio-preflight record g1" in migrate


def test_restore_that_passes(settings: Configuration) -> None:
    present(settings, make_state())
    outcome = judge(settings, make_domain(RECORD), "restore")
    assert report_of(outcome.out).get("verdict") == "pass"
    assert judge(settings, outcome.out, "prepare") == Outcome(0)


def test_restore_is_judged_by_the_image_that_is_open(
    settings: Configuration, tmp_path: Path
) -> None:
    """This process stands for libvirt's; the record is wrong."""
    present(settings, make_state())
    xml = make_domain({KEY: differing(PMC)}).replace(
        b"<name>g1<", f"<uuid>{UUID}</uuid><name>g1<".encode()
    )
    made = realise(make_state(), Environment("root-complex"))
    assert isinstance(made, VirtualConfig)
    path = tmp_path / "g1.img"
    path.write_bytes(make_image(make_stream([vfio(made.config, KEY)]), xml=xml))
    with path.open("rb"):
        gate = Gate("g1", settings, time.monotonic() + 5, libvirt=os.getpid())
        report = report_of(gate.judge("restore", xml).out)
    assert report.get("verdict") == "pass"
    (device,) = report.findall("device")
    assert device.get("source") == "stream"
    assert report.findall("finding") == []


def test_restore_without_its_image_says_so(settings: Configuration) -> None:
    present(settings, make_state())
    report = report_of(judge(settings, make_domain(RECORD), "restore").out)
    assert (report.get("verdict"), report[-1].get("source")) == ("pass", "sysfs")
    (finding,) = report.findall("finding")
    assert (finding.get("code"), finding.get("verdict")) == ("image-unread", "pass")
    assert "no save image of the guest is open" in str(finding.text)
    assert report_of(judge(settings, make_domain(RECORD)).out).findall("finding") == []


def test_refusal_that_cannot_be_left_is_logged(
    settings: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(journal, "write", lambda _log, line, **_options: lines.append(line))
    (tmp_path / "file").write_text("")
    present(settings, differing(PMC))
    nowhere = settings._replace(runtime=str(tmp_path / "file"))
    assert judge(nowhere, make_domain(RECORD), "restore") == Outcome(0)
    (line,) = lines
    assert f"let pass, as it cannot be refused: in {nowhere.runtime}: Not a directory; " in line
    assert "PM at 0x40" in line


def test_refusal_that_cannot_be_left_is_a_warning(
    settings: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[object] = []
    monkeypatch.setattr(
        journal, "write", lambda _log, _line, **options: warnings.append(options["warning"])
    )
    (tmp_path / "file").write_text("")
    present(settings, differing(PMC))
    judge(settings._replace(runtime=str(tmp_path / "file")), make_domain(RECORD), "restore")
    assert warnings == [True]


# --- what is expected ----------------------------------------------------------------------------


def expectation(settings: Configuration) -> dict[str, Any]:
    value = expected.waiting(settings.runtime, "g1")
    assert value is not None
    return value


def test_what_was_predicted_is_left(settings: Configuration) -> None:
    present(settings, differing(VSC_BODY))
    _, _, out = migrated(with_policy(settings, fail="annotate"), make_domain(RECORD))
    value = expectation(settings)
    assert (value["verdict"], value["action"], value["machine"]) == ("fail", "annotate", OLD)
    assert (value["marked"], value["token"]) == (True, token_of(out))
    (device,) = value["devices"]
    assert (device["key"], device["host"], device["path"]) == (KEY, HOST, KEY)
    assert device["quote"].startswith("get_pci_config_device: Bad config data: i=0x63 ")
    assert device["states"]["destination"]["sha256"] == sha256(differing(VSC_BODY).config)
    assert device["property"].startswith("skip-vsc-check is off")
    assert (device["case"]["machine"], device["mended"]) == ("9.0", False)


def test_what_qemu_writes_right_after_the_answer_is_of_the_attempt(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy host the prediction is left when QEMU has begun to write, or has failed already."""
    written = [Mark(1, 100, "aa")]
    monkeypatch.setattr(guestlog, "mark", lambda _guest: written[-1])
    present(settings, make_state())
    outcome = Gate("g1", settings, time.monotonic() + 5).judge("migrate", make_domain(RECORD))
    written.append(Mark(1, 4000, "bb"))
    assert outcome.after is not None
    outcome.after()
    assert expectation(settings)["log"] == [1, 100, "aa"]


def test_silent_attempt_has_no_token(settings: Configuration) -> None:
    present(settings, differing(PMC))
    silent = with_policy(settings, **{"fail": "allow", "pass": "allow"})
    assert judge(silent, make_domain(RECORD)) == Outcome(0)
    assert expectation(settings)["marked"] is False


def test_mended_device_is_marked(settings: Configuration) -> None:
    present(settings, differing(VSC_BODY))
    judge(with_policy(settings, fail="mend"), make_domain(RECORD))
    assert [device["mended"] for device in expectation(settings)["devices"]] == [True]


def test_nothing_is_expected_of_what_is_blocked_or_restored(settings: Configuration) -> None:
    present(settings, differing(PMC))
    assert judge(settings, make_domain(RECORD)).status == 1
    assert not expected.is_waiting(settings.runtime, "g1")
    present(settings, make_state())
    judge(settings, make_domain(RECORD))
    assert expected.is_waiting(settings.runtime, "g1")
    judge(settings, make_domain(RECORD), "restore")
    assert not expected.is_waiting(settings.runtime, "g1")


def test_expectation_that_cannot_be_left_changes_nothing(
    settings: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    present(settings, make_state())
    (tmp_path / "file").write_text("")
    nowhere = settings._replace(runtime=str(tmp_path / "file"))
    verdict, _, out = migrated(nowhere, make_domain(RECORD))
    assert verdict == "pass" and token_of(out)
    lines: list[str] = []
    monkeypatch.setattr(journal, "write", lambda _log, line, **_options: lines.append(line))
    monkeypatch.setattr("vfio_preflight.hook.prediction.prediction", lambda *_: 1 / 0)
    assert migrated(settings, make_domain(RECORD))[0] == "pass"
    assert "nothing will be learned of 'g1': internal error (ZeroDivisionError" in lines[-2]


# --- devices that are not judged -----------------------------------------------------------------

USB = (
    b"<hostdev mode='subsystem' type='usb'>"
    b"<source><vendor id='0x0529'/><product id='0x0001'/></source></hostdev></devices>"
)


@pytest.mark.parametrize("operation", ["migrate", "restore"])
def test_silent_about_a_guest_without_vfio_devices(operation: str, settings: Configuration) -> None:
    strict = with_policy(settings, unknown="block")
    xml = make_domain(hosts=()).replace(b"</devices>", USB)
    assert judge(strict, xml, operation) == Outcome(0)
    assert not Path(settings.log).exists()


def test_refusal_and_annotation_list_what_was_not_judged(settings: Configuration) -> None:
    xml = make_domain(RECORD).replace(b"</devices>", USB)
    present(settings, differing(VSC_BODY))
    refused = judge(settings, xml).err.decode()
    assert "  not judged: USB device of the host (hostdev1, 0529:0001): it is no PCI" in refused
    present(settings, make_state())
    (other,) = report_of(judge(settings, xml).out).findall("unjudged")
    assert dict(other.attrib) == {"kind": "usb", "alias": "hostdev1", "host": "0529:0001"}


# --- the dry run's stand-in ----------------------------------------------------------------------


def test_probe_is_answered_and_never_let_in(settings: Configuration) -> None:
    present(settings, make_state())
    ours = "<p:preflight xmlns:p='urn:vfio-preflight:1'><p:probe part='0'/></p:preflight>"
    xml = make_domain(metadata=ours).replace(b"<name>g1<", f"<name>{PROBE_NAME_PREFIX}1<".encode())
    outcome = judge(settings, xml, "".join("migrate"))
    assert (outcome.status, outcome.out) == (1, b"")
    assert outcome.err.startswith(f"{MARK} 0 ".encode())
    assert judge(settings, xml, "restore").status == 0


def test_probe_about_nothing_is_answered(settings: Configuration) -> None:
    ours = "<p:preflight xmlns:p='urn:vfio-preflight:1'><p:probe part='0'/></p:preflight>"
    xml = make_domain(hosts=(), metadata=ours)
    outcome = judge(settings, xml.replace(b"<name>g1<", f"<name>{PROBE_NAME_PREFIX}1<".encode()))
    report = decode(outcome.err.decode().split()[3])
    assert (outcome.status, report["verdict"], report["action"]) == (1, "unknown", "allow")
    assert "nothing-judged" in [finding["code"] for finding in report["findings"]]


@pytest.mark.parametrize(
    ("attribute", "mode"), [("", "never"), ("trial='always'", "always"), ("trial='x'", "never")]
)
def test_probe_may_ask_for_a_trial(
    attribute: str, mode: str, settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[str] = []

    def note(facts: Facts, trial_mode: str, try_states: TryStates) -> Report:
        modes.append(trial_mode)
        return examine(facts, NEVER, try_states)

    monkeypatch.setattr(gate, "examine", note)
    ours = f"<p:preflight xmlns:p='urn:vfio-preflight:1'><p:probe {attribute}/></p:preflight>"
    xml = make_domain(metadata=ours).replace(b"<name>g1<", f"<name>{PROBE_NAME_PREFIX}1<".encode())
    judge(settings._replace(trial=NEVER), xml)
    assert modes == [mode]


def test_probe_tells_what_is_in_use_and_a_migration_is_left_to_libvirt(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = make_inventory(make_host_device(holder="guest g2 (process 4)"))
    monkeypatch.setattr(inventory, "read_inventory", lambda: here)
    present(settings, make_state())
    assert migrated(settings, make_domain(RECORD))[:2] == ("pass", "annotate")
    report = asked(settings)
    # The hook would let it pass, and libvirt would not.
    assert (report["verdict"], report["action"]) == ("fail", None)
    assert "device-in-use" in [f["code"] for f in report["devices"][0]["findings"]]


def asked(settings: Configuration) -> ReportDict:
    """What the hook answers to a dry run of the recorded guest, from all parts."""
    xml = make_domain(RECORD).decode().replace("<name>g1<", f"<name>{PROBE_NAME_PREFIX}1<")
    text, part, parts = "", 0, 1
    while part < parts:
        probe = f"<p:probe xmlns:p='urn:vfio-preflight:1' part='{part}'/>"
        asking = re.sub(r"(</(?:\w+:)?preflight>)", rf"{probe}\1", xml)
        mark, number, count, piece = judge(settings, asking.encode()).err.decode().split()
        assert (mark, number) == (MARK, str(part))
        text, part, parts = text + piece, part + 1, int(count)
    return decode(text)


# --- time, and what is left behind ---------------------------------------------------------------


def test_image_has_half_of_the_time(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    until: list[float] = []

    def restored(_guest: object, _root: object, _libvirt: object, end: float) -> Restored:
        until.append(end)
        return Restored({})

    monkeypatch.setattr(saved, "restored", restored)
    begun = time.monotonic()
    Gate("g1", settings, begun + 1000).judge("restore", make_domain(RECORD))
    assert begun + 490 < until[0] < begun + 510


@pytest.mark.parametrize(("left", "most"), [(1000.0, journal.PATIENCE), (0.01, 0.01), (-5.0, 0.0)])
def test_log_is_not_waited_for_beyond_the_end(
    left: float, most: float, settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience: list[float] = []
    monkeypatch.setattr(
        journal, "write", lambda _log, _line, **options: patience.append(options["patience"])
    )
    Gate("g1", settings, time.monotonic() + left).log("something", True)
    assert patience and max(patience) <= most


@pytest.mark.parametrize(("evidence", "kept"), [("vfio", True), ("file", False)])
def test_what_was_read_through_vfio_goes_into_the_catalogue(
    evidence: str, kept: bool, settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(sightings, "remember_all", lambda states, *_: seen.extend(states))
    state = make_state(evidence=evidence)
    monkeypatch.setattr(here, "state_of", lambda *_: state)
    judge(settings, make_domain(RECORD))
    assert seen == ([(HOST, state)] if kept else [])

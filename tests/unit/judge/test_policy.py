from __future__ import annotations

from itertools import product

import pytest

from lab.configs import make_config
from unit.makers import make_device, make_device_report, make_report, make_state
from vfio_preflight.guest.domain import GuestDevice
from vfio_preflight.judge.codes import CODES
from vfio_preflight.judge.findings import DeviceReport, Finding, Report
from vfio_preflight.judge.policy import (
    Decision,
    decide,
    is_tolerant,
    with_guest_policy,
    with_mended_ahead,
)
from vfio_preflight.judge.verdicts import CHOICES, DEFAULT_POLICY, STRICTNESS, VERDICTS, worst
from vfio_preflight.pci.state import ConfigState

TOLERANT = ("10de:1eb8",)
CODE = {
    "pass": "config-identical",
    "tolerated": "vsc-body-tolerated",
    "unknown": "source-unknown",
    "fail": "config-differs",
}


def make_mendable(alias: str = "hostdev0", state: ConfigState | None = None) -> DeviceReport:
    device = make_device(key=alias, alias=alias)
    return make_device_report("vsc-body-differs", device=device, mendable=True, state=state)


def mend(report: Report, tolerant: tuple[str, ...] = TOLERANT, **policy: str) -> Decision:
    return decide(report, {**DEFAULT_POLICY, "fail": "mend", **policy}, tolerant)


def note(report: Report, tolerant: tuple[str, ...] = TOLERANT) -> str:
    decision = mend(report, tolerant)
    assert (decision.action, decision.mend) == ("block", ())
    assert decision.note.startswith("not mended: ")
    return decision.note


def test_codes_used_here_have_the_verdicts_meant() -> None:
    assert {verdict: CODES[code].verdict for verdict, code in CODE.items()} == {
        verdict: verdict for verdict in VERDICTS
    }


@pytest.mark.parametrize(
    ("verdict", "action"),
    [(v, a) for v, choices in CHOICES.items() for a in choices if a != "mend"],
)
def test_every_choice_for_every_verdict(verdict: str, action: str) -> None:
    report = make_report(make_device_report(CODE[verdict]))
    assert decide(report, {**DEFAULT_POLICY, verdict: action}, ()) == Decision(action)


@pytest.mark.parametrize(
    ("verdict", "action"),
    [("pass", "annotate"), ("tolerated", "annotate"), ("unknown", "annotate"), ("fail", "block")],
)
def test_defaults(verdict: str, action: str) -> None:
    assert decide(make_report(make_device_report(CODE[verdict])), {}, ()).action == action


@pytest.mark.parametrize("verdict", ["pass", "tolerated", "unknown"])
def test_mending_is_for_what_fails(verdict: str) -> None:
    assert mend(make_report(make_device_report(CODE[verdict]))) == Decision("annotate")


def test_guest_without_devices_passes() -> None:
    assert decide(make_report(), DEFAULT_POLICY, ()).action == "annotate"


def test_findings_on_the_guest_count() -> None:
    report = make_report(findings=(Finding(CODES["machine-missing"], "no pc-q35-11.1"),))
    assert decide(report, DEFAULT_POLICY, ()) == Decision("block")
    assert note(report) == "not mended: no pc-q35-11.1"


@pytest.mark.parametrize(
    ("policy", "action"),
    [
        ({"fail": "annotate", "unknown": "block"}, "block"),
        ({"fail": "allow", "unknown": "annotate"}, "annotate"),
        ({"fail": "allow", "unknown": "allow"}, "allow"),
        ({"fail": "mend", "unknown": "block"}, "block"),
    ],
)
def test_strictest_wish_of_all_devices_is_granted(policy: dict[str, str], action: str) -> None:
    unknown = make_device_report("source-unknown", device=make_device("other", alias="hostdev1"))
    report = make_report(make_mendable(), unknown)
    assert decide(report, {**DEFAULT_POLICY, **policy}, TOLERANT).action == action


@pytest.mark.parametrize("action", ["allow", "annotate", "block", "mend"])
def test_what_hangs_qemu_is_blocked_whatever_the_policy(action: str) -> None:
    report = make_report(make_device_report("evidence-weak", "realise-hang"))
    decision = decide(report, {**DEFAULT_POLICY, "unknown": "allow", "fail": action}, ("10de:*",))
    assert (decision.action, decision.mend) == ("block", ())
    assert ("whatever the policy" in decision.note) == (action in ("allow", "annotate"))


# --- mend ----------------------------------------------------------------------------------------


def test_mend() -> None:
    assert mend(make_report(make_mendable())) == Decision("mend", ("hostdev0",))


def test_mend_as_a_configuration_file_says_it() -> None:
    """A string of its own, equal to the constant but not the same object."""
    assert mend(make_report(make_mendable()), fail="".join("mend")) == mend(
        make_report(make_mendable())
    )


def test_mend_exactly_the_devices_that_fail() -> None:
    passing = make_device_report("config-identical", device=make_device("b", alias="hostdev1"))
    report = make_report(make_mendable(), passing, make_mendable("ua-gpu"))
    assert mend(report).mend == ("hostdev0", "ua-gpu")


def test_mend_with_an_unknown_device_that_may_pass() -> None:
    unknown = make_device_report("source-unknown", device=make_device("b", alias="hostdev1"))
    assert mend(make_report(make_mendable(), unknown)) == Decision("mend", ("hostdev0",))


def test_not_mended_device_that_is_not_listed() -> None:
    report = make_report(make_mendable())
    assert note(report, ()) == "not mended: hostdev0 is not listed under vsc-tolerant"
    assert "not listed" in note(report, ("10de:1eb9", "15b3:*"))


def test_not_mended_more_than_the_vsc_differs() -> None:
    codes = ("config-differs", "vsc-body-differs")
    assert note(make_report(make_device_report(*codes))) == (
        "not mended: more than Vendor Specific Information differs on hostdev0"
    )


@pytest.mark.parametrize("code", [c for c in CODES if CODES[c].verdict == "fail"])
def test_not_mended_for_any_other_failure(code: str) -> None:
    if code == "vsc-body-differs":
        return
    report = make_report(make_device_report("vsc-body-differs", code, mendable=True))
    assert "more than Vendor Specific Information" in note(report)


def test_not_mended_what_cannot_be_set() -> None:
    told = note(make_report(make_device_report("vsc-body-differs")))
    assert told.startswith("not mended: skip-vsc-check cannot be set on hostdev0: ")


@pytest.mark.parametrize(
    "device", [make_device(kind="commandline"), make_device(kind="pci", alias=None)]
)
def test_not_mended_on_the_command_line(device: GuestDevice) -> None:
    report = make_device_report("vsc-body-differs", mendable=True)._replace(device=device)
    assert "QEMU command line" in note(make_report(report))


def test_not_mended_if_one_of_two_cannot_be() -> None:
    other = make_state(make_config(vendor=0x15B3))
    report = make_report(make_mendable(), make_mendable("hostdev1", other))
    assert "hostdev1 is not listed" in note(report)


# --- vsc-tolerant --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "tolerant"),
    [
        (("10de:1eb8",), True),
        (("10de:*",), True),
        (("15b3:101e", "10de:1eb8"), True),
        ((), False),
        (("10de:1eb9",), False),
        (("*:1eb8", "*", "10de"), False),
    ],
)
def test_is_tolerant(patterns: tuple[str, ...], tolerant: bool) -> None:
    assert is_tolerant(make_mendable(), patterns) == tolerant


def test_is_tolerant_asks_both_sides() -> None:
    report = make_mendable()._replace(source=make_state(make_config(device=0x1EB9)))
    assert not is_tolerant(report, ("10de:1eb8",))
    assert is_tolerant(report, ("10de:1eb8", "10de:1eb9"))


# --- verdicts ------------------------------------------------------------------------------------


def test_worst() -> None:
    assert worst([]) == "pass"
    assert worst(["tolerated", "pass"]) == "tolerated"
    assert worst(["unknown", "tolerated", "pass"]) == "unknown"
    assert worst(["unknown", "fail", "pass"]) == "fail"


def test_choices_are_complete() -> None:
    assert tuple(CHOICES) == VERDICTS
    assert {action for choices in CHOICES.values() for action in choices} == set(STRICTNESS)
    assert all("mend" not in CHOICES[verdict] for verdict in VERDICTS if verdict != "fail")
    assert "block" not in CHOICES["pass"]


def test_mending_minds_no_findings_that_pass() -> None:
    device = make_mendable()
    passing = Finding(CODES["skip-vsc-check"], "skip-vsc-check is off")
    device = device._replace(findings=(passing, *device.findings, passing))
    old = Finding(CODES["machine-deprecated"], "old")
    assert mend(make_report(device, findings=(old,))) == Decision("mend", ("hostdev0",))


# --- the guest's own policy ----------------------------------------------------------------------


@pytest.mark.parametrize("override", ["stricter", "yes"])
def test_guest_policy_overrides_the_hosts(override: str) -> None:
    asked = {"unknown": "block"}
    report, policy = with_guest_policy(make_report(), DEFAULT_POLICY, asked, override)
    assert report == make_report()
    assert policy == {**DEFAULT_POLICY, "unknown": "block"}


def test_guest_policy_does_not_count_where_the_operator_says_so() -> None:
    for asked in ({"unknown": "block"}, {"fail": "allow"}, {"fial": "x"}):
        told = with_guest_policy(make_report(), {"fail": "block"}, asked, "no")
        assert told == (make_report(), {"fail": "block"})


@pytest.mark.parametrize("verdict", CHOICES)
def test_guest_may_ask_for_more_and_never_for_less(verdict: str) -> None:
    """Every action that a host can have, against every one that a guest can ask for."""
    for host, asked in product(CHOICES[verdict], repeat=2):
        policy = {**DEFAULT_POLICY, verdict: host}
        report, found = with_guest_policy(make_report(), policy, {verdict: asked}, "stricter")
        is_less = STRICTNESS.index(asked) < STRICTNESS.index(host)
        assert found == ({**policy, verdict: host} if is_less else {**policy, verdict: asked})
        assert [f.code for f in report.findings] == ["guest-policy-refused"] * is_less
        assert with_guest_policy(make_report(), policy, {verdict: asked}, "yes") == (
            make_report(),
            {**policy, verdict: asked},
        )


def test_what_a_guest_asked_for_in_vain_is_told() -> None:
    """And what it asks for beside that counts; a host's policy may leave verdicts out."""
    asked = {"fail": "allow", "unknown": "block", "pass": "allow"}
    report, policy = with_guest_policy(make_report(), {}, asked, "stricter")
    assert policy == {"unknown": "block"}
    (finding,) = report.findings
    assert "asks for fail=allow, pass=allow, which is less strict than" in finding.text
    assert "host's fail=block, pass=annotate" in finding.text
    assert finding.verdict == "pass" and "guest-override = yes" in finding.remedy


@pytest.mark.parametrize(
    ("requested", "named", "others"),
    [
        ({"fail": "explode"}, "<policy fail='explode'>", ""),
        ({"pass": "mend", "fial": "block"}, "<policy pass='mend'>", " (and 1 more)"),
        ({"a": "b", "c": "d", "e": "f", "fail": "allow"}, "<policy a='b'>", " (and 2 more)"),
    ],
)
def test_guest_policy_that_does_not_exist_is_ignored(
    requested: dict[str, str], named: str, others: str
) -> None:
    report, policy = with_guest_policy(make_report(), DEFAULT_POLICY, requested, "yes")
    usable = {"fail": "allow"} if requested.get("fail") == "allow" else {}
    assert policy == {**DEFAULT_POLICY, **usable}
    (finding,) = report.findings
    assert finding.code == "guest-policy-unusable"
    assert finding.text.startswith(f"{named}{others} in ")


# --- mended ahead --------------------------------------------------------------------------------


def make_unknown(ahead: tuple[str, ...] = ("10de:1eb8",), kind: str = "pci") -> DeviceReport:
    report = make_device_report("destination-unknown", device=make_device(kind=kind))
    return report._replace(destination=None, ahead=ahead)


def test_device_without_a_state_is_mended_ahead() -> None:
    report = make_report(make_unknown())
    decision = mend(report)
    assert decision == Decision("annotate", ("hostdev0",))
    (device,) = with_mended_ahead(report, decision).devices
    assert [finding.code for finding in device.findings] == ["destination-unknown", "mended-ahead"]
    assert "what the device presents here" in device.findings[1].text


def test_mended_ahead_beside_a_device_that_fails() -> None:
    other = make_unknown()._replace(device=make_device(key="k", alias="hostdev1"))
    assert mend(make_report(make_mendable(), other)) == Decision("mend", ("hostdev0", "hostdev1"))


@pytest.mark.parametrize(
    ("device", "policy", "tolerant"),
    [
        (make_unknown(), {"fail": "block"}, TOLERANT),
        (make_unknown(), {}, ("15b3:*",)),
        (make_unknown(()), {}, TOLERANT),
        (make_unknown(("10de:1eb8", "10de:2236")), {}, TOLERANT),
        (make_unknown(kind="commandline"), {}, TOLERANT),
    ],
    ids=["no mend", "not listed", "not known", "one not listed", "command line"],
)
def test_nothing_is_mended_ahead_without_the_operators_word(
    device: DeviceReport, policy: dict[str, str], tolerant: tuple[str, ...]
) -> None:
    report = make_report(device)
    decision = mend(report, tolerant, **policy)
    assert decision == Decision("annotate")
    assert with_mended_ahead(report, decision) == report


def test_blocked_guest_is_not_mended_ahead() -> None:
    assert mend(make_report(make_unknown()), unknown="block") == Decision("block")


def test_guest_policy_is_quoted_in_part() -> None:
    """The guest's XML may hold a name or an action of any length."""
    asked = {"v" * 90: "a" * 90}
    report, _ = with_guest_policy(make_report(), DEFAULT_POLICY, asked, "stricter")
    (finding,) = report.findings
    assert finding.text.startswith(f"<policy {'v' * 40}='{'a' * 40}'> ")

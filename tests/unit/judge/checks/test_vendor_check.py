"""Vendors' rules, applied to a device's traits on both sides (checks.vendor)."""

from __future__ import annotations

import pytest

from unit.host.hosts import MDEV, VF
from unit.makers import make_context, make_device, make_facts, make_rule, make_state
from vfio_preflight.guest.record import RecordEntry
from vfio_preflight.guest.traits import Traits, VendorRule
from vfio_preflight.judge.checks.vendor import check_vendor
from vfio_preflight.judge.facts import DeviceFacts
from vfio_preflight.judge.findings import Finding
from vfio_preflight.judge.model import preflight

NEWER = VF._replace(firmware="24.40.1000")
VERSION = make_rule(drivers=("nvidia",), vendor="10de", trait="driver-version", condition="differs")
BRANCH = VERSION._replace(condition="branch-differs")
REMINDER = make_rule(trait="", condition="always")


def known(there: Traits, here: Traits) -> DeviceFacts:
    entry = RecordEntry(make_state(), traits=there)
    return DeviceFacts(make_device(), make_state(), make_state(), entry, traits=here)


def found(there: Traits, here: Traits, *rules: VendorRule) -> tuple[Finding, ...]:
    return check_vendor(make_context()._replace(rules=rules), known(there, here))


def test_difference() -> None:
    (finding,) = found(VF, NEWER, make_rule())
    assert (finding.code, finding.verdict) == ("vendor-rule", "pass")
    assert finding.text == (
        "firmware is 22.36.1010 by the guest's record and 24.40.1000 here: the destination may"
        " refuse it (DOCA 2.9.3, 2026)"
    )
    assert finding.remedy == "use equal firmware"


def test_rule_that_leaves_the_verdict_open() -> None:
    (finding,) = found(VF, NEWER, make_rule(undecided=True))
    assert (finding.code, finding.verdict) == ("vendor-rule-undecided", "unknown")


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (VF, VF),
        (VF, VF._replace(firmware="")),
        (VF._replace(firmware=""), VF),
        (VF, Traits()),
        (Traits(), NEWER),
        (VF, NEWER._replace(vendor="10de")),
        (VF._replace(vendor=""), NEWER),
        (VF, NEWER._replace(driver="vfio-pci")),
        (VF._replace(driver="vfio-pci"), NEWER),
        (VF, NEWER._replace(device="1018")),
        (VF._replace(device="1018"), NEWER),
    ],
)
def test_what_is_equal_missing_or_of_other_devices(there: Traits, here: Traits) -> None:
    assert found(there, here, make_rule(devices=("101e",))) == ()


def test_driver_and_module_are_one() -> None:
    hyphens = "mlx5-vfio-pci"
    assert found(VF._replace(driver=hyphens), NEWER._replace(driver=hyphens), make_rule())


@pytest.mark.parametrize(
    ("there", "here", "expected"),
    [
        ("550.54.16", "550.54.16", (False, False)),
        ("550.54.16", "550.90.05", (True, False)),
        ("550.54.16", "570.10", (True, True)),
        ("550.54.16", "srcversion:A1B2", (True, False)),
        ("srcversion:A.1", "srcversion:B.1", (True, False)),
        ("linux:6.1.0", "linux:7.1.0", (True, False)),
        ("550", "570", (True, False)),
        ("550.54.16", "", (False, False)),
        ("\u0665.1", "550.1", (True, False)),
    ],
)
def test_branches(there: str, here: str, expected: tuple[bool, bool]) -> None:
    sides = MDEV._replace(driver_version=there), MDEV._replace(driver_version=here)
    assert (bool(found(*sides, VERSION)), bool(found(*sides, BRANCH))) == expected


def test_versions_of_two_drivers_are_not_compared() -> None:
    """Before libvirt binds it to its VFIO driver, the destination's device has the host's."""
    drivers = ("mlx5_vfio_pci", "mlx5_core")
    here = NEWER._replace(driver="mlx5_core", driver_version="srcversion:C3D4")
    versions = make_rule(drivers=drivers, trait="driver-version")
    assert found(VF, here, versions) == ()
    assert found(VF, here, make_rule(drivers=drivers))
    assert found(VF, here._replace(driver=VF.driver), versions)


def test_reminder() -> None:
    for here in (VF, Traits()):
        (finding,) = found(VF, here, REMINDER)
        assert finding.text == "the destination may refuse it (DOCA 2.9.3, 2026)"
    assert found(VF._replace(driver="vfio-pci"), VF, REMINDER) == ()


def test_reminder_says_what_is_not_known() -> None:
    (finding,) = found(VF, Traits(), REMINDER._replace(trait="firmware"))
    assert "firmware is 22.36.1010 by the guest's record and not known here: " in finding.text


def test_every_rule_that_applies() -> None:
    assert len(found(VF, NEWER, make_rule(), VERSION, REMINDER)) == 2


def test_without_a_record_or_unplugged() -> None:
    facts = known(VF, NEWER)
    context = make_context()._replace(rules=(make_rule(), REMINDER))
    assert check_vendor(context, facts._replace(entry=None)) == ()
    device = make_device(properties={"failover_pair_id": "net0"})
    assert check_vendor(make_context(device=device)._replace(rules=context.rules), facts) == ()


def test_text_of_a_record_is_made_printable_and_cut() -> None:
    (finding,) = found(VF._replace(firmware="\x1b[2J\n" + "9" * 1000), NEWER, make_rule())
    assert finding.text.isprintable() and len(finding.text) < 400


@pytest.mark.parametrize(("undecided", "verdict"), [(False, "pass"), (True, "unknown")])
def test_in_a_report(undecided: bool, verdict: str) -> None:
    facts = make_facts()._replace(
        devices=(known(VF, NEWER),),
        rules=(make_rule(undecided=undecided),),
        rule_problems=("/x.ini: broken",),
    )
    report = preflight(facts)
    assert report.verdict == verdict
    assert report.devices[0].findings[1].text.startswith("firmware is 22.36.1010")
    (unread,) = report.findings
    assert (unread.code, unread.verdict) == ("vendor-rules-unread", "pass")
    assert unread.text == "vendors' rules are ignored: /x.ini: broken"

from __future__ import annotations

import pytest

from lab.configs import make_config, patched
from unit.makers import (
    EMULATOR,
    HOST,
    PMC,
    UNASKED,
    VSC_BODY,
    differing,
    make_context,
    make_device,
    make_emulator,
    make_facts,
    make_guest,
    make_state,
)
from vfio_preflight.guest.domain import Global, Guest, GuestDevice
from vfio_preflight.judge.codes import CODES
from vfio_preflight.judge.findings import DeviceReport, Finding
from vfio_preflight.judge.model import preflight
from vfio_preflight.pci.state import DAMAGED, NOT_MIGRATABLE, UNKNOWN, Missing, State
from vfio_preflight.qemu.emulator.machines import EmulatorFacts


def judged(
    destination: State,
    guest: Guest | None = None,
    emulator: EmulatorFacts | Missing | None = None,
    source: State | None = None,
) -> DeviceReport:
    return preflight(make_facts(source, destination, guest, emulator)).devices[0]


def codes(report: DeviceReport) -> list[str]:
    return [finding.code for finding in report.findings]


def told(report: DeviceReport) -> str:
    (finding,) = [f for f in report.findings if f.code == "skip-vsc-check"]
    return finding.text


def test_equal_states_pass() -> None:
    report = preflight(make_facts())
    assert report.verdict == "pass"
    assert (report.guest, report.machine) == ("g1", "pc-q35-9.0")
    assert report.emulator == f"QEMU 10.0.2 ({EMULATOR})"
    assert codes(report.devices[0]) == ["config-identical", "skip-vsc-check"]
    assert report.devices[0].source == report.devices[0].destination == make_state()


MDEV = "c0ffee00-1111-4222-8333-444455556666"


@pytest.mark.parametrize(
    ("kind", "host", "mdev"),
    [
        ("mdev", MDEV, True),
        ("commandline", MDEV, True),
        ("mdev", None, True),
        ("pci", HOST, False),
        ("commandline", None, False),
    ],
)
def test_model_is_told_of_mediated_devices(kind: str, host: str | None, mdev: bool) -> None:
    device = make_device(kind=kind, host=host)
    assert make_context(device=device).environment.mdev is mdev


@pytest.mark.parametrize(
    ("machine", "verdict", "mendable"),
    [("pc-q35-9.0", "fail", True), ("pc-q35-9.1", "tolerated", False)],
)
def test_vsc_body(machine: str, verdict: str, mendable: bool) -> None:
    report = judged(differing(VSC_BODY), make_guest(machine=machine))
    assert (report.verdict, report.mendable) == (verdict, mendable)
    assert bool(report.quote) == (verdict == "fail")


@pytest.mark.parametrize("machine", ["pc-q35-9.0", "pc-q35-9.1"])
def test_other_byte_fails_on_every_machine_type(machine: str) -> None:
    report = judged(differing(PMC), make_guest(machine=machine))
    assert (report.verdict, report.mendable) == ("fail", False)


def test_says_where_skip_vsc_check_comes_from() -> None:
    state = make_state()
    assert told(judged(state)) == (
        "skip-vsc-check is off (compat table of machine type pc-q35-9.0)"
    )
    assert told(judged(state, emulator=UNASKED)).startswith("skip-vsc-check is not known")
    assert "on (default of QEMU 10.0.2)" in told(judged(state, make_guest(machine="q35")))


# --- what is not known ---------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["source", "destination"])
def test_missing_state_is_unknown(side: str) -> None:
    missing = Missing(UNKNOWN, "no record", "make one")
    here, there = (missing, make_state()) if side == "source" else (make_state(), missing)
    report = judged(there, source=here)
    assert report.verdict == "unknown"
    (finding,) = report.findings
    assert finding == Finding(CODES[f"{side}-unknown"], "no record", "make one")
    assert getattr(report, side) is None


def test_both_states_missing_are_both_told() -> None:
    missing = (Missing(UNKNOWN, "a"), Missing(UNKNOWN, "b"))
    assert codes(judged(missing[1], source=missing[0])) == ["source-unknown", "destination-unknown"]


def test_emulator_that_could_not_be_asked() -> None:
    report = preflight(make_facts(emulator=UNASKED))
    assert report.findings == (Finding(CODES["emulator-unknown"], *UNASKED[1:]),)
    assert (report.verdict, report.emulator) == ("unknown", EMULATOR)
    assert codes(report.devices[0]) == ["config-identical", "skip-vsc-check"]


def test_vsc_body_with_an_emulator_that_could_not_be_asked() -> None:
    report = judged(differing(VSC_BODY), emulator=UNASKED)
    assert (report.verdict, report.quote) == ("unknown", "")
    assert "vsc-check-undecided" in codes(report)


def test_hard_mismatch_needs_no_emulator() -> None:
    report = judged(differing(PMC), emulator=UNASKED)
    assert report.verdict == "fail" and "i=0x42" in report.quote


@pytest.mark.parametrize(
    ("kind", "code"), [(DAMAGED, "record-damaged"), (NOT_MIGRATABLE, "device-not-migratable")]
)
def test_kind_of_what_is_missing(kind: str, code: str) -> None:
    assert codes(judged(make_state(), source=Missing(kind, "x"))) == [code]


def test_findings_on_the_guest() -> None:
    guest = make_guest(machine="pc-q35-8.2", unresolved=("vfs",))
    facts = make_facts(guest=guest)._replace(strays=("x",), image_problems=("cut short",))
    assert [f.code for f in preflight(facts).findings] == [
        *("machine-deprecated", "record-stray", "network-unresolved", "image-unread"),
    ]


def test_machine_missing_fails_whatever_the_devices_say() -> None:
    report = preflight(make_facts(guest=make_guest(machine="pc-q35-11.1")))
    assert report.verdict == "fail"
    assert report.devices[0].verdict == "pass"


def test_what_hangs_qemu_is_told_however_little_else_is_known() -> None:
    hanging = make_state(b"\xff" * 256, evidence="sysfs")
    weak = preflight(make_facts(destination=hanging)._replace(evidence="vfio")).devices[0]
    assert codes(weak)[:3] == ["evidence-weak", "evidence-weak", "realise-hang"]
    unknown = judged(hanging, source=Missing(UNKNOWN, "no record"))
    assert codes(unknown) == ["source-unknown", "realise-hang"]
    assert weak.verdict == unknown.verdict == "fail"


# --- several devices -----------------------------------------------------------------------------


def test_each_device_is_judged_by_itself() -> None:
    devices = (make_device("a", alias="hostdev0"), make_device("b", alias="hostdev1"))
    facts = make_facts(guest=make_guest(*devices))
    first, second = facts.devices
    facts = facts._replace(devices=(first._replace(destination=differing(VSC_BODY)), second))
    report = preflight(facts)
    assert [device.verdict for device in report.devices] == ["fail", "pass"]
    assert report.verdict == "fail"


def test_failover_device_is_not_compared() -> None:
    device = make_device(properties={"failover_pair_id": "ua-net0"})
    missing = Missing(UNKNOWN, "no record")
    report = judged(differing(PMC), make_guest(device), UNASKED, source=missing)
    assert (codes(report), report.verdict) == (["failover-unplugged"], "pass")


# --- mending -------------------------------------------------------------------------------------


def mendable(device: GuestDevice, emulator: EmulatorFacts | None = None, *nets: str) -> bool:
    guest = make_guest(device, unresolved=nets)
    return judged(differing(VSC_BODY), guest, emulator).mendable


def test_mendable() -> None:
    assert mendable(make_device())


def test_not_mendable_if_the_guest_sets_the_property() -> None:
    assert not mendable(make_device(properties={"skip-vsc-check": "off"}))


def test_not_mendable_without_the_property() -> None:
    assert not mendable(make_device(), make_emulator(version="9.0.4", skip_vsc_check=False))


def test_not_mendable_while_the_alias_may_shift() -> None:
    assert not mendable(make_device(), None, "vfs")
    assert mendable(make_device(alias="ua-gpu"), None, "vfs")


@pytest.mark.parametrize(
    ("device", "emulator", "part"),
    [
        (make_device(), None, "vsc-tolerant = 10de:1eb8"),
        (make_device(kind="commandline"), None, "skip-vsc-check=on to the guest's -device"),
        (make_device(alias=None), None, "skip-vsc-check=on to the guest's -device"),
        (make_device(), make_emulator(skip_vsc_check=False), "QEMU 9.1 or newer"),
    ],
)
def test_remedy(device: GuestDevice, emulator: EmulatorFacts | None, part: str) -> None:
    report = judged(differing(VSC_BODY), make_guest(device), emulator)
    assert part in report.findings[0].remedy


# --- what decides beside the bytes ---------------------------------------------------------------


def test_placement_counts() -> None:
    link = patched(make_config(), 0x84, 0xEE)
    for placement, verdict in (("root-port", "fail"), ("root-complex", "pass")):
        guest = make_guest(make_device(placement=placement))
        assert judged(make_state(link), guest).verdict == verdict


@pytest.mark.parametrize(("offset", "verdict"), [(0x84, "unknown"), (PMC, "fail"), (6, "pass")])
def test_assumed_placement(offset: int, verdict: str) -> None:
    """Link registers are compared behind a root port only."""
    device = make_device()._replace(assumption="the device has no PCI <address>")
    other = make_state(patched(make_config(), offset, make_config()[offset] ^ 0xE0))
    report = judged(other, make_guest(device))
    assert report.verdict == verdict
    assert ("placement-assumed" in codes(report)) == (verdict == "unknown")


def test_assumed_placement_is_told() -> None:
    device = make_device()._replace(assumption="the device has no PCI <address>")
    report = judged(make_state(patched(make_config(), 0x84, 0xEE)), make_guest(device))
    assert report.findings[0].text == (
        "the verdict depends on where the guest sees the device (the device has no PCI <address>):"
        " fail at root-port, pass at root-complex, pass at conventional"
    )
    assert (report.quote, report.mendable) == ("", False)


def test_nothing_is_assumed_where_every_bus_is_conventional() -> None:
    device = make_device(placement="conventional")._replace(assumption="x")
    report = judged(differing(0x84), make_guest(device, machine="pc-i440fx-9.0"))
    assert report.verdict == "fail"


def test_mending_where_the_placement_is_assumed() -> None:
    assert mendable(make_device()._replace(assumption="x"))


def test_kind_of_the_root_bus_counts() -> None:
    link = make_state(patched(make_config(), 0x84, 0xEE))
    device = make_device(placement="conventional")
    assert judged(link, make_guest(device)).verdict == "pass"
    assert judged(link, make_guest(device, machine="pc-i440fx-9.0")).verdict == "fail"


def test_properties_count() -> None:
    device = make_device(properties={"x-pci-vendor-id": "0x10de"})
    other = make_state(patched(make_config(), 0x00, 0xAA))
    assert judged(other, make_guest(device)).verdict == "pass"


@pytest.mark.parametrize(("version", "verdict"), [("9.2.0", "fail"), ("10.0.0", "pass")])
def test_release_counts(version: str, verdict: str) -> None:
    """Until QEMU 10.0 the PM capability reached to the next one."""
    device = differing(0x48)
    assert judged(device, emulator=make_emulator(version=version)).verdict == verdict


def test_property_that_qemu_does_not_take() -> None:
    device = make_device(properties={"x-pci-vendor-id": "nvidia", "host": HOST})
    report = judged(make_state(), make_guest(device))
    assert "property-invalid" in codes(report)
    assert report.verdict == "fail" and not report.mendable


def test_property_that_qemu_does_not_take_is_told_once() -> None:
    device = make_device(properties={"x-pci-vendor-id": "nvidia"})
    found = codes(judged(make_state(), make_guest(device)))
    assert found.count("property-invalid") == 1
    assert "property-invalid" in codes(judged(make_state(), make_guest(device), UNASKED))


def test_globals_count() -> None:
    ours = (Global("vfio-pci", "x-pci-vendor-id", "0x10de"),)
    other = make_state(patched(make_config(), 0x00, 0xAA))
    assert judged(other, make_guest(globals_=ours)).verdict == "pass"
    own = make_device(properties={"x-pci-vendor-id": "0xffffffff"})
    assert judged(other, make_guest(own, globals_=ours)).verdict == "fail"


def test_skip_vsc_check_of_the_wrong_type_is_not_in_force() -> None:
    device = make_device(properties={"skip-vsc-check": "on"}, form="string")
    report = judged(differing(VSC_BODY), make_guest(device))
    assert report.verdict == "fail" and "vsc-body-tolerated" not in codes(report)
    assert "property-invalid" in codes(report)


def test_unknown_property() -> None:
    device = make_device(properties={"x-new": "1"})
    assert "property-unknown" in codes(judged(make_state(), make_guest(device)))

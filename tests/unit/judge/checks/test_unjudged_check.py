"""Nothing judged is not a pass (checks.unjudged), nor is a foreign architecture (checks.arch)."""

from __future__ import annotations

import pytest

from unit.makers import EMULATOR, make_emulator, make_facts, make_guest
from vfio_preflight.guest.domain import Guest
from vfio_preflight.guest.unjudged import AP, NO_MODEL, SCSI_HOST, USB, Kind, Unjudged
from vfio_preflight.judge.checks.arch import check_arch
from vfio_preflight.judge.checks.unjudged import check_unjudged
from vfio_preflight.judge.findings import Report
from vfio_preflight.judge.model import preflight
from vfio_preflight.pci.state import UNKNOWN, Missing

NOT_ASKED = Missing(UNKNOWN, "it does not run")


def guest_with(*kinds: Kind, devices: bool = False) -> Guest:
    seen = tuple(Unjudged(kind, f"host{n}", f"hostdev{n}") for n, kind in enumerate(kinds))
    guest = make_guest()._replace(unjudged=seen)
    return guest if devices else guest._replace(devices=())


def judged(guest: Guest, saved: bool = False) -> Report:
    return preflight(make_facts(guest=guest)._replace(saved=saved))


def codes(guest: Guest, saved: bool = False) -> list[str]:
    return [finding.code for finding in check_unjudged(guest, saved)]


def test_guest_without_devices_is_never_a_pass() -> None:
    report = judged(guest_with())
    assert (report.verdict, report.is_of_nothing, report.devices) == ("unknown", True, ())
    assert "no VFIO PCI device: nothing was checked" in report.findings[-1].text


def test_guest_with_other_devices_alone_is_never_a_pass() -> None:
    report = judged(guest_with(USB, USB))
    assert report.verdict == "unknown"
    assert report.findings[-1].text.endswith("; not judged: 2 other devices")
    assert [device.kind.name for device in report.unjudged] == ["usb", "usb"]


def test_unresolved_network_may_provide_devices() -> None:
    report = judged(guest_with()._replace(unresolved=("pool",)))
    assert (report.verdict, report.is_of_nothing) == ("unknown", False)


def test_verdict_is_that_of_what_was_judged() -> None:
    report = judged(guest_with(USB, devices=True))
    assert (report.verdict, report.is_of_nothing, len(report.unjudged)) == ("pass", False, 1)


@pytest.mark.parametrize("kind", [AP, NO_MODEL, SCSI_HOST])
def test_known_refusal_is_told(kind: Kind) -> None:
    guest = guest_with(kind, USB, devices=True)
    assert codes(guest) == ["unjudged-refused"]
    (finding,) = check_unjudged(guest)
    assert kind.refusal in finding.text and "hostdev0 host0" in finding.text
    assert finding.remedy.startswith(kind.what)
    assert judged(guest).verdict == "unknown"


def test_kind_is_told_once() -> None:
    (finding,) = check_unjudged(guest_with(*[AP] * 5, devices=True))
    assert "hostdev2 host2 and 2 more" in finding.text and "host3" not in finding.text


def test_saved_guest_was_not_refused() -> None:
    """What QEMU refuses to send is in no image; what libvirt refuses cannot be restored either."""
    assert codes(guest_with(AP, devices=True), saved=True) == []
    assert codes(guest_with(NO_MODEL, devices=True), saved=True) == ["unjudged-refused"]
    assert judged(guest_with(AP), saved=True).verdict == "unknown", "nothing was judged"


# --- the architecture ----------------------------------------------------------------------------


def of_arch(arch: str, machine: str = "") -> Guest:
    machine = machine or ("pc-q35-9.0" if arch in ("x86_64", "i686") else "virt-9.0")
    return make_guest(machine=machine)._replace(arch=arch)


def arch_codes(guest: Guest, target: str = "") -> list[str]:
    emulator = make_emulator()._replace(target=target or guest.arch)
    return [finding.code for finding in check_arch(guest, emulator)]


@pytest.mark.parametrize(
    ("arch", "target", "expected"),
    [
        ("x86_64", "x86_64", []),
        ("i686", "x86_64", []),
        ("i686", "i386", []),
        ("aarch64", "aarch64", []),
        ("", "x86_64", []),
        ("aarch64", "x86_64", ["arch-mismatch"]),
        ("x86_64", "aarch64", ["arch-mismatch"]),
        ("x86_64", "i386", ["arch-mismatch"]),
        ("armv7l", "aarch64", []),
        ("armv7l", "arm", []),
        ("armv6l", "arm", ["arch-undecided"]),
        ("loongarch64", "loongarch64", []),
        ("riscv64", "riscv64", ["arch-undecided"]),
        ("riscv64", "x86_64", ["arch-mismatch", "arch-undecided"]),
    ],
)
def test_arch_and_target(arch: str, target: str, expected: list[str]) -> None:
    assert arch_codes(of_arch(arch), target) == expected


def test_foreign_architecture_fails() -> None:
    facts = make_facts(guest=of_arch("aarch64", "pc-q35-9.0"))
    facts = facts._replace(emulator=make_emulator()._replace(target="x86_64"))
    report = preflight(facts)
    assert report.verdict == "fail"
    text = next(f.text for f in report.findings if f.code == "arch-mismatch")
    assert "'aarch64'" in text and f"{EMULATOR} emulates x86_64" in text
    # That it lacks the machine type follows from that.
    facts = facts._replace(guest=of_arch("aarch64", "virt-9.0"))
    failed = [finding.code for finding in preflight(facts).findings if finding.verdict == "fail"]
    assert failed[0] == "arch-mismatch"
    assert "machine-missing" in failed


def test_target_that_is_not_known_decides_nothing() -> None:
    assert check_arch(of_arch("aarch64"), make_emulator()) == ()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/usr/bin/qemu-system-x86_64", ["arch-undecided"]),
        ("/usr/bin/qemu-system-aarch64", []),
        ("/usr/libexec/qemu-kvm", []),
    ],
)
def test_emulator_that_could_not_be_asked_has_a_name(path: str, expected: list[str]) -> None:
    guest = of_arch("aarch64")._replace(emulator=path)
    assert [finding.code for finding in check_arch(guest, NOT_ASKED)] == expected


@pytest.mark.parametrize(
    ("arch", "machine", "expected"),
    [
        ("x86_64", "vendor-board-1", []),  # its root bus is what the XML says
        ("aarch64", "raspi4b", ["arch-undecided"]),
        ("sparc64", "sun4u", ["arch-undecided"]),
        ("aarch64", "sbsa-ref", ["arch-undecided"]),
        ("x86_64", "microvm", []),
        ("loongarch64", "virt", []),
        ("riscv64", "virt", ["arch-undecided"]),
        # None is sent (checks.blockers), so none is compared.
        ("s390x", "s390-ccw-virtio-9.0", []),
        ("ppc64le", "pseries-9.0", []),
        ("ppc64", "powernv9", ["arch-undecided"]),
    ],
)
def test_boards(arch: str, machine: str, expected: list[str]) -> None:
    target = "ppc64" if arch == "ppc64le" else arch
    assert arch_codes(of_arch(arch, machine), target) == expected

from __future__ import annotations

import pytest

from unit.makers import UNASKED, make_context, make_device, make_emulator, make_guest, make_machine
from vfio_preflight.guest.domain import Global, GuestDevice
from vfio_preflight.judge.checks.machine import Effective, check_machine, skip_vsc_check
from vfio_preflight.qemu.emulator.machines import EmulatorFacts


def codes(machine: str, emulator: EmulatorFacts | None = None) -> list[str]:
    found = check_machine(make_guest(machine=machine), emulator or make_emulator())
    return [finding.code for finding in found]


# --- the machine type itself ---------------------------------------------------------------------


def test_machine_that_is_there() -> None:
    assert codes("pc-q35-9.0") == []


def test_machine_of_an_emulator_that_could_not_be_queried() -> None:
    (finding,) = check_machine(make_guest(), UNASKED)
    assert (finding.code, finding.text, finding.remedy) == ("emulator-unknown", *UNASKED[1:])


def test_machine_missing_names_the_newest_of_its_family() -> None:
    (finding,) = check_machine(make_guest(machine="pc-q35-11.1"), make_emulator())
    assert finding.code == "machine-missing"
    assert finding.text == (
        "the destination has no machine type pc-q35-11.1; the newest of its family there is"
        " pc-q35-10.0 (QEMU 10.0.2, /usr/bin/qemu-system-x86_64)"
    )
    assert "QEMU version that introduced the machine type" in finding.remedy
    assert "cannot change its machine type" in finding.remedy


@pytest.mark.parametrize("machine", ["pc-q35-2.4", "pc-q35-rhel9.6.0"])
def test_newer_qemu_does_not_help_a_machine_type_that_is_not_newer(machine: str) -> None:
    (finding,) = check_machine(make_guest(machine=machine), make_emulator())
    assert "; the newest of its family there is pc-q35-10.0 (QEMU" in finding.text
    assert "introduced" not in finding.remedy
    assert "QEMU drops old ones" in finding.remedy


def test_machine_missing_of_a_family_that_is_not_there() -> None:
    (finding,) = check_machine(make_guest(machine="virt-10.0"), make_emulator())
    assert finding.text.startswith("the destination has no machine type virt-10.0 (QEMU")
    assert "introduced" not in finding.remedy


def test_machine_alias() -> None:
    (finding,) = check_machine(make_guest(machine="q35"), make_emulator())
    assert finding.code == "machine-alias"
    assert "it means pc-q35-10.0" in finding.text


def test_machine_deprecated() -> None:
    assert codes("pc-q35-8.2") == ["machine-deprecated"]


def test_machine_of_an_emulator_without_compat_props() -> None:
    emulator = make_emulator(version="9.0.4", compat_props_known=False)
    assert codes("pc-q35-9.0", emulator) == ["compat-unknown"]


@pytest.mark.parametrize(("version", "too_old"), [("7.2.22", True), ("8.0.0", False)])
def test_emulator_that_speaks_no_migration_protocol_of_today(version: str, too_old: bool) -> None:
    found = codes("pc-q35-9.0", make_emulator(version=version))
    assert found == (["emulator-too-old"] if too_old else [])


# --- skip-vsc-check: its value and where it comes from -------------------------------------------


def effective(
    machine: str = "pc-q35-9.0",
    device: GuestDevice | None = None,
    emulator: EmulatorFacts | None = None,
    globals_: tuple[Global, ...] = (),
) -> Effective:
    device = device or make_device()
    guest = make_guest(device, machine=machine, globals_=globals_)
    return skip_vsc_check(make_context(guest, device, emulator or make_emulator()))


def setting(value: str, driver: str = "vfio-pci") -> tuple[Global, ...]:
    return (Global(driver, "skip-vsc-check", value),)


def test_default() -> None:
    assert effective("pc-q35-9.1") == Effective(True, "default of QEMU 10.0.2")


def test_default_of_an_alias() -> None:
    assert effective("q35").value is True


def test_compat_table() -> None:
    assert effective("pc-q35-9.0") == Effective(False, "compat table of machine type pc-q35-9.0")


@pytest.mark.parametrize("driver", ["vfio-pci", "vfio-pci-nohotplug"])
def test_compat_table_reaches_the_child_type(driver: str) -> None:
    assert effective(device=make_device(driver=driver)).value is False


def test_compat_table_of_a_distributor() -> None:
    entry = ("vfio-pci", "skip-vsc-check", "on")
    emulator = make_emulator(make_machine("pc-q35-rhel9.4.0", entry))
    assert effective("pc-q35-rhel9.4.0", emulator=emulator).value is True


def test_global_beats_the_compat_table() -> None:
    found = effective(globals_=setting("on"))
    assert found == Effective(True, "-global vfio-pci.skip-vsc-check=on")


def test_last_global_counts() -> None:
    assert effective("pc-q35-9.1", globals_=setting("on") + setting("off")).value is False


@pytest.mark.parametrize(
    ("device_driver", "global_driver", "reaches"),
    [
        ("vfio-pci", "vfio-pci", True),
        ("vfio-pci-nohotplug", "vfio-pci", True),
        ("vfio-pci-nohotplug", "vfio-pci-nohotplug", True),
        ("vfio-pci", "vfio-pci-nohotplug", False),
        ("vfio-pci", "virtio-net-pci", False),
    ],
)
def test_global_reaches(device_driver: str, global_driver: str, reaches: bool) -> None:
    device = make_device(driver=device_driver)
    assert effective(device=device, globals_=setting("on", global_driver)).value == reaches


def test_global_that_is_no_boolean() -> None:
    found = effective(globals_=setting("1"))
    assert found.value is None and "skip-vsc-check=1 has '1'" in found.origin


def test_explicit_of_another_type() -> None:
    """In JSON form QEMU takes a boolean only."""
    device = make_device(properties={"skip-vsc-check": "on"}, form="string")
    assert effective(device=device).value is None


def test_global_of_another_property() -> None:
    assert effective(globals_=(Global("vfio-pci", "x-no-mmap", "on"),)).value is False


@pytest.mark.parametrize(
    ("value", "expected"), [("on", True), ("true", True), ("off", False), ("no", False)]
)
def test_explicit_beats_all(value: str, expected: bool) -> None:
    device = make_device(properties={"skip-vsc-check": value})
    opposite = setting("off" if expected else "on")
    found = effective(device=device, globals_=opposite)
    assert found == Effective(expected, "qemu:override")


def test_explicit_needs_no_emulator() -> None:
    device = make_device(properties={"skip-vsc-check": "on"})
    assert skip_vsc_check(make_context(device=device)).value is True


def test_explicit_that_is_no_boolean() -> None:
    found = effective(device=make_device(properties={"skip-vsc-check": "1"}))
    assert found.value is None and "'1', which is not a boolean" in found.origin


def test_emulator_without_the_property() -> None:
    emulator = make_emulator(version="9.0.4", skip_vsc_check=False)
    found = effective("pc-q35-9.0", emulator=emulator)
    assert found == Effective(False, "QEMU 9.0.4 has no such property and always compares")


def test_emulator_that_was_not_asked() -> None:
    found = skip_vsc_check(make_context())
    assert found == Effective(None, "the destination's emulator could not be queried")


def test_emulator_that_does_not_tell_its_compat_table() -> None:
    found = effective("pc-q35-9.0", emulator=make_emulator(compat_props_known=False))
    assert found.value is None


def test_machine_that_is_not_there() -> None:
    assert effective("pc-q35-11.1").value is None
    assert effective("pc-q35-11.1", globals_=setting("on")).value is True

from __future__ import annotations

from collections.abc import Mapping

import pytest

from unit.makers import make_context, make_device, make_emulator, make_guest, make_state
from vfio_preflight.guest.domain import Global
from vfio_preflight.judge.checks.device import check_device
from vfio_preflight.judge.facts import DeviceFacts
from vfio_preflight.judge.findings import Finding
from vfio_preflight.qemu.emulator.machines import EmulatorFacts
from vfio_preflight.qemu.model.properties import BOOLEAN, NUMBER, STRING, TEXT

EMULATOR = make_emulator()


def findings(
    properties: Mapping[str, str],
    emulator: EmulatorFacts | None = EMULATOR,
    form: str = TEXT,
    globals_: tuple[Global, ...] = (),
    driver: str = "vfio-pci",
) -> tuple[Finding, ...]:
    device = make_device(properties=properties, form=form, driver=driver)
    context = make_context(make_guest(device, globals_=globals_), device, emulator)
    return check_device(context, DeviceFacts(device, make_state(), make_state()))


def codes(
    properties: Mapping[str, str],
    emulator: EmulatorFacts | None = EMULATOR,
    globals_: tuple[Global, ...] = (),
) -> list[str]:
    return [finding.code for finding in findings(properties, emulator, globals_=globals_)]


def test_nothing_to_say() -> None:
    assert codes({}) == []
    assert codes({"host": "06:00.4", "rombar": "0"}) == []


def test_options_of_device_are_no_properties() -> None:
    assert codes({"bus": "pci.1", "id": "x"}) == []


def test_unknown_property() -> None:
    (finding,) = findings({"x-new": "on"})
    assert finding.code == "property-unknown"
    assert finding.text.startswith(
        "property x-new (from qemu:override) does not exist for vfio-pci"
    )
    assert "remove x-new" in finding.remedy


def test_unknown_properties_of_an_emulator_that_was_not_asked() -> None:
    assert codes({"x-new": "on"}, None) == []


def test_migration_disabled() -> None:
    (finding,) = findings({"enable-migration": "off"})
    assert finding.code == "migration-disabled"
    assert "Migration is disabled for VFIO device" in finding.text


@pytest.mark.parametrize("value", ["on", "auto"])
def test_migration_enabled(value: str) -> None:
    assert codes({"enable-migration": value}) == []


@pytest.mark.parametrize("value", ["maybe", "true", "yes", "no", ""])
@pytest.mark.parametrize("emulator", [EMULATOR, None])
def test_enable_migration_with_a_value_qemu_does_not_take(
    value: str, emulator: EmulatorFacts | None
) -> None:
    """Unlike a boolean it knows three words only."""
    (finding,) = findings({"enable-migration": value}, emulator)
    assert finding.code == "property-invalid"
    assert f"enable-migration (from qemu:override) is '{value}'" in finding.text
    assert f"does not accept value '{value}'" in finding.text


@pytest.mark.parametrize("emulator", [EMULATOR, None])
def test_skip_vsc_check_that_is_no_boolean(emulator: EmulatorFacts | None) -> None:
    (finding,) = findings({"skip-vsc-check": "maybe"}, emulator)
    assert finding.code == "property-invalid"
    assert "\"Parameter 'skip-vsc-check' expects 'on' or 'off'\"" in finding.text
    assert finding.remedy == "correct skip-vsc-check in the guest"


@pytest.mark.parametrize(("value", "form"), [("on", STRING), ("1", NUMBER), ("0", NUMBER)])
def test_property_of_another_type_in_json(value: str, form: str) -> None:
    (finding,) = findings({"skip-vsc-check": value}, form=form)
    assert finding.code == "property-invalid"
    assert "Invalid parameter type for 'skip-vsc-check', expected: boolean" in finding.text
    assert finding.remedy.endswith("in a <qemu:property> by type='bool'")


def test_property_of_its_type_in_json() -> None:
    assert findings({"skip-vsc-check": "on"}, form=BOOLEAN) == ()


def test_unknown_property_is_not_invalid_too() -> None:
    emulator = make_emulator(skip_vsc_check=False)
    assert codes({"skip-vsc-check": "maybe"}, emulator) == ["property-unknown"]


# --- -global -------------------------------------------------------------------------------------


def flag(name: str, value: str, driver: str = "vfio-pci") -> tuple[Global, ...]:
    return (Global(driver, name, value),)


def test_global_of_an_unknown_property() -> None:
    (finding,) = findings({}, globals_=flag("nosuch", "on"))
    assert finding.code == "property-unknown"
    assert "nosuch (from -global vfio-pci.nosuch=on)" in finding.text


def test_global_knows_no_options_of_device() -> None:
    assert codes({}, globals_=flag("bus", "pci.1")) == ["property-unknown"]


def test_global_that_disables_migration() -> None:
    disabled = flag("enable-migration", "off")
    assert codes({}, globals_=disabled) == ["migration-disabled"]
    assert codes({"enable-migration": "on"}, globals_=disabled) == []
    assert codes({}, globals_=disabled + flag("enable-migration", "auto")) == []


def test_every_global_must_be_valid() -> None:
    """QEMU applies also those that others and the device's own properties override."""
    wrong = flag("skip-vsc-check", "1")
    for more, own in (((), {}), (flag("skip-vsc-check", "on"), {}), ((), {"skip-vsc-check": "on"})):
        (finding,) = findings(own, globals_=wrong + more)
        assert finding.code == "property-invalid"
        assert "(from -global vfio-pci.skip-vsc-check=1)" in finding.text


@pytest.mark.parametrize(
    ("driver", "of", "reached"),
    [
        ("vfio-pci", "vfio-pci", True),
        ("vfio-pci-nohotplug", "vfio-pci", True),
        ("vfio-pci", "pci-device", True),
        ("vfio-pci", "vfio-pci-nohotplug", False),
        ("vfio-pci", "virtio-net-pci", False),
    ],
)
@pytest.mark.parametrize("emulator", [EMULATOR, None])
def test_global_reaches_what_descends_from_its_type(
    driver: str, of: str, reached: bool, emulator: EmulatorFacts | None
) -> None:
    given = flag("enable-migration", "off", of)
    found = findings({}, emulator, globals_=given, driver=driver)
    assert bool(found) == reached


def test_lineage_is_the_emulators_word() -> None:
    emulator = make_emulator()
    lineage = {"vfio-pci": ("vfio-pci", "vfio-pci-device", "device")}
    given = flag("enable-migration", "off", "vfio-pci-device")
    assert not findings({}, emulator, globals_=given)
    assert findings({}, emulator._replace(lineage=lineage), globals_=given)


def test_own_properties_go_before_globals() -> None:
    device = make_device(properties={"rombar": "1"})
    guest = make_guest(device, globals_=flag("rombar", "0") + flag("x-pci-vendor-id", "5"))
    found = make_context(guest, device, EMULATOR).properties
    assert {name: each.value for name, each in found.items()} == {
        "rombar": "1",
        "x-pci-vendor-id": "5",
    }
    assert found["x-pci-vendor-id"].origin == "-global vfio-pci.x-pci-vendor-id=5"


def test_failover_primary() -> None:
    device = make_device(properties={"failover_pair_id": "ua-net0"})
    assert make_context(device=device).is_unplugged_to_migrate
    assert not make_context().is_unplugged_to_migrate
    assert codes({"failover_pair_id": "ua-net0"}, None) == ["failover-unplugged"]

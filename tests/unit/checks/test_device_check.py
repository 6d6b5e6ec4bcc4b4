from __future__ import annotations

from collections.abc import Mapping

import pytest

from unit.makers import make_device, make_emulator
from vfio_preflight.checks.device import check_device, check_migratable, is_unplugged_to_migrate
from vfio_preflight.findings import Finding

KNOWN = make_emulator().properties["vfio-pci"]


def findings(
    properties: Mapping[str, str], known: Mapping[str, object] | None = KNOWN
) -> tuple[Finding, ...]:
    return check_device(make_device(properties=properties), known)


def codes(properties: Mapping[str, str], known: Mapping[str, object] | None = KNOWN) -> list[str]:
    return [finding.code for finding in findings(properties, known)]


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


@pytest.mark.parametrize("value", ["off", "false", "no", "n"])
def test_migration_disabled(value: str) -> None:
    (finding,) = findings({"enable-migration": value})
    assert finding.code == "migration-disabled"
    assert "Migration is disabled for VFIO device" in finding.text


@pytest.mark.parametrize("value", ["on", "auto", "true"])
def test_migration_enabled(value: str) -> None:
    assert codes({"enable-migration": value}) == []


def test_enable_migration_with_a_value_qemu_does_not_take() -> None:
    (finding,) = findings({"enable-migration": "maybe"})
    assert finding.code == "property-invalid"
    assert "enable-migration (from qemu:override): 'maybe'" in finding.text


def test_failover_primary() -> None:
    device = make_device(properties={"failover_pair_id": "ua-net0"})
    assert is_unplugged_to_migrate(device)
    assert not is_unplugged_to_migrate(make_device())
    assert codes({"failover_pair_id": "ua-net0"}, None) == ["failover-unplugged"]


def test_source_whose_driver_offers_no_migration() -> None:
    (finding,) = check_migratable({"migration": "none"})
    assert (finding.code, finding.verdict) == ("device-not-migratable", "fail")
    assert "the source's device" in finding.text


@pytest.mark.parametrize("facts", [{}, {"migration": "stop-copy"}, {"migration": ""}])
def test_source_that_can_migrate_or_is_not_known(facts: Mapping[str, str]) -> None:
    assert check_migratable(facts) == ()

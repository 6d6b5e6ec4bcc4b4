from __future__ import annotations

from collections.abc import Mapping

import pytest

from lab.configs import make_config, patched
from unit.builds import PROPERTIES, Properties, changed, make_builds, make_types
from unit.makers import make_facts, make_state
from vfio_preflight.judge.checks.drift import LISTED, check_drift
from vfio_preflight.judge.effects import EFFECTS, effect_of
from vfio_preflight.judge.facts import Builds, Facts
from vfio_preflight.judge.model import preflight
from vfio_preflight.judge.policy import decide
from vfio_preflight.judge.verdicts import ANNOTATE, BLOCK, DEFAULT_POLICY
from vfio_preflight.pci.state import UNKNOWN, ConfigState, Missing
from vfio_preflight.qemu.emulator.drift import Change
from vfio_preflight.qemu.emulator.types import TypeFacts, Value

INTEL = patched(patched(patched(make_config(), 0, 0x86), 1, 0x80), 0x0B, 0x03)
OPREGION = make_types(properties=changed("vfio-pci", x_igd_opregion=True))


def facts(builds: Builds | Missing | None, state: ConfigState | Missing | None = None) -> Facts:
    return make_facts(state)._replace(builds=builds)


def codes(there: TypeFacts, source: TypeFacts | None = None) -> list[str]:
    return [str(each.code) for each in check_drift(facts(make_builds(there, source)))]


def test_nothing_known_of_the_source() -> None:
    assert check_drift(facts(None)) == ()


def test_not_compared() -> None:
    (finding,) = check_drift(facts(Missing(UNKNOWN, "it is damaged")))
    assert (str(finding.code), finding.verdict) == ("drift-not-compared", "pass")
    assert "it is damaged" in finding.text


def test_same_builds_are_told_nothing_of() -> None:
    assert codes(make_types()) == []


def test_machine_type_that_is_missing_has_a_finding_of_its_own() -> None:
    there = make_types(("pcie-root-port", "x-speed", "2_5"), machine="pc-q35-9.1")
    assert codes(there) == []


def test_entries_that_are_not_told_are_not_none() -> None:
    there = make_types(properties=changed("vfio-pci", x_no_mmap=True))
    assert codes(there) == ["drift"]
    assert codes(there._replace(compat_props_known=False)) == []


def test_known_to_be_refused() -> None:
    there = make_types(("pci-device", "x-pcie-ext-tag", "off"), version="11.1.3")
    (finding,) = check_drift(facts(make_builds(there)))
    assert str(finding.code) == "drift-refused"
    for part in (
        "property x-pcie-ext-tag of pcie-root-port, virtio-net-pci is 'on' on the source",
        "source: default of QEMU 10.0.2",
        "destination: set by pc-q35-9.0 for pci-device in QEMU 11.1.3",
        "Bad config data: i=0x58",
        "recorded on a",
    ):
        assert part in finding.text


@pytest.mark.parametrize(("value", "expected"), [("off", ["drift-undecided"]), ("on", [])])
def test_feature_that_the_guest_may_use(value: str, expected: list[str]) -> None:
    """One more is no harm; one less is, if the driver has taken it."""
    one, other = (make_types(("virtio-net-device", "host_uso", each)) for each in ("on", "off"))
    source, there = (one, other) if value == "off" else (other, one)
    assert codes(there, source) == expected


def test_not_known() -> None:
    there = make_types(properties=changed("vfio-pci", x_no_mmap=True))
    report = preflight(facts(make_builds(there)))
    (finding,) = (each for each in report.findings if str(each.code) == "drift")
    assert "its effect is not known" in finding.text
    assert report.verdict == "pass"


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (make_state(), False),
        (make_state(INTEL), True),
        (Missing(UNKNOWN, "not recorded"), True),
    ],
)
def test_what_concerns_intels_graphics_alone(state: ConfigState | Missing, told: bool) -> None:
    found = check_drift(facts(make_builds(OPREGION), state))
    assert [str(each.code) for each in found] == ["drift-undecided"] * told


def test_policy() -> None:
    refused = preflight(facts(make_builds(make_types(("pcie-root-port", "x-speed", "2_5")))))
    assert decide(refused, DEFAULT_POLICY, ()).action == BLOCK
    there = make_types(properties=changed("vfio-pci", x_no_mmap=True))
    unknown = preflight(facts(make_builds(there)))
    # Whatever the policy of unknown: what is not known to do harm blocks nobody.
    assert decide(unknown, {**DEFAULT_POLICY, "unknown": BLOCK}, ()).action == ANNOTATE


def test_many_are_counted_but_for_the_grave_ones() -> None:
    many: Properties = {
        **PROPERTIES,
        "vfio-pci": {f"x-{number}": ("bool", False) for number in range(LISTED + 3)},
    }
    other = {**many, "vfio-pci": dict.fromkeys(many["vfio-pci"], ("bool", True))}
    there = make_types(("pcie-root-port", "x-speed", "2_5"), properties=other)
    found = check_drift(facts(make_builds(there, make_types(properties=many))))
    assert [str(each.code) for each in found] == ["drift-refused", *["drift"] * LISTED]
    assert found[-1].text.startswith("4 more properties differ")


def test_type_that_is_missing() -> None:
    without = {name: own for name, own in PROPERTIES.items() if name != "pcie-root-port"}
    assert codes(make_types(properties=without)) == ["type-missing"]


def test_part_of_the_board_that_is_missing_is_not_the_guests_choice() -> None:
    source = make_types(properties={**PROPERTIES, "ICH9-LPC": {"noreboot": ("bool", True)}})
    builds = make_builds(make_types(), source)
    types = {**builds.sent.types, "ICH9-LPC": {"noreboot": Value("on")}}
    assert check_drift(facts(builds._replace(sent=builds.sent._replace(types=types)))) == ()


def test_settings_of_vfio_devices_are_judged_by_the_xml() -> None:
    there = make_types(properties=changed("vfio-pci", host=None))
    assert codes(there) == []
    assert codes(make_types(properties=changed("virtio-net-pci", mac=None))) == ["setting-missing"]


def test_option_rom_that_is_gone() -> None:
    properties: Mapping[str, tuple[str, str | bool | int | None]] = {
        **PROPERTIES["virtio-net-pci"],
        "romfile": ("str", None),
    }
    there = make_types(
        ("virtio-net-pci", "romfile", ""), properties={**PROPERTIES, "virtio-net-pci": properties}
    )
    (finding,) = check_drift(facts(make_builds(there)))
    assert str(finding.code) == "rom-size-differs"
    assert "Unknown ramblock .../virtio-net-pci.rom" in finding.text


# --- the table ------------------------------------------------------------------------------------


def change(name: str, there: str, *lineage: str) -> Change:
    return Change((lineage[0],), name, Value("on"), Value(there), frozenset(lineage))


def test_the_gravest_row_counts() -> None:
    both = change("x-pcie-ext-tag", "off", "pcie-root-port", "pcie-port", "virtio-pci")
    effect = effect_of(both)
    assert effect is not None and effect.verdict == "fail"
    assert effect_of(change("x-pcie-ext-tag", "off", "e1000", "pci-device")) is None


def test_direction_counts() -> None:
    verdicts = [
        effect.verdict
        for value in ("off", "on")
        if (effect := effect_of(change("x-pcie-err-unc-mask", value, "x", "pcie-port")))
    ]
    assert verdicts == ["fail", "pass"]


def test_no_two_rows_say_the_same_of_one_thing() -> None:
    keys = [(row.property, name, row.there) for row in EFFECTS for name in row.types]
    assert len(keys) == len(set(keys))

from __future__ import annotations

from unit.builds import MACHINE, PROPERTIES, changed, make_builds, make_types
from vfio_preflight.qemu.emulator.drift import (
    Rom,
    changes,
    missing_properties,
    missing_types,
    rom_changes,
)
from vfio_preflight.qemu.emulator.sent import describe
from vfio_preflight.qemu.emulator.types import TypeFacts, Value


def found(there: TypeFacts, source: TypeFacts | None = None) -> list[tuple[str, str, str, str]]:
    builds = make_builds(there, source)
    return [
        (name, change.property, change.source.text, change.destination.text)
        for change in changes(builds.sent, builds.there)
        for name in change.types
    ]


def test_same_build() -> None:
    assert found(make_types()) == []


def test_another_default() -> None:
    there = make_types(properties=changed("vfio-pci", x_igd_opregion=True), version="11.1.3")
    assert found(there) == [("vfio-pci", "x-igd-opregion", "off", "on")]


def test_default_that_a_compat_entry_takes_back() -> None:
    there = make_types(
        ("vfio-pci", "x-igd-opregion", "false"),
        properties=changed("vfio-pci", x_igd_opregion=True),
    )
    assert found(there) == []


def test_entry_that_one_build_lacks_is_told_once_for_all_types() -> None:
    there = make_types(("pci-device", "x-pcie-ext-tag", "off"))
    builds = make_builds(there)
    (change,) = changes(builds.sent, there)
    assert change.types == ("pcie-root-port", "virtio-net-pci")
    assert change.destination == Value("off", "pci-device")
    assert change.lineages >= {"pcie-port", "virtio-net-device", "device"}
    # The other way round.
    assert {name for name, *_ in found(make_types(), there)} == set(change.types)


def test_what_the_guest_sets_is_the_same_on_both_sides() -> None:
    there = make_types(("virtio-net-pci", "vectors", "3"))
    uses = {"virtio-net-pci": {"vectors"}}
    assert changes(describe(make_types(), MACHINE, uses, uses), there) == ()


def test_property_or_type_that_one_build_lacks_is_not_compared() -> None:
    there = make_types(properties=changed("vfio-pci", x_no_mmap=None))
    assert (found(there), found(make_types(), there)) == ([], [])
    without = {name: own for name, own in PROPERTIES.items() if name != "vfio-pci"}
    there = make_types(properties=without)
    builds = make_builds(there)
    assert changes(builds.sent, there) == ()
    assert missing_types(builds.sent, there) == ("vfio-pci",)


def test_property_that_is_set_and_missing_there() -> None:
    there = make_types(properties=changed("virtio-net-pci", mac=None))
    assert missing_properties(make_builds(there).sent, there) == (("virtio-net-pci", "mac"),)
    assert missing_properties(make_builds(make_types()).sent, make_types()) == ()


def test_option_roms() -> None:
    sent = make_builds(make_types()).sent
    assert rom_changes(sent, make_types(roms={"efi-virtio.rom": 262_144})) == ()
    larger = make_types(roms={"efi-virtio.rom": 262_145})
    assert rom_changes(sent, larger) == (Rom("virtio-net-pci", 0x40000, 0x80000),)
    # Which it would take is not known.
    assert rom_changes(sent, make_types(roms={})) == ()
    # Nor does a type that is not there have one.
    without = {name: own for name, own in PROPERTIES.items() if name != "virtio-net-pci"}
    there = make_types(properties=without, roms={"efi-virtio.rom": 262_145})
    assert rom_changes(sent, there) == ()
    properties = {**PROPERTIES["virtio-net-pci"], "romfile": ("str", None)}
    none = make_types(
        ("virtio-net-pci", "romfile", ""), properties={**PROPERTIES, "virtio-net-pci": properties}
    )
    assert rom_changes(sent, none) == (Rom("virtio-net-pci", 0x40000, 0),)

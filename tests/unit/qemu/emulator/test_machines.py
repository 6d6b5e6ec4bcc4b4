from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_preflight.qemu.emulator.machines import (
    CompatEntry,
    EmulatorFacts,
    MachineName,
    MachineType,
    Property,
    is_newer,
    natural_key,
    newest_machine,
    parse_machine_name,
)

SKIP = "skip-vsc-check"
LINEAGE = {
    "vfio-pci": ("vfio-pci", "vfio-pci-device", "pci-device", "device"),
    "vfio-pci-nohotplug": ("vfio-pci-nohotplug", "vfio-pci", "pci-device", "device"),
}


def make_machine(name: str, *compat: CompatEntry, alias: str | None = None) -> MachineType:
    return MachineType(name, alias, False, False, compat)


def make_facts(*machines: MachineType) -> EmulatorFacts:
    return EmulatorFacts(
        path="/usr/bin/qemu-system-x86_64",
        version="10.0.2",
        package="",
        machines={machine.name: machine for machine in machines},
        properties={name: {SKIP: Property("bool", True)} for name in LINEAGE},
        lineage=LINEAGE,
        compat_props_known=True,
    )


def facts_with(*names: str) -> EmulatorFacts:
    return make_facts(*map(make_machine, names))


def test_resolve_name_and_alias() -> None:
    q35 = make_machine("pc-q35-10.0", alias="q35")
    facts = make_facts(make_machine("pc-q35-9.0"), q35)
    assert facts.resolve("pc-q35-10.0") == q35
    assert facts.resolve("q35") == q35
    assert facts.resolve("pc-q35-11.1") is None


@pytest.mark.parametrize("entry_type", ["vfio-pci", "vfio-pci-device", "pci-device", "device"])
def test_compat_value_reaches_descendants(entry_type: str) -> None:
    machine = make_machine("m", (entry_type, SKIP, "false"))
    assert make_facts(machine).compat_value(machine, "vfio-pci", SKIP) == "false"


@pytest.mark.parametrize("entry_type", ["vfio-pci-nohotplug", "vfio-user-pci", "virtio-pci"])
def test_compat_value_reaches_no_other_type(entry_type: str) -> None:
    machine = make_machine("m", (entry_type, SKIP, "false"))
    assert make_facts(machine).compat_value(machine, "vfio-pci", SKIP) is None


def test_compat_value_last_entry_wins_however_general() -> None:
    machine = make_machine("m", ("vfio-pci", SKIP, "false"), ("pci-device", SKIP, "on"))
    assert make_facts(machine).compat_value(machine, "vfio-pci-nohotplug", SKIP) == "on"


def test_compat_value_of_a_property_the_device_lacks() -> None:
    machine = make_machine("m", ("vfio-pci", "x-new", "off"))
    assert make_facts(machine).compat_value(machine, "vfio-pci", "x-new") is None
    assert make_facts(machine).compat_value(machine, "vfio-ccw", SKIP) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pc-q35-9.0", MachineName("pc-q35", "", (9, 0), "")),
        ("pc-q35-4.0.1", MachineName("pc-q35", "", (4, 0, 1), "")),
        ("pc-i440fx-2.12", MachineName("pc-i440fx", "", (2, 12), "")),
        ("pc-1.3", MachineName("pc-i440fx", "", (1, 3), "")),
        ("pc-q35-rhel9.4.0", MachineName("pc-q35", "rhel", (9, 4, 0), "")),
        ("s390-ccw-virtio-9.0", MachineName("s390-ccw-virtio", "", (9, 0), "")),
        ("virt-rhel9.4.0", MachineName("virt", "rhel", (9, 4, 0), "")),
        ("pc-q35-noble", MachineName("pc-q35", "ubuntu", (20, 1), "")),
        ("pc-q35-noble-v2", MachineName("pc-q35", "ubuntu", (20, 2), "")),
        ("pc-i440fx-jammy-hpb", MachineName("pc-i440fx", "ubuntu", (16, 1), "hpb")),
        ("pc-q35-jammy-hpb-v3", MachineName("pc-q35", "ubuntu", (16, 3), "hpb")),
        ("pc-q35-stonking", MachineName("pc-q35", "stonking", (), "")),
        ("q35", MachineName("pc-q35", "", (), "")),
        ("pc", MachineName("pc-i440fx", "", (), "")),
        ("microvm", MachineName("microvm", "", (), "")),
        ("9.0", MachineName("9.0", "", (), "")),
        ("pc-q35-9..0", MachineName("pc-q35", "9..0", (), "")),
        ("", MachineName("", "", (), "")),
    ],
)
def test_parse_machine_name(name: str, expected: MachineName) -> None:
    assert parse_machine_name(name) == expected


@given(st.text(alphabet="pcq35v-.09²rhelnob", max_size=30))
def test_parse_machine_name_takes_anything(name: str) -> None:
    parse_machine_name(name)
    natural_key(name)


UPSTREAM = ("pc-q35-9.2", "pc-q35-10.0", "pc-q35-4.0.1", "pc-i440fx-10.1", "virt-9.0", "microvm")
UBUNTU = (*UPSTREAM, "pc-q35-jammy", "pc-q35-noble", "pc-q35-noble-hpb", "pc-i440fx-plucky")
RHEL = ("pc-q35-rhel9.4.0", "pc-q35-rhel9.10.0", "pc-i440fx-rhel7.6.0")


@pytest.mark.parametrize(
    ("names", "like", "newest"),
    [
        (UPSTREAM, "pc-q35-11.1", "pc-q35-10.0"),
        (UPSTREAM, "q35", "pc-q35-10.0"),
        (UPSTREAM, "pc-i440fx-11.1", "pc-i440fx-10.1"),
        (UPSTREAM, "pc-q35-rhel9.4.0", "pc-q35-10.0"),
        (UPSTREAM, "pc-q35-resolute", "pc-q35-10.0"),
        (UPSTREAM, "virt-11.1", "virt-9.0"),
        (UPSTREAM, "microvm-2", None),
        (UPSTREAM, "s390-ccw-virtio-9.0", None),
        (UBUNTU, "pc-q35-resolute", "pc-q35-noble"),
        (UBUNTU, "pc-q35-11.1", "pc-q35-10.0"),
        (RHEL, "pc-q35-rhel10.0.0", "pc-q35-rhel9.10.0"),
        (RHEL, "pc-q35-9.0", "pc-q35-rhel9.10.0"),
    ],
)
def test_newest_machine(names: tuple[str, ...], like: str, newest: str | None) -> None:
    found = newest_machine(facts_with(*names), like)
    assert (found.name if found else None) == newest


def test_is_newer() -> None:
    assert is_newer("pc-q35-10.0", than="pc-q35-9.2")
    assert not is_newer("pc-q35-9.2", than="pc-q35-10.0")
    assert not is_newer("pc-q35-10.0", than="pc-i440fx-9.2")
    assert not is_newer("pc-q35-10.0", than="pc-q35-rhel9.4.0")


def test_natural_key() -> None:
    names = ["pc-q35-10.0", "pc-q35-9.2", "none", "pc-q35-9.10", "isapc"]
    assert sorted(names, key=natural_key) == [
        "isapc",
        "none",
        "pc-q35-9.2",
        "pc-q35-9.10",
        "pc-q35-10.0",
    ]

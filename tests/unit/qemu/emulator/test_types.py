from __future__ import annotations

import pytest

from unit.builds import MACHINE, PROPERTIES, make_types
from vfio_preflight.qemu.emulator.types import Value, effective, normal


def values(*entries: tuple[str, str, str], of: str = "virtio-net-pci") -> dict[str, Value]:
    return effective(make_types(*entries), MACHINE, of)


def test_defaults_where_no_entry_applies() -> None:
    found = values(("virtio-blk-pci", "host_uso", "off"))
    assert found["host_uso"] == Value("on")
    # No default is told of it.
    assert "mac" not in found


def test_entry_of_an_ancestor_reaches_its_descendants() -> None:
    assert values(("pci-device", "x-pcie-ext-tag", "false"))["x-pcie-ext-tag"] == Value(
        "off", "pci-device"
    )
    assert values(("pcie-port", "x-pcie-ext-tag", "false"))["x-pcie-ext-tag"] == Value("on")


@pytest.mark.parametrize("general_last", [False, True])
def test_last_entry_wins_however_general_its_type(general_last: bool) -> None:
    entries = [("virtio-net-pci", "vectors", "3"), ("pci-device", "vectors", "0x10")]
    if not general_last:
        entries.reverse()
    assert values(*entries)["vectors"].text == ("16" if general_last else "3")


def test_entry_for_the_inner_object() -> None:
    inner = ("virtio-device", "host_uso", "off")
    assert values(inner)["host_uso"] == Value("off", "virtio-device")
    # The outer object's are set later, wherever they stand.
    outer = ("virtio-pci", "host_uso", "on")
    assert values(outer, inner)["host_uso"] == Value("on", "virtio-pci")


def test_entry_for_a_property_that_there_is_not() -> None:
    assert values(("virtio-net-pci", "x-new", "on")) == values()


def test_type_or_machine_that_there_is_not() -> None:
    facts = make_types()
    assert effective(facts, MACHINE, "no-such") == {}
    assert effective(facts, "pc-q35-99", "vfio-pci")["x-no-mmap"] == Value("off")


def test_lineage_in_a_circle() -> None:
    facts = make_types()._replace(parents={"a": "b", "b": "a"})
    assert facts.lineage("a") == ["a", "b"]


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ("virtio-net-pci-non-transitional", "virtio-net-device"),
        ("virtio-vga", "virtio-gpu-device"),
        ("vhost-user-blk-pci", "vhost-user-blk"),
        ("vfio-pci", ""),
        ("-pci", ""),
    ],
)
def test_inner_object(outer: str, inner: str) -> None:
    own = {name: {"p": ("bool", True)} for name in filter(None, (outer, inner))}
    assert make_types(properties={**PROPERTIES, **own}).part(outer) == inner


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("bool", True, "on"),
        ("bool", "no", "off"),
        ("bool", "maybe", "maybe"),
        ("OnOffAuto", "auto", "auto"),
        ("uint16", "0x11", "17"),
        ("uint8", "010", "8"),
        ("int32", "-1", "-1"),
        ("uint32", 7, "7"),
        ("uint32", "seven", "seven"),
        ("size", "64k", "65536"),
        ("size", "1G", "1073741824"),
        ("size", "0x10", "16"),
        ("size", "1.5G", "1.5G"),
        ("str", "010", "010"),
        ("str", "", ""),
        ("size", "", ""),
    ],
)
def test_one_notation(kind: str, value: str | bool | int, text: str) -> None:
    assert normal(kind, value) == text

from __future__ import annotations

import binascii
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.builds import MACHINE, make_types
from vfio_preflight.osutil.digest import sha256
from vfio_preflight.qemu.emulator.roms import bar_size
from vfio_preflight.qemu.emulator.sent import (
    DICTIONARY,
    Sent,
    SentError,
    describe,
    pack,
    to_text,
    unpack,
)
from vfio_preflight.qemu.emulator.types import Value

USES = {"pcie-root-port": {"chassis"}, "virtio-net-pci": {"mac"}, "gone": {"x"}}


def packed(value: object) -> str:
    """What another writer could have packed."""
    with open(DICTIONARY, "rb") as file:
        packer = zlib.compressobj(zdict=file.read())
    data = packer.compress(json.dumps(value).encode()) + packer.flush()
    return binascii.b2a_base64(data).decode()


def test_describe() -> None:
    facts = make_types(("pci-device", "x-pcie-ext-tag", "off"))
    sent = describe(facts, MACHINE, USES, {**USES, "virtio-net-pci": {"mac", "vectors"}})
    assert sent.types["pcie-root-port"] == {
        "x-pcie-ext-tag": Value("off", "pci-device"),
        "x-speed": Value("16"),
    }
    # Set on some devices, so that others have the default; what is no property is left out.
    assert "vectors" in sent.types["virtio-net-pci"]
    assert sent.given == {"pcie-root-port": (), "virtio-net-pci": ("mac", "vectors")}
    assert sent.roms == {"virtio-net-pci": 0x40000}


@pytest.mark.parametrize(
    ("given", "entry", "size"),
    [
        (set(), ("virtio-net-pci", "romsize", "0x80000"), 0x80000),
        ({"romfile"}, None, None),
        ({"rombar"}, None, None),
        (set(), ("virtio-net-pci", "romsize", "4096"), None),
    ],
)
def test_size_of_an_option_rom(
    given: set[str], entry: tuple[str, str, str] | None, size: int | None
) -> None:
    facts = make_types(*([entry] if entry else []))
    sent = describe(facts, MACHINE, {"virtio-net-pci": given}, {})
    assert sent.roms.get("virtio-net-pci") == size


@pytest.mark.parametrize(
    ("file", "size"), [(1, 1), (4096, 4096), (4097, 8192), (0, None), (3 << 30, None)]
)
def test_bar_of_an_option_rom(file: int, size: int | None) -> None:
    assert bar_size(file, "4294967295") == size


words = st.text(st.characters(codec="utf-8"), max_size=12)
values = st.builds(Value, words, words)


@given(st.dictionaries(words, st.dictionaries(words, values, max_size=5), max_size=5))
def test_packed_and_back(types: dict[str, dict[str, Value]]) -> None:
    sent = Sent("10.0.2", "Debian", MACHINE, types, {"a": ("b",)}, {"c": 1})
    assert unpack(pack(sent), "10.0.2", "Debian", MACHINE) == sent


def test_dictionary_is_a_part_of_the_format() -> None:
    """Another one would make what is in guests' records unreadable: give it another number."""
    with open(DICTIONARY, "rb") as file:
        data = file.read()
    assert sha256(data) == "da2e08fa903d0f1fc3598af00b804d8d835fb2b34fb4585ab5a11452ced64805"
    # zlib looks back 32 KiB.
    assert len(data) <= 32768
    assert set(json.loads(data)) == {"given", "roms", "types"}


def test_order_does_not_matter() -> None:
    one = describe(make_types(), MACHINE, USES, USES)
    other = one._replace(types=dict(reversed(list(one.types.items()))))
    assert to_text(one) == to_text(other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "eJxj",
        "not base64",
        packed([]),
        packed({"types": {}, "given": {}}),
        packed({"types": {"t": {"p": 1}}, "given": {}, "roms": {}}),
        packed({"types": {"t": {"p": ["a"]}}, "given": {}, "roms": {}}),
        packed({"types": {}, "given": {"t": [None]}, "roms": {}}),
        packed({"types": {}, "given": {}, "roms": {"t": "x"}}),
        packed({"types": {}, "given": {}, "roms": {"t": float("inf")}}),
        packed({"types": {str(n): {} for n in range(1000)}, "given": {}, "roms": {}}),
        packed({"types": {}, "given": {}, "roms": {}, "more": "x" * (2 << 20)}),
        packed({"types": {}, "given": {}, "roms": {}})[:-8],
        "A" * (1 << 17),
    ],
)
def test_what_cannot_be_unpacked(text: str) -> None:
    with pytest.raises(SentError):
        unpack(text, "10.0.2", "", MACHINE)


def test_words_are_cut() -> None:
    value = {"types": {"t" * 500: {"p": "v" * 500}}, "given": {}, "roms": {}}
    sent = unpack(packed(value), "", "", MACHINE)
    assert all(len(name) <= 80 for name in sent.types)

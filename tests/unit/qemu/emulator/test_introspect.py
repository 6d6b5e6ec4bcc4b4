"""Emulators that misbehave, as small scripts; real ones are asked in the conformance tests."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.builds import make_types
from unit.patience import ends
from vfio_preflight.osutil import jsondir
from vfio_preflight.osutil.executable import Executable
from vfio_preflight.osutil.locks import is_taken, lock_file
from vfio_preflight.qemu.emulator import typefacts
from vfio_preflight.qemu.emulator.facts import EmulatorError, cached_emulators
from vfio_preflight.qemu.emulator.typefacts import SUBDIRECTORY, type_facts
from vfio_preflight.qemu.emulator.types import TypeFacts, Value, effective
from vfio_preflight.qemu.emulator.typesjson import (
    checked,
    compressed,
    decompressed,
    from_json,
    to_json,
)

TIME = 5.0
COMPAT = [{"qom-type": "device", "property": "flag", "value": "off"}]
ANSWERS: list[dict[str, object]] = [
    {"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 2}, "package": " Debian "}}},
    {"return": {}},
    {"return": [{"name": "pc-q35-9.0", "compat-props": COMPAT}]},
    {"return": [{"name": "pc-q35-9.0"}]},
    {
        "return": [
            {"name": "one", "parent": "device"},
            {"name": "device", "parent": "object"},
            {"name": "two", "parent": "device"},
        ]
    },
    {
        "return": [
            {"name": "size", "type": "uint8", "default-value": 3},
            {"name": "flag", "type": "bool", "default-value": True, "description": "on/off"},
            {"name": "odd", "type": "list", "default-value": [1]},
        ]
    },
    {"error": {"class": "GenericError", "desc": "expects a non-abstract device type"}},
    {"return": [{"name": "flag", "type": "bool", "default-value": True}]},
]


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory that the user an emulator runs as can reach, which pytest's own are not."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def make_qemu(root: Path, messages: list[dict[str, object]]) -> None:
    (root / "answers").write_text("".join(f"{json.dumps(m)}\r\n" for m in messages))
    make_emulator(root, f"exec cat {root}/answers")


def make_emulator(root: Path, script: str) -> None:
    roms = f'[ "$1" != -L ] || {{ echo relative; echo {root}/none; echo {root}; exit; }}'
    (root / "qemu").write_text(f"#!/bin/sh\n{roms}\n{script}\n")
    (root / "qemu").chmod(0o755)


def ask(root: Path, cache: Path | None = None, seconds: float = TIME) -> TypeFacts:
    directory = str(cache) if cache else None
    deadline = time.monotonic() + seconds
    return type_facts("/qemu", cache_dir=directory, deadline=deadline, root=str(root))


def test_answers(root: Path) -> None:
    make_qemu(root, ANSWERS)
    (root / "efi-virtio.rom").write_bytes(bytes(1000))
    facts = ask(root)
    assert (facts.version, facts.package, facts.compat_props_known) == ("10.0.2", "Debian", True)
    assert facts.properties("one") == {
        "size": ("uint8", 3),
        "flag": ("bool", True),
        "odd": ("list", None),
    }
    assert (facts.has("device"), facts.has("two")) == (False, True)
    assert facts.lineage("one") == ["one", "device", "object"]
    assert effective(facts, "pc-q35-9.0", "two") == {"flag": Value("off", "device")}
    assert facts.roms == {"efi-virtio.rom": 1000}
    assert facts.directories == [f"{root}/none", str(root)]


def test_build_that_does_not_tell_its_entries(root: Path) -> None:
    error: dict[str, object] = {"error": {"desc": "Parameter 'compat-props' is unexpected"}}
    make_qemu(root, [*ANSWERS[:2], error, *ANSWERS[3:]])
    facts = ask(root)
    assert (facts.compat_props_known, facts.machines) == (False, {"pc-q35-9.0": ""})


@pytest.mark.parametrize("number", [0, 2, 4, 5])
def test_answers_of_another_form(root: Path, number: int) -> None:
    messages = [dict(message) for message in ANSWERS]
    messages[number] = {"return": [{"nothing": 1}]}
    make_qemu(root, messages)
    with pytest.raises(EmulatorError, match=r"emulator /qemu: .*(those of a QEMU|answered)"):
        ask(root)


@pytest.mark.parametrize("script", ["exit 3", "exec sleep 60", "echo nonsense"])
def test_emulator_that_does_not_answer(root: Path, script: str) -> None:
    make_emulator(root, script)
    with ends(), pytest.raises(EmulatorError, match="emulator /qemu: "):
        ask(root, seconds=0.5)


def test_emulator_that_is_not_to_be_run(root: Path) -> None:
    make_qemu(root, ANSWERS)
    (root / "qemu").chmod(0o777)
    with pytest.raises(EmulatorError, match="writable"):
        ask(root)


def test_script_is_asked_each_time(root: Path) -> None:
    make_qemu(root, ANSWERS)
    ask(root, root / "cache")
    assert not (root / "cache").exists()


# --- kept -----------------------------------------------------------------------------------------


class Asked:
    """A binary that is made up, and how often it was asked."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (root / "qemu").write_bytes(b"\x7fELF")
        (root / "qemu").chmod(0o755)
        self.count = 0
        self.answer = make_types()._replace(directories=[str(root)])
        monkeypatch.setattr(typefacts, "_ask", self)

    def __call__(self, _executable: Executable, _deadline: float) -> TypeFacts:
        self.count += 1
        return self.answer


def test_kept_until_the_file_is_another(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(root, monkeypatch)
    cache = root / "cache"
    assert ask(root, cache) == ask(root, cache) == asked.answer
    assert asked.count == 1
    (root / "new").write_bytes(b"\x7fELF")
    (root / "new").chmod(0o755)
    (root / "new").rename(root / "qemu")
    ask(root, cache)
    assert asked.count == 2


def test_kept_until_an_option_rom_is_another(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come in packages of their own."""
    asked = Asked(root, monkeypatch)
    for number, size in enumerate((None, 1000, 2000)):
        if size is not None:
            (root / "efi-virtio.rom").write_bytes(bytes(size))
        ask(root, root / "cache")
        ask(root, root / "cache")
        assert asked.count == number + 1


def test_beside_the_other_answers_and_not_among_them(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Asked(root, monkeypatch)
    cache = root / "cache"
    ask(root, cache)
    assert cached_emulators(str(cache)) == []
    assert len(jsondir.names(str(cache / SUBDIRECTORY))) == 1


def test_damaged_entry_is_asked_for_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(root, monkeypatch)
    ask(root, root / "cache")
    (entry,) = (root / "cache" / SUBDIRECTORY).glob("*.json")
    entry.write_text("{}")
    entry.chmod(0o600)
    assert ask(root, root / "cache") == asked.answer
    assert asked.count == 2


def test_waits_for_another_that_asks_and_no_longer(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(root, monkeypatch)
    directory = str(root / "cache" / SUBDIRECTORY)
    name = f"{str(root / 'qemu')[1:]}".replace("/", "!")
    lock = lock_file(directory, f".{name}.lock")
    assert is_taken(lock)
    with pytest.raises(EmulatorError, match="another process was asking"):
        ask(root, root / "cache", seconds=0.1)
    os.close(lock)
    assert (ask(root, root / "cache"), asked.count) == (asked.answer, 1)


def test_without_a_place_to_keep_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(root, monkeypatch)
    (root / "cache").write_text("a file")
    ask(root, root / "cache")
    ask(root, root / "cache")
    assert asked.count == 2


# --- as JSON --------------------------------------------------------------------------------------


def test_as_json_and_back() -> None:
    facts = make_types(("pci-device", "x-pcie-ext-tag", "off"))
    assert from_json(json.loads(json.dumps(to_json(facts)))) == facts
    assert decompressed(compressed(facts)) == facts


@pytest.mark.parametrize(
    "changes",
    [
        {"types": {"one": 99}},
        {"types": {"one": -1}},
        {"types": {"one": "x"}},
        {"sets": ["1 x"]},
        {"sets": [1]},
        {"machines": {"m": "-1"}},
        {"machines": []},
        {"machines": {"m": "0"}},
        {"listed": [["a", "b"]]},
        {"listed": [["a", "b", []]]},
        {"listed": [["a", 1, None]]},
        {"entries": [["a", "b", 1]]},
        {"entries": [["a", "b"]]},
        {"parents": {"a": None}},
        {"roms": {"a": "1"}},
        {"roms": {"a": -1}},
        {"version": None},
        {"directories": [1]},
        {"version": "10\n"},
        {"sets": ["99999"]},
    ],
)
def test_what_is_no_such_thing(changes: dict[str, object]) -> None:
    with pytest.raises((LookupError, TypeError, ValueError, AttributeError)):
        checked(from_json({**to_json(make_types()), **changes}))

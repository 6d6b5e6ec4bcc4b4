"""Which emulators are asked ahead, and when again; a real one is asked in the system tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vfio_preflight.configuration import Configuration
from vfio_preflight.gather import warming
from vfio_preflight.gather.warming import warm
from vfio_preflight.osutil import jsondir
from vfio_preflight.osutil.executable import Executable, trusted_executable
from vfio_preflight.qemu.emulator.facts import EmulatorError


class Emulators:
    """Files that pass for emulators, and which of them were asked."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.asked: list[str] = []
        self.asked_for_types: list[str] = []
        self.broken: set[str] = set()
        self.settings = Configuration(cache=str(directory / "cache"))

    def add(self, name: str) -> str:
        path = self.directory / name
        path.write_bytes(b"\x7fELF")
        path.chmod(0o755)
        return str(path)

    def answer(self, path: str, *, cache_dir: str, deadline: float) -> None:
        assert cache_dir == self.settings.cache
        self.asked.append(os.path.basename(path))
        if path in self.broken:
            raise EmulatorError(f"emulator {path}: broken")

    def answer_types(self, path: str, *, cache_dir: str, deadline: float) -> None:
        self.asked_for_types.append(os.path.basename(path))


@pytest.fixture
def emulators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Emulators:
    made = Emulators(tmp_path)
    names = (f"{tmp_path}/qemu-system-{{machine}}", f"{tmp_path}/qemu-kvm")
    monkeypatch.setattr(warming, "NAMES", names)
    monkeypatch.setattr(warming, "emulator_facts", made.answer)
    monkeypatch.setattr(warming, "type_facts", made.answer_types)

    def trusted(path: str) -> Executable:
        # What lies above, /tmp, is anybody's.
        return trusted_executable(path[len(str(tmp_path)) :], str(tmp_path))

    monkeypatch.setattr(warming, "trusted_executable", trusted)
    return made


def test_usual_names_are_asked(emulators: Emulators) -> None:
    usual = emulators.add(f"qemu-system-{os.uname().machine}")
    # Another name of the same file.
    os.symlink(usual, emulators.directory / "qemu-kvm")
    warmed = warm(emulators.settings)
    assert emulators.asked == [os.path.basename(usual)]
    assert (list(warmed.identities), warmed.problems) == ([usual], ())
    assert emulators.asked_for_types == emulators.asked


def test_no_emulator_is_no_problem(emulators: Emulators) -> None:
    assert warm(emulators.settings) == ({}, ())


def test_one_that_a_guest_named_is_asked(emulators: Emulators) -> None:
    own = emulators.add("own-qemu")
    jsondir.store(emulators.settings.cache, own[1:].replace("/", "!"), {})
    jsondir.store(emulators.settings.cache, "gone!qemu", {})
    assert warm(emulators.settings).problems == ()
    assert emulators.asked == ["own-qemu"]


def test_only_what_has_changed_is_asked_again(emulators: Emulators) -> None:
    """A broken one too: it is not started every minute."""
    emulators.broken.add(emulators.add("qemu-kvm"))
    first = warm(emulators.settings)
    assert len(first.problems) == 1
    second = warm(emulators.settings, first)
    assert (second.identities, second.problems) == (first.identities, ())
    assert len(emulators.asked) == 1
    emulators.add("qemu-kvm")
    assert len(warm(emulators.settings, second).problems) == 1
    assert len(emulators.asked) == 2


def test_what_must_not_run_is_not_asked(emulators: Emulators) -> None:
    os.chmod(emulators.add("qemu-kvm"), 0o777)
    assert warm(emulators.settings) == ({}, ())
    assert emulators.asked == []

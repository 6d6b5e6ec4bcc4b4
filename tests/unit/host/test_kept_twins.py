"""Answers about twins, kept by digest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vfio_preflight.host import twins
from vfio_preflight.host.twins import DIRECTORY, Sent, is_kept, keep, known
from vfio_preflight.osutil import executable
from vfio_preflight.qemu.twin.told import REFUSED, Told

SENT = Sent("boot:1:2", "pc-q35-9.0", "ab" * 32)
TOLD = Told(REFUSED, "line", "device", "QEMU 1", "QEMU 2", ("x",), "2026-11-28T12:00:00Z")


@pytest.fixture
def emulator(tmp_path: Path) -> str:
    path = tmp_path / "qemu"
    path.write_bytes(b"\x7fELF")
    path.chmod(0o755)
    tmp_path.chmod(0o755)
    return str(path)


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch, emulator: str) -> str:
    """An emulator as trusted as an installed one: the tests' directory lies below /tmp."""
    found = executable.trusted_executable

    def trusted(path: str) -> object:
        return found(f"/{os.path.basename(path)}", os.path.dirname(path))

    monkeypatch.setattr(twins, "trusted_executable", trusted)
    return emulator


def test_kept_and_found(tmp_path: Path, trusting: str) -> None:
    cache = str(tmp_path / "cache")
    assert not is_kept(cache)
    assert known(cache, SENT, trusting) is None

    assert keep(cache, SENT, trusting, TOLD)

    assert is_kept(cache)
    assert known(cache, SENT, trusting) == TOLD


@pytest.mark.parametrize(
    "sent",
    [
        SENT._replace(process="boot:1:3"),
        SENT._replace(machine="pc-q35-9.1"),
        SENT._replace(tree="cd" * 32),
        SENT._replace(tree=""),
        SENT._replace(process=""),
    ],
)
def test_of_another_guest_nothing_is_known(tmp_path: Path, trusting: str, sent: Sent) -> None:
    cache = str(tmp_path / "cache")
    keep(cache, SENT, trusting, TOLD)
    assert known(cache, sent, trusting) is None


def test_not_after_the_emulator_was_replaced(tmp_path: Path, trusting: str) -> None:
    cache = str(tmp_path / "cache")
    keep(cache, SENT, trusting, TOLD)
    Path(trusting).write_bytes(b"\x7fELF, newer")
    assert known(cache, SENT, trusting) is None


def test_not_after_what_is_installed_beside_it_changed(
    tmp_path: Path, trusting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, data = str(tmp_path / "cache"), tmp_path / "roms"
    monkeypatch.setattr(twins, "_DATA", (str(data),))
    data.mkdir()
    keep(cache, SENT, trusting, TOLD)
    assert known(cache, SENT, trusting) == TOLD
    os.utime(data, ns=(1, 1))
    assert known(cache, SENT, trusting) is None


def test_nothing_is_kept_of_what_has_no_name(tmp_path: Path, trusting: str) -> None:
    cache = str(tmp_path / "cache")
    assert not keep(cache, SENT._replace(process=""), trusting, TOLD)
    assert not keep(cache, SENT, str(tmp_path / "absent"), TOLD)
    Path(trusting).write_bytes(b"#!/bin/sh\n")
    assert not keep(cache, SENT, trusting, TOLD)
    assert not is_kept(cache)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "[1, 2]", '["x",1,1,1,1,[],""]', "[1,1,1,1,1,1,1]"]
)
def test_damaged_answer_counts_as_none(tmp_path: Path, trusting: str, text: str) -> None:
    cache = tmp_path / "cache"
    keep(str(cache), SENT, trusting, TOLD)
    (file,) = (cache / DIRECTORY).iterdir()
    file.write_text(text)
    assert known(str(cache), SENT, trusting) is None

"""What differs between releases of QEMU, as data."""

from __future__ import annotations

import pytest

from vfio_preflight.qemu.model.versions import (
    CHANGES,
    Behaviour,
    behaviour,
    is_covered,
    release,
)


@pytest.mark.parametrize(
    ("version", "numbers"),
    [
        ("10.0.2", (10, 0)),
        ("11.1", (11, 1)),
        ("9", (9, 0)),
        ("", (0, 0)),
        ("10.0.90rc1", (10, 0)),
        ("unknown", (0, 0)),
    ],
)
def test_release(version: str, numbers: tuple[int, int]) -> None:
    assert release(version) == numbers


def test_every_field_has_its_change() -> None:
    assert sorted(change.field for change in CHANGES) == sorted(Behaviour._fields)
    assert all(len(change.reason) > 40 for change in CHANGES)


def test_newest_release_is_the_default() -> None:
    assert behaviour("99.0.0") == Behaviour()
    assert not any(behaviour("8.0.0"))


@pytest.mark.parametrize(
    ("target", "emulated"),
    [("", True), ("x86_64", True), ("i386", True), ("aarch64", False), ("loongarch64", False)],
)
def test_integrated_graphics_are_of_pcs(target: str, emulated: bool) -> None:
    ours = behaviour("10.0.2", target)
    assert ours.igd_is_emulated_anywhere is emulated
    assert ours._replace(igd_is_emulated_anywhere=True) == behaviour("10.0.2")


@pytest.mark.parametrize(
    ("version", "checked"),
    [("10.0.2", False), ("10.0.12", False), ("10.0.13", True), ("10.2.2", False), ("11.1.0", True)],
)
def test_fix_that_a_stable_release_took_over(version: str, checked: bool) -> None:
    assert behaviour(version).pin_is_checked is checked


def test_covered_are_releases_up_to_the_newest_patch_level_verified() -> None:
    verified = ("10.0.2", "10.0.13", "11.1.3")
    for version in ("10.0.2", "10.0.7", "10.0.13", "11.1.0", "11.1.3"):
        assert is_covered(version, verified)
    for version in ("10.0.14", "10.2.2", "11.1.4", "12.0.0", "9.2.0", "unknown"):
        assert not is_covered(version, verified)

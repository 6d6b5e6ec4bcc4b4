"""What pip installs for the tests is pinned: nothing that somebody else releases changes a run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[1] / "requirements"
PIN = r"[a-z0-9-]+==[^ ;]+(?: ; [^\\\n]+)?(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n"
PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13")


def text(name: str) -> str:
    return (REQUIREMENTS / name).read_text()


@pytest.mark.parametrize("name", ["tools.txt", "lock.txt", "fuzz.txt"])
def test_lock_file_has_exact_versions_with_hashes_and_nothing_else(name: str) -> None:
    assert re.sub(PIN, "", text(name)) == ""


@pytest.mark.parametrize("name", ["tools", "lock", "fuzz"])
def test_all_that_is_asked_for_is_locked(name: str) -> None:
    wanted = re.findall(r"^([a-z][a-z0-9-]*)[><=]", text(f"{name}.in"), re.MULTILINE)
    assert wanted and set(wanted) <= set(locked(name))


def locked(name: str) -> list[str]:
    return re.findall(r"^([a-z0-9-]+)==", text(f"{name}.txt"), re.MULTILINE)


@pytest.mark.parametrize("python", PYTHONS)
def test_every_promised_python_gets_one_version_of_each(python: str) -> None:
    """Where a package has several versions, their markers take turns without a gap."""
    version = tuple(map(int, python.split(".")))
    pins = re.findall(r"^([a-z0-9-]+)==[^ ;]+((?: ; [^\\\n]+)?)", text("tools.txt"), re.MULTILINE)
    for name in {"pytest", "hypothesis", "ruff", "mypy", "packaging", "pluggy"}:
        chosen = [marker for pinned, marker in pins if pinned == name and holds(marker, version)]
        assert len(chosen) == 1, (name, python)


def holds(marker: str, version: tuple[int, ...]) -> bool:
    """Whether the conditions on Python's version in a marker hold."""
    for operator, number, _any_patch in re.findall(
        r"python_full_version (<|>=|==) '([0-9.]+?)(\.\*)?'", marker
    ):
        bound = tuple(map(int, number.split(".")))
        true = {"<": version < bound, ">=": version >= bound, "==": version == bound}[operator]
        if not true:
            return False
    return True

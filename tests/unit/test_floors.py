"""Which module may import which: floors, each importing only from those below (DESIGN)."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import vfio_preflight

PACKAGE = Path(vfio_preflight.__file__).parent

# From the ground up; modules of one floor may import each other. Whatever else there is at the top
# of the package puts things together, on the floor that is empty here.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "verdicts", "jsondir", "regular", "__init__"),
    ("pci",),
    ("qemu", "guest"),
    ("findings", "host"),
    ("checks", "policy"),
    ("configuration", "preflight", "journal", "refusals", "supervise"),
    ("render", "collect"),
    (),
    ("gate",),
    ("hook",),
    ("cli", "__main__"),
)
PLACES = {"rich": {"cli"}, "libvirt": {"cli"}}
# What is pure, or runs for guests without VFIO devices, does without lxml.
WITHOUT_LXML = {
    *("errors", "verdicts", "pci", "qemu", "checks", "policy", "preflight"),
    *("regular", "configuration", "journal", "refusals", "supervise", "hook"),
}


def floor(module: str) -> int:
    top = module.split(".")[0]
    return next((n for n, names in enumerate(FLOORS) if top in names), FLOORS.index(()))


def imports(path: Path, module: str) -> Iterator[str]:
    """Full names of what a module imports, anywhere in it, and be it for types alone."""
    above = module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module)
        elif isinstance(node, ast.ImportFrom):
            base = [*above[: len(above) - node.level + 1], *([node.module] if node.module else [])]
            yield from (".".join(["vfio_preflight", *base, alias.name]) for alias in node.names)


@cache
def modules() -> dict[str, set[str]]:
    """What every module imports, by its name below the package: ``pci.space``."""
    paths = PACKAGE.rglob("*.py")
    names = {path: str(path.relative_to(PACKAGE).with_suffix("")) for path in paths}
    return {
        name.replace("/", "."): set(imports(path, name.replace("/", ".")))
        for path, name in names.items()
    }


def own_imports(module: str) -> set[str]:
    prefix = "vfio_preflight."
    found = {name[len(prefix) :] for name in modules()[module] if name.startswith(prefix)}
    return found - {"__version__"}


def users_of(package: str) -> set[str]:
    """Modules that import a package that is not ours."""
    return {
        module
        for module, names in modules().items()
        if any(name.split(".")[0] == package for name in names)
    }


def test_no_module_imports_from_above() -> None:
    upward = [
        f"{module} imports {other}"
        for module in modules()
        for other in own_imports(module)
        if floor(other) > floor(module)
    ]
    assert upward == []


def test_pci_imports_nothing_but_errors() -> None:
    for module in modules():
        if module.startswith("pci."):
            assert {name.split(".")[0] for name in own_imports(module)} <= {"pci", "errors"}


@pytest.mark.parametrize("package", PLACES)
def test_third_party_packages_stay_where_they_belong(package: str) -> None:
    assert {module.split(".")[0] for module in users_of(package)} <= PLACES[package]


def test_lxml_stays_away_from_what_is_pure() -> None:
    assert not {module.split(".")[0] for module in users_of("lxml")} & WITHOUT_LXML


@pytest.mark.skipif(sys.version_info < (3, 10), reason="no list of the standard library's modules")
def test_no_other_third_party_package() -> None:
    standard: frozenset[str] = getattr(sys, "stdlib_module_names")  # noqa: B009
    known = {*standard, *PLACES, "lxml", "vfio_preflight"}
    imported = {name.split(".")[0] for names in modules().values() for name in names}
    assert imported - known == set()


def loaded_by(statement: str) -> set[str]:
    """What a new interpreter has loaded after ``statement``, beyond what it starts with."""
    program = (
        "import sys\nbefore = set(sys.modules)\n"
        f"{statement}\nprint(' '.join(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )
    return set(done.stdout.split())


HEAVY = {"argparse", "rich", "libvirt", "logging", "subprocess", "socket", "ssl", "json", "hashlib"}


def test_importing_the_hook_loads_next_to_nothing() -> None:
    loaded = loaded_by("import vfio_preflight.hook")
    assert not loaded & (HEAVY | {"lxml", "configparser", "dataclasses", "typing"})
    assert {name for name in loaded if name.startswith("vfio_preflight.")} == {
        "vfio_preflight.hook"
    }


def test_importing_the_gate_loads_no_tools_of_the_command() -> None:
    loaded = loaded_by("import vfio_preflight.gate")
    assert "lxml.etree" in loaded
    assert not loaded & {"argparse", "rich", "libvirt", "logging", "subprocess", "ssl"}
    assert not any(name.startswith("vfio_preflight.cli") for name in loaded)

"""Which module may import which: floors, each importing only from those below (DESIGN)."""

from __future__ import annotations

import ast
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import vfio_preflight

PACKAGE = Path(vfio_preflight.__file__).parent

# From the ground up. A room imports from the rooms of its own floor or of those below it; between
# rooms of one floor no import runs at all, so that the order of floors is the order of the work.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "__init__"),
    ("osutil",),
    ("pci",),
    ("qemu.model",),
    ("qemu.emulator", "guest"),
    ("qemu.trial", "qemu.messages", "images"),
    ("qemu.twin",),
    ("host",),
    ("judge",),
    ("configuration",),
    ("report", "gather"),
    ("hook",),
    ("cli",),
    ("__main__",),
)
# What may lie at the top of the package, and in qemu/, without a room of its own.
LOOSE = {"__init__", "__main__", "errors", "configuration", "qemu.__init__"}
PLACES = {"rich": {"cli"}, "libvirt": {"cli"}}
# What is pure, or runs for guests without VFIO devices, does without lxml.
WITHOUT_LXML = {
    *("errors", "osutil", "pci", "qemu", "judge", "report", "configuration"),
    *("hook.entry", "hook.supervise", "hook.journal", "hook.refusals"),
}
# Pure: bytes and values in, values out. Neither file nor process nor clock.
PURE = ("pci", "qemu.model", "qemu.messages", "judge", "report")
IMPURE = {"os", "io", "pathlib", "subprocess", "socket", "select", "tempfile", "time", "shutil"}


def room(module: str) -> str:
    """The room of a module, the longest name in FLOORS that it begins with."""
    parts = module.split(".")
    names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((name for name in names if any(name in floor for floor in FLOORS)), "")


def floor(module: str) -> int:
    return next(n for n, names in enumerate(FLOORS) if room(module) in names)


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


def own_modules(module: str) -> set[str]:
    """What a module imports of ours, as modules: ``pci.space``, not ``pci.space.word``."""
    found = set()
    for name in own_imports(module):
        parts = name.split(".")
        names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
        found.add(next((each for each in names if each in modules()), name))
    return found


def is_below(other: str, module: str) -> bool:
    return room(other) == room(module) or floor(other) < floor(module)


def test_every_module_is_in_a_room() -> None:
    names = {name for name in modules() if not name.endswith(".__init__")}
    loose = {name for name in names if "." not in name or name.rpartition(".")[0] == "qemu"}
    assert loose <= LOOSE
    assert [name for name in names - LOOSE if not room(name)] == []


def test_no_module_imports_from_above() -> None:
    upward = [
        f"{module} imports {other}"
        for module in modules()
        if room(module)
        for other in own_modules(module)
        if not is_below(other, module)
    ]
    assert upward == []


def test_no_two_modules_import_each_other() -> None:
    graph = {module: own_modules(module) - {module} for module in modules()}
    while leaves := {module for module, needed in graph.items() if not needed & graph.keys()}:
        graph = {module: needed for module, needed in graph.items() if module not in leaves}
    assert sorted(graph) == []


def test_pure_rooms_touch_nothing_outside() -> None:
    touching = [
        f"{module} imports {name}"
        for module, names in modules().items()
        if room(module) in PURE
        for name in names
        if name.split(".")[0] in IMPURE
    ]
    assert touching == []


def test_modules_and_functions_are_small() -> None:
    lengths, functions = [], []
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        lengths.append(text.count("\n"))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                functions.append(int(node.end_lineno or 0) - node.lineno + 1)
    assert max(lengths) <= 350
    assert statistics.median(lengths) <= 200
    assert statistics.quantiles(functions, n=10)[-1] <= 20


@pytest.mark.parametrize("package", PLACES)
def test_third_party_packages_stay_where_they_belong(package: str) -> None:
    assert {module.split(".")[0] for module in users_of(package)} <= PLACES[package]


def test_lxml_stays_away_from_what_is_pure() -> None:
    users = {name for module in users_of("lxml") for name in (module, module.split(".")[0])}
    assert not users & WITHOUT_LXML


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
    loaded = loaded_by("import vfio_preflight.hook.entry")
    assert not loaded & (HEAVY | {"lxml", "configparser", "dataclasses", "typing"})
    assert {name for name in loaded if name.startswith("vfio_preflight.")} == {
        "vfio_preflight.hook",
        "vfio_preflight.hook.entry",
    }


def test_importing_the_gate_loads_no_tools_of_the_command() -> None:
    loaded = loaded_by("import vfio_preflight.hook.gate")
    assert "lxml.etree" in loaded
    assert not loaded & {"argparse", "rich", "libvirt", "logging", "subprocess", "ssl", "typing"}
    assert not any(name.startswith("vfio_preflight.cli") for name in loaded)

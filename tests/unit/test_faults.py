"""docs/FAULTS.md and docs/SECURITY.md say what the tests and the code have."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import vfio_preflight
from vfio_preflight.judge.codes import CODES

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs"
FAULTS = (DOCS / "FAULTS.md").read_text()
SECURITY = (DOCS / "SECURITY.md").read_text()
COLUMNS = ["what breaks", "`migrate`", "`started`", "`restore`, `prepare`"]


def rows() -> list[list[str]]:
    lines = [line for line in FAULTS.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names_in(path: Path) -> set[str]:
    return {
        node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)
    }


def test_each_row_has_a_test_that_exists() -> None:
    faults = [row for row in rows() if row[:4] != COLUMNS]
    assert len(faults) > 30
    for row in faults:
        assert len(row) == 6 and all(row), row
        tests = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row[5])
        assert tests and row[5].count("`") == 2 * len(tests), row[0]
        for file, name in tests:
            assert (TESTS / file).is_file(), file
            assert name in names_in(TESTS / file), f"{file}::{name}"


def test_findings_that_are_named_exist() -> None:
    named = re.findall(r"[Ff]indings? (`[a-z-]+`(?:(?:,| or) `[a-z-]+`)*)", FAULTS)
    assert len(named) >= 10
    assert {code for names in named for code in re.findall("`(.*?)`", names)} <= CODES.keys()


def test_modules_that_are_named_exist() -> None:
    package = Path(vfio_preflight.__file__).parent
    for name in re.findall(r"`([a-z_]+/(?:[a-z_]+/)*[a-z_]*(?:\.py)?)`", SECURITY):
        assert (package / name).exists() or (TESTS.parent / name).exists(), name

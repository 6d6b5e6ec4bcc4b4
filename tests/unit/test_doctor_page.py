"""docs/DOCTOR.md is what the table of faults has, and the table is what the looks find."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from unit.doctor_page import PAGE, page, values_of
from vfio_preflight.cli.diagnosis import finding
from vfio_preflight.cli.diagnosis.faults import BY_CODE, FAULTS
from vfio_preflight.cli.diagnosis.finding import Fault

LOOKS = Path(finding.__file__).parent


def test_page_is_what_the_table_has() -> None:
    written = (Path(__file__).parents[2] / PAGE).read_text()
    assert written == page(), "run: make findings"


def found_in_the_code() -> set[str]:
    """The codes that the looks give to found(), by constants or in a loop over such."""
    codes = set()
    for path in LOOKS.glob("*.py"):
        if path.name != "faults.py":
            nodes = ast.walk(ast.parse(path.read_text()))
            words = {str(node.value) for node in nodes if isinstance(node, ast.Constant)}
            codes |= words & {*BY_CODE}
    return codes


def test_every_fault_is_looked_for() -> None:
    assert len(BY_CODE) == len(FAULTS)
    assert found_in_the_code() == {*BY_CODE}


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.code for fault in FAULTS])
def test_texts_are_for_people(fault: Fault) -> None:
    assert fault.message.isprintable() and not fault.message.endswith(".")
    # It must be pasted as one line, and be one that does something.
    assert fault.command.strip() and "\n" not in fault.command
    assert values_of(fault)

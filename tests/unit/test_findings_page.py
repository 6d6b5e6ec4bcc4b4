"""docs/FINDINGS.md shows every finding as the code prints it."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.findings_examples import EXAMPLES
from unit.findings_page import PAGE, find, first_line, page
from vfio_preflight.judge.codes import CODES
from vfio_preflight.judge.remedies import LONGEST, in_short
from vfio_preflight.report.firstline import LIMIT, size
from vfio_preflight.report.schema import as_dict


def test_page_is_what_the_code_prints() -> None:
    written = (Path(__file__).parents[2] / PAGE).read_text()
    assert written == page(), "run: make findings"


def test_every_code_has_an_example() -> None:
    assert set(EXAMPLES) == set(CODES)


@pytest.mark.parametrize("code", sorted(CODES))
def test_example_has_the_finding(code: str) -> None:
    report = as_dict(*EXAMPLES[code]())
    device, finding = find(report, code)
    assert finding["text"].isprintable() and not finding["text"].endswith(".")
    line = first_line(report, device, finding)
    assert size(line) <= LIMIT
    if CODES[code].verdict == "pass":
        return
    own = finding.get("remedy", "")
    about = (device["identity"] or "", device["mendable"]) if device else ("", False)
    short = in_short(code, "g1", *about)
    assert line.endswith(f"; to do: {own if own and size(own) <= LONGEST else short}")
    for mismatch in finding.get("mismatches", [])[:1]:
        assert f"offset {mismatch['offset']:#x}: source {mismatch['source']:02x}" in line
        assert mismatch["register"] in line

"""The README says what the code says."""

from __future__ import annotations

from pathlib import Path

from conformance.record import row
from vfio_preflight.cli.main import COMMANDS, parser
from vfio_preflight.judge.codes import CODES
from vfio_preflight.report.text import EVIDENCE

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_every_finding_is_listed_as_it_is() -> None:
    rows = {
        line.split("|")[1].strip(" `"): [cell.strip() for cell in line.split("|")[2:4]]
        for line in README.split("## Findings")[1].split("\n## ")[0].splitlines()
        if line.startswith("| `")
    }
    assert rows == {name: [code.verdict, code.meaning] for name, code in CODES.items()}


def test_every_command_is_told_of() -> None:
    assert len(COMMANDS) > 5
    for name in parser().format_help().split("COMMAND\n")[1].split("\n\n")[0].splitlines():
        word = name.split()[0] if name.startswith("    ") and name[4] != " " else ""
        assert f"`{word}" in README


def test_every_sort_of_evidence_is_told_of() -> None:
    for grade in EVIDENCE:
        assert f"| `{grade}` |" in README


def test_verified_versions_are_those_of_the_conformance_runs() -> None:
    assert row() in README.splitlines()

"""Shows a report: JSON as it is, text with tables and colour where rich is installed."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from ..render import HEADLINES, Json, details, guest_address, name, remedies
from ..verdicts import BLOCK, FAIL, MEND, UNKNOWN

STYLES = {
    "pass": "bold green",
    "tolerated": "bold yellow",
    "unknown": "bold magenta",
    "fail": "bold red",
}
ACTIONS = {
    "allow": "the hook lets it pass",
    "annotate": "the hook lets it pass and notes the report in the guest's metadata",
    "block": "the hook blocks it",
    "mend": "the hook mends it: skip-vsc-check=on for the devices that need it",
}
COLUMNS = ("device", "host", "guest", "id", "source state", "destination", "verdict")
# Findings start in one column, behind the longest verdict.
INDENT = " " * 10
# Bytes of one finding that a person is shown.
LISTED = 16
# Columns to use where there is no terminal to fit into.
WIDE = 160


def add_format(parser: ArgumentParser) -> None:
    """The option every command has."""
    parser.add_argument("--format", choices=("text", "json"), default="text")


def exit_status(report: Json) -> int:
    """0 go, 1 no-go, 3 undetermined: what will happen, policy included."""
    if report["action"] == MEND:
        return 0
    if report["action"] == BLOCK or report["verdict"] == FAIL:
        return 1
    return 3 if report["verdict"] == UNKNOWN else 0


def show(report: Json, form: str) -> int:
    """Print ``report`` and return the exit status that goes with it."""
    if form == "json":
        print(json.dumps(report, indent=2))
    else:
        _show_text(report)
    return exit_status(report)


def _show_text(report: Json) -> None:
    try:
        from rich.console import Console
    except ImportError:
        print("\n".join([_title(report), *details(report)]))
        return
    terminal = sys.stdout.isatty()
    console = Console(highlight=False, soft_wrap=True, width=None if terminal else WIDE)
    _headline(console, report)
    if report["devices"]:
        console.print(_table(report["devices"]))
    _findings(console, "guest", report["findings"])
    for device in report["devices"]:
        _findings(console, name(device), device["findings"])
        if device["qemu"]:
            console.print(f"{INDENT}QEMU would fail with: {device['qemu']}", markup=False)
    for remedy, subjects in remedies(report).items():
        console.print(f"{'to do':{len(INDENT)}}{subjects}: {remedy}", markup=False)


def _title(report: Json) -> str:
    return f"{report['guest']}: {HEADLINES[report['verdict']]}; {ACTIONS[report['action']]}"


def _headline(console: Any, report: Json) -> None:  # noqa: ANN401 - rich is optional
    from rich.text import Text

    verdict = report["verdict"]
    console.print(Text(verdict.upper(), style=STYLES[verdict]), Text(_title(report)))
    console.print(Text(f"{INDENT}machine type {report['machine']}, {report['emulator']}"))
    if report["note"]:
        console.print(Text(f"{INDENT}{report['note']}"))


def _table(devices: list[Json]) -> Any:  # noqa: ANN401 - rich is optional
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(*COLUMNS, box=box.SIMPLE_HEAD, pad_edge=False)
    for device in devices:
        cells = (
            device["alias"] or device["key"],
            device["host"] or "-",
            guest_address(device) or "-",
            device["identity"] or "-",
            _evidence(device["source"]),
            _evidence(device["destination"]),
        )
        verdict = Text(device["verdict"], style=STYLES[device["verdict"]])
        table.add_row(*(Text(cell) for cell in cells), verdict)
    return table


def _evidence(state: Json | None) -> str:
    return state["evidence"] if state else "unknown"


def _findings(console: Any, subject: str, findings: list[Json]) -> None:  # noqa: ANN401
    from rich.text import Text

    for finding in findings:
        mark = Text(f"{finding['verdict']:{len(INDENT) - 1}}", style=STYLES[finding["verdict"]])
        text = Text(f"{subject}: {finding['text']} ")
        console.print(mark, text + Text(f"[{finding['code']}]", "dim"))
        if finding.get("mismatches"):
            console.print(_mismatches(finding["mismatches"]))


def _mismatches(rows: list[Json]) -> Any:  # noqa: ANN401 - rich is optional
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table(
        "offset", "capability", "register", "source", "destination", box=None, pad_edge=False
    )
    for row in rows[:LISTED]:
        cells = (f"{row['offset']:#05x}", row["where"], row["register"])
        bytes_ = (f"{row['source']:02x}", f"{row['destination']:02x}")
        table.add_row(*(Text(cell) for cell in (*cells, *bytes_)))
    if len(rows) > LISTED:
        table.add_row(Text("..."), Text(f"{len(rows) - LISTED} more (--format json)"))
    return Padding(table, (0, 0, 0, len(INDENT)))

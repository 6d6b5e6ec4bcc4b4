"""Shows a report: JSON as it is, text with tables and colour where rich is installed."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator

from ..judge.verdicts import BLOCK, FAIL, MEND, UNKNOWN
from ..osutil.light import TYPE_CHECKING
from ..osutil.text import printable, printable_values
from ..report.firstline import first_line, reasons, short_guest, short_name
from ..report.schema import DeviceDict, FindingDict, MismatchDict, ReportDict, StateDict
from ..report.text import (
    details,
    evidence_used,
    guest_address,
    remedies,
    title,
    unjudged_lines,
)
from .arguments import add_format as add_format
from .terminal import unfiltered

if TYPE_CHECKING:
    from typing import Any

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
# What is said first, where the verdict alone does not say whether the migration goes ahead.
OUTCOMES = {MEND: ("MENDED", STYLES["tolerated"]), BLOCK: ("BLOCKED", STYLES["fail"])}
COLUMNS = ("device", "host", "guest", "id", "source state", "destination", "verdict")
# The verdict of a finding is in a column of its own, as wide as the longest one.
MARGIN = 10
# Bytes of one finding that a person is shown.
LISTED = 16
# Columns to use where there is no terminal to fit into.
WIDE = 120


def add_trial(parser: ArgumentParser) -> None:
    """The option that has the emulator itself confirm the prediction."""
    parser.add_argument(
        "--trial", action="store_true", help="have the destination's emulator itself try it"
    )


def exit_status(report: ReportDict) -> int:
    """0 go, 1 no-go, 3 undetermined: what will happen, policy included if there is one."""
    # The policy's decision comes first: a mended guest goes ahead although its verdict is fail.
    if report["action"] == MEND:
        return 0
    if report["action"] == BLOCK or report["verdict"] == FAIL:
        return 1
    return 3 if report["verdict"] == UNKNOWN else 0


def show(report: ReportDict, form: str) -> int:
    """Print ``report`` and return the exit status that goes with it."""
    if form == "json":
        print(json.dumps(report, indent=2))
    else:
        _show_text(printable_values(report))
    return exit_status(report)


def _show_text(report: ReportDict) -> None:
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        word = outcome(report)[0]
        print("\n".join([f"{word:{MARGIN}}{_title(report)}", *_told(report), *details(report)]))
        return
    terminal = sys.stdout.isatty()
    # A fixed width in pipes: rich would assume 80 columns and fold the tables.
    console = Console(highlight=False, width=None if terminal else WIDE)
    with console.capture() as captured:
        for part in _parts(report):
            # markup=False: a text in square brackets, as finding codes are, is not rich's markup.
            console.print(part, soft_wrap=isinstance(part, (str, Text)), markup=False)
    # Cells are padded to the width of their column; nobody wants that in a file.
    text = "\n".join(line.rstrip() for line in captured.get().splitlines())
    print(text, file=unfiltered())


def _parts(report: ReportDict) -> Iterator[Any]:
    """What is printed, from top to bottom; a string or text stays on one line."""
    from rich.text import Text

    word, style = outcome(report)
    yield Text.assemble((f"{word:{MARGIN}}", style), _title(report))
    for line in _told(report):
        yield _marked("", "", line)
    yield _marked("", "", f"machine type {report['machine']}, {report['emulator']}")
    if report["note"]:
        yield _marked("", "", report["note"])
    if report["devices"]:
        yield ""
        yield _devices(report["devices"])
    yield ""
    yield from _findings("guest", report["findings"])
    for device in report["devices"]:
        shown = short_name(device)
        yield from _findings(shown, device["findings"])
        if device["qemu"]:
            yield f"{'QEMU':{MARGIN}}{shown}: {device['qemu']}"
    for line in unjudged_lines(report):
        yield _marked("unjudged", "dim", line)
    for grade, meaning in evidence_used(report).items():
        yield _marked("evidence", "dim", f"{grade}: {meaning}")
    for remedy, subjects in remedies(report).items():
        yield _marked("to do", "bold", f"{subjects}: {remedy}")


def outcome(report: ReportDict) -> tuple[str, str]:
    """The first word of a report, which matches the exit status, and its style."""
    verdict = report["verdict"]
    # A failing guest that is not mended is FAIL, even if the policy lets it pass.
    if verdict != FAIL or report["action"] == MEND:
        return OUTCOMES.get(report["action"] or "", (verdict.upper(), STYLES[verdict]))
    return verdict.upper(), STYLES[verdict]


def _title(report: ReportDict) -> str:
    """The rest of the first line, whose limit counts the word in the margin too."""
    margin = f"{outcome(report)[0]:{MARGIN}}"
    opening = f"{margin}{short_guest(report['guest'])}"
    return first_line(opening, report, _becomes(report), names_guest=True)[len(margin) :]


def _told(report: ReportDict) -> list[str]:
    """What the first line has no room for: the name in full, and what becomes of the guest."""
    name = report["guest"]
    named = f"{printable(name)}: " if short_guest(name) != name else ""
    if next(reasons(report), None):
        return [f"{named}{_becomes(report)}"]
    return [named.rstrip(": ")] if named else []


def _becomes(report: ReportDict) -> str:
    action = ACTIONS.get(report["action"] or "")
    return f"{title(report)}{f'; {action}' if action else ''}"


def _marked(mark: str, style: str, content: Any) -> Any:  # noqa: ANN401 - rich is optional
    """``content``, wrapped to the right of a mark in the margin."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid()
    grid.add_column(width=MARGIN)
    grid.add_column(overflow="fold")
    grid.add_row(Text(mark, style), Text(content) if isinstance(content, str) else content)
    return grid


def _devices(devices: list[DeviceDict]) -> Any:  # noqa: ANN401 - rich is optional
    table = _table(COLUMNS)
    for device in devices:
        cells = (
            _named(device),
            device["host"] or "-",
            guest_address(device) or "-",
            device["identity"] or "-",
            _evidence(device["source"]),
            _evidence(device["destination"]),
            device["verdict"],
        )
        table.add_row(*cells, style=STYLES[device["verdict"]].replace("bold ", ""))
    return table


def _named(device: DeviceDict) -> str:
    """The device as the guest's XML has it, with the destination's alias where that differs."""
    shown, there = short_name(device), device["alias"]
    return f"{shown} (there {there})" if there and there != shown else shown


def _table(columns: tuple[str, ...]) -> Any:  # noqa: ANN401 - rich is optional
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False, padding=(0, 1), header_style="dim")


def _evidence(state: StateDict | None) -> str:
    return state["evidence"] if state else "unknown"


def _findings(subject: str, findings: list[FindingDict]) -> Iterator[Any]:
    for finding in findings:
        text = f"{subject}: {finding['text']} [{finding['code']}]"
        yield _marked(finding["verdict"], STYLES[finding["verdict"]], text)
        if finding.get("mismatches"):
            yield _marked("", "", _mismatches(finding["mismatches"]))


def _mismatches(rows: list[MismatchDict]) -> Any:  # noqa: ANN401 - rich is optional
    table = _table(("offset", "capability", "register", "source", "destination"))
    for row in rows[:LISTED]:
        values = (f"{row['source']:02x}", f"{row['destination']:02x}")
        table.add_row(f"{row['offset']:#05x}", row["where"], row["register"], *values)
    if len(rows) > LISTED:
        table.add_row("...", f"{len(rows) - LISTED} more (--format json)")
    return table

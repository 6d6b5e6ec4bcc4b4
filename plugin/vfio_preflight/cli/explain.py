"""``explain [FILE|-]``: QEMU's lines about a failed migration, in plain words."""

from __future__ import annotations

import json
import sys
from argparse import Namespace, _SubParsersAction

from ..configuration import load
from ..errors import PreflightError
from ..qemu.messages import Explanation, explain
from . import output
from .alone import load_state

# Lines that only say that another line's failure was one.
CONSEQUENCES = ("load-failed", "migration-failed")
# The end of a log is where a failed migration stands.
MAX_TEXT = 16 << 20


class TextError(PreflightError):
    """A log that cannot be read."""


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare the command."""
    parser = commands.add_parser("explain", help="put QEMU's error lines into plain words")
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        default="-",
        help="a guest's log, or any text with libvirt's error; - for standard input",
    )
    parser.add_argument(
        "--state",
        metavar="DEVICE",
        help="the device's config state: file, PCI address or mdev UUID",
    )
    output.add_format(parser)
    parser.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Carry the command out: 0 something was explained, 3 nothing known was found."""
    state = load_state(options.state, load()) if options.state else None
    found = list(explain(_read(options.file), state.config if state else None))
    if options.format == "json":
        lines = [entry._asdict() for entry in found]
        print(json.dumps({"schema": 1, "explanations": lines}, indent=2))
    else:
        causes = [entry for entry in found if entry.kind not in CONSEQUENCES]
        print("\n\n".join(map(_text, causes or found)) or "no line that is known here")
    return 0 if found else 3


def _read(name: str) -> str:
    try:
        if name == "-":
            return sys.stdin.buffer.read(MAX_TEXT).decode("utf-8", "replace")
        with open(name, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - MAX_TEXT))
            return file.read().decode("utf-8", "replace")
    except OSError as error:
        raise TextError(f"{name}: cannot be read: {error.strerror}") from error


def _text(entry: Explanation) -> str:
    return (
        f"line {entry.line}: {entry.quote}\n"
        f"  what:  {entry.what}\n"
        f"  why:   {entry.why}\n"
        f"  to do: {entry.remedy}"
    )

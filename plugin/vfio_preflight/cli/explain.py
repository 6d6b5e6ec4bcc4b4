"""``explain [FILE|-]``: QEMU's lines about a failed migration, in plain words."""

from __future__ import annotations

import json
import sys
from argparse import Namespace, _SubParsersAction

from ..configuration import load
from ..errors import PreflightError
from ..osutil.light import TYPE_CHECKING
from ..osutil.text import printable
from ..qemu.messages.explain import Explanation, explain
from . import output
from .alone import load_state

if TYPE_CHECKING:
    from typing import BinaryIO

# Lines that only say that another line's failure was one.
CONSEQUENCES = ("load-failed", "migration-failed")
# The end of a log is where a failed migration stands.
MAX_TEXT = 16 << 20


class TextError(PreflightError):
    """A log that cannot be read."""


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare the command."""
    parser = commands.add_parser("explain", help="explain QEMU's error lines")
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
    text, skipped = _read(options.file)
    config = state.config if state else None
    found = [entry._replace(line=entry.line + skipped) for entry in explain(text, config)]
    if options.format == "json":
        lines = [entry._asdict() for entry in found]
        print(json.dumps({"schema": 1, "explanations": lines}, indent=2))
    else:
        # libvirt's "load of migration failed" follows from another line and explains nothing.
        causes = [entry for entry in found if entry.kind not in CONSEQUENCES]
        print("\n\n".join(map(_text, causes or found)) or "no known error line found")
    return 0 if found else 3


def _read(name: str) -> tuple[str, int]:
    """The end of a text, and the number of lines that are left out before it."""
    try:
        if name == "-":
            return _end_of(sys.stdin.buffer)
        with open(name, "rb") as file:
            return _end_of(file)
    except OSError as error:
        raise TextError(f"{name}: cannot be read: {error.strerror}") from error


def _end_of(file: BinaryIO) -> tuple[str, int]:
    kept, skipped = bytearray(), 0
    more = True
    # Logs are appended to: only the end is kept, whatever the size, also of a pipe.
    while more:
        chunk = file.read(MAX_TEXT)
        kept += chunk
        more = bool(chunk)
        over = max(0, len(kept) - MAX_TEXT)
        skipped += kept.count(b"\n", 0, over)
        del kept[:over]
    return kept.decode("utf-8", "replace"), skipped


def _text(entry: Explanation) -> str:
    lines = (
        f"line {entry.line}: {entry.quote}",
        f"  what:  {entry.what}",
        f"  why:   {entry.why}",
        f"  to do: {entry.remedy}",
    )
    return "\n".join(map(printable, lines))

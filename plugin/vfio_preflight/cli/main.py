"""``vfio-preflight COMMAND``: parses the command line and renders errors.

Exit status: 0 go, 1 no-go, 2 usage or input error, 3 undetermined.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr

from .. import __version__
from ..errors import PreflightError
from . import (
    catalogue,
    check,
    compare,
    explain,
    history,
    host,
    install,
    masks,
    record,
    state,
    watch,
)

USAGE_ERROR = 2
COMMANDS = (
    *(check, host, compare, masks, explain, state, record, watch, catalogue, history),
    install,
)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="vfio-preflight",
        description="Predicts whether QEMU on the destination will accept a migrating guest's"
        " VFIO devices.",
        epilog="Exit status: 0 go, 1 no-go, 2 usage or input error, 3 undetermined.",
    )
    top.add_argument("--version", action="version", version=f"vfio-preflight {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    _print_anything()
    options = _options(sys.argv[1:] if arguments is None else arguments)
    try:
        return int(options.run(options))
    except BrokenPipeError:
        # The reader left (a pager, head): nothing more to say, and nothing to say it to.
        # Python flushes stdout at its exit, which would raise the error once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return USAGE_ERROR
    except (PreflightError, OSError) as error:
        if getattr(options, "format", "") == "json":
            _complain_as_json(str(error))
        print(f"vfio-preflight: {error}", file=sys.stderr)
        return USAGE_ERROR
    # 128 + SIGINT, as a shell reports it.
    except KeyboardInterrupt:
        return 130


def _print_anything() -> None:
    """Show by its number what a terminal's encoding lacks: names can hold any character or byte."""
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    # argparse writes to stderr before it exits; the text is needed for JSON as well.
    """Parse the command line. Raises SystemExit, after what argparse has to say."""
    complaints = io.StringIO()
    try:
        with redirect_stderr(complaints):
            return parser().parse_args(arguments)
    except SystemExit as end:
        # Scripts that ask for JSON get JSON even for a usage error.
        if end.code == USAGE_ERROR and _wants_json(arguments):
            _complain_as_json(complaints.getvalue().strip().rpartition("error: ")[2])
        raise
    finally:
        sys.stderr.write(complaints.getvalue())


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for JSON that cannot be parsed."""
    return "--format=json" in arguments or ("--format", "json") in zip(arguments, arguments[1:])


def _complain_as_json(error: str) -> None:
    print(json.dumps({"schema": 1, "error": error}, indent=2))

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
from importlib import import_module
from types import ModuleType

from .. import __version__
from ..errors import PreflightError
from .terminal import filtered

USAGE_ERROR = 2
# One module each, or one for commands that belong together; in the order of the help.
COMMANDS = (
    *("check", "twin", "host", "compare", "masks", "explain", "state", "record", "watch"),
    *("catalogue", "history", "metrics", "install", "doctor"),
)
# These commands must work, or say what is wrong, where nothing else does.
ALONE = {"install": "install", "uninstall": "install", "doctor": "doctor"}


class LacksError(PreflightError):
    """This Python has no lxml."""


def parser(command: str = "") -> argparse.ArgumentParser:
    """The whole command line, or that of one ``command`` which needs no other's modules.

    Raises LacksError.
    """
    top = argparse.ArgumentParser(
        prog="vfio-preflight",
        description="Predicts whether QEMU on the destination will accept a migrating guest's"
        " VFIO devices.",
        epilog="Exit status: 0 go, 1 no-go, 2 usage or input error, 3 undetermined.",
    )
    top.add_argument("--version", action="version", version=f"vfio-preflight {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for module in [ALONE[command]] if command in ALONE else COMMANDS:
        _module(module).add_parser(commands)
    return top


def _module(name: str) -> ModuleType:
    try:
        return import_module(f".{name}", __package__)
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "lxml":
            raise
        raise LacksError(
            f"{sys.executable} cannot load lxml ({error}); install python3-lxml from the"
            " distribution"
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    with filtered():
        return _main(sys.argv[1:] if arguments is None else arguments)


def _main(arguments: Sequence[str]) -> int:
    options = argparse.Namespace(format="json" if _wants_json(arguments) else "")
    try:
        options = _options(arguments)
        status = int(options.run(options))
        # Not as Python ends: what cannot be written then has no exit status of ours.
        print(end="", flush=True)
        return status
    except BrokenPipeError:
        # The reader left (a pager, head): nothing more to say, and nothing to say it to.
        _leave_output()
        return USAGE_ERROR
    except (PreflightError, OSError) as error:
        _keep_output()
        if getattr(options, "format", "") == "json":
            _complain_as_json(str(error))
        print(f"vfio-preflight: {error}", file=sys.stderr)
        return USAGE_ERROR
    # 128 + SIGINT, as a shell reports it.
    except KeyboardInterrupt:
        return 130


def _leave_output() -> None:
    # Python flushes stdout at its exit, which would raise the error once more.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _keep_output() -> None:
    """Leave standard output unless what is in it can be written: its disk may be full."""
    try:
        print(end="", flush=True)
    except OSError:
        _leave_output()


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    # argparse writes to stderr before it exits; the text is needed for JSON as well.
    """Parse the command line. Raises SystemExit, after what argparse has to say, and OSError."""
    complaints = io.StringIO()
    try:
        with redirect_stderr(complaints):
            # Its first word is the command, unless an option asks for help or the version.
            return parser(_first(arguments)).parse_args(arguments)
    except SystemExit as end:
        # Scripts that ask for JSON get JSON even for a usage error.
        if end.code == USAGE_ERROR and _wants_json(arguments):
            _complain_as_json(complaints.getvalue().strip().rpartition("error: ")[2])
        print(end="", flush=True)
        raise
    finally:
        sys.stderr.write(complaints.getvalue())


def _first(arguments: Sequence[str]) -> str:
    return arguments[0] if arguments else ""


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for JSON that cannot be parsed."""
    return "--format=json" in arguments or ("--format", "json") in zip(arguments, arguments[1:])


def _complain_as_json(error: str) -> None:
    print(json.dumps({"schema": 1, "error": error}, indent=2))

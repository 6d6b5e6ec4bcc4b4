"""``vfio-preflight COMMAND``: parses the command line and renders errors.

Exit status: 0 go, 1 no-go, 2 usage or input error, 3 undetermined.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .. import __version__
from ..errors import PreflightError
from . import catalogue, check, compare, explain, install, masks, record, state, watch

GO, NO_GO, USAGE, UNDETERMINED = 0, 1, 2, 3
COMMANDS = (check, compare, masks, explain, state, record, watch, catalogue, install)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="vfio-preflight",
        description="Tells before a migration whether QEMU on the destination will accept a guest's"
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
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except PreflightError as error:
        print(f"vfio-preflight: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        # The reader left (a pager, head): nothing more to say, and nothing to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return USAGE
    except OSError as error:
        print(f"vfio-preflight: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return 130

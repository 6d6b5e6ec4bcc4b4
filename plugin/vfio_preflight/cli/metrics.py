"""``metrics``: what was decided on this host, as the node exporter gives it to Prometheus."""

from __future__ import annotations

import json
from argparse import Namespace, _SubParsersAction

from ..configuration import NONE, load
from ..osutil.text import printable
from .arguments import add_format
from .export import ExportError, export, is_wanted

SCHEMA = 1
DESCRIPTION = (
    "Counts what the hook and 'watch' have put into the audit log since the last time, and writes"
    " the metrics for the node exporter's textfile collector ([paths] metrics). 'watch' does it"
    " every 15 seconds; a host without 'watch' has a timer run this command."
)


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare the command."""
    parser = commands.add_parser(
        "metrics", help="write the metrics for Prometheus", description=DESCRIPTION
    )
    add_format(parser)
    parser.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Carry the command out."""
    settings = load()
    if settings.metrics == NONE:
        raise ExportError("no metrics are wanted: [paths] metrics = none")
    if not is_wanted(settings):
        raise ExportError(
            f"{settings.metrics}: no such directory; to do: install prometheus-node-exporter, or"
            " name the directory of its textfile collector: [paths] metrics"
        )
    done = export(settings)
    if options.format == "json":
        print(json.dumps({"schema": SCHEMA, "file": done.path, "lines": done.lines}, indent=2))
    else:
        print(printable(f"{done.path}: written; new lines of the audit log: {done.lines}"))
    return 0

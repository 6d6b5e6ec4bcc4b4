"""``compare SOURCE DESTINATION``: would QEMU accept one config state in place of another?"""

from __future__ import annotations

import time
from argparse import Namespace, _SubParsersAction

from ..collect import ask_emulator
from ..configuration import ALWAYS, NEVER, load
from ..examine import examined
from ..preflight import Facts
from ..render import to_dict
from . import alone, output


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare the command."""
    parser = commands.add_parser("compare", help="compare two config states as QEMU would")
    parser.add_argument("source", metavar="SOURCE", help="file, PCI address or mdev UUID")
    parser.add_argument("destination", metavar="DESTINATION", help="the same, of the destination")
    alone.add_arguments(parser)
    output.add_trial(parser)
    output.add_format(parser)
    parser.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Carry the command out."""
    settings = load()
    guest = alone.guest_for(options, f"{options.source} to {options.destination}")
    end = time.monotonic() + settings.deadline
    facts = Facts(
        guest,
        {alone.DEVICE: alone.load_state(options.source, settings)},
        {alone.DEVICE: alone.load_state(options.destination, settings)},
        ask_emulator(guest, settings, end),
    )
    report = examined(facts, ALWAYS if options.trial else NEVER, end)
    return output.show(to_dict(report, None), options.format)

"""``compare SOURCE DESTINATION``: would QEMU accept one config state in place of another?"""

from __future__ import annotations

import time
from argparse import Namespace, _SubParsersAction

from ..configuration import Configuration, load
from ..gather.builds import both_builds
from ..gather.here import ask_emulator
from ..gather.trials import trials
from ..judge.facts import DeviceFacts, Facts
from ..judge.pipeline import examine
from ..judge.verdicts import ALWAYS, NEVER
from ..pci.state import Missing
from ..qemu.emulator.machines import EmulatorFacts
from ..qemu.emulator.verified import verified_versions
from ..report.schema import as_dict
from . import alone, output
from .arguments import UsageError


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare the command."""
    parser = commands.add_parser("compare", help="compare two config states as QEMU would")
    parser.add_argument("source", metavar="SOURCE", help="file, PCI address or mdev UUID")
    parser.add_argument("destination", metavar="DESTINATION", help="the same, of the destination")
    alone.add_arguments(parser)
    parser.add_argument(
        "--source-emulator",
        metavar="PATH",
        help="the QEMU that runs the guest on the source (default: the destination's, --emulator)",
    )
    output.add_trial(parser)
    output.add_format(parser)
    parser.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Carry the command out."""
    settings = load()
    guest = alone.guest_for(options, f"{options.source} to {options.destination}")
    end = time.monotonic() + settings.deadline
    device = DeviceFacts(
        guest.devices[0],
        alone.load_state(options.source, settings),
        alone.load_state(options.destination, settings),
    )
    emulator = ask_emulator(guest.emulator, settings, end)
    sender = _sender(options.source_emulator, emulator, settings, end)
    facts = Facts(guest, (device,), emulator, verified_versions(), sender=sender)
    if options.source_emulator and sender is not None and not isinstance(emulator, Missing):
        facts = facts._replace(builds=both_builds(guest, sender, emulator, settings, end))
    # The [hook] trial setting is for the hook; here a trial must be asked for.
    mode = ALWAYS if options.trial else NEVER
    report = examine(facts, mode, trials(guest.emulator, end, options.source_emulator or ""))
    # No decision: nothing is about to migrate, so no policy applies.
    return output.show(as_dict(report, None), options.format)


def _sender(
    path: str | None, here: EmulatorFacts | Missing, settings: Configuration, end: float
) -> EmulatorFacts | None:
    """The source's emulator: the destination's unless another is named. Raises UsageError."""
    found = ask_emulator(path, settings, end) if path else here
    if isinstance(found, Missing) and path:
        raise UsageError(f"--source-emulator: {found.reason}")
    return None if isinstance(found, Missing) else found

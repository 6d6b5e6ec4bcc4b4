"""``check``, the dry run: what the hook on the destination would say of a guest."""

from __future__ import annotations

import os
import time
from argparse import ArgumentTypeError, Namespace, _SubParsersAction

from ..collect import facts_here
from ..configuration import Configuration, load
from ..errors import PreflightError
from ..guest.domain import Guest, parse_domain, read_guest
from ..guest.metadata import read_policy
from ..host.networks import hands_out_devices
from ..pci.state import State
from ..policy import decide
from ..preflight import preflight
from ..render import Json, to_dict
from . import output
from .alone import load_state
from .arguments import device_name
from .connection import LOCAL, connected, domain_named

DESCRIPTION = (
    "With --to: asks the destination's hook about a running guest, through libvirt; nothing is"
    " migrated. With a file: judges domain XML for a move to this host, without libvirt."
)


class UsageError(PreflightError):
    """Arguments that do not go together."""


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare the command."""
    parser = commands.add_parser(
        "check", help="dry run: would this guest's migration pass?", description=DESCRIPTION
    )
    parser.add_argument("guest", metavar="GUEST", help="guest's name or UUID, or a domain XML file")
    parser.add_argument("--to", metavar="URI", help="libvirt URI of the destination")
    parser.add_argument(
        "--connect", metavar="URI", default=LOCAL, help=f"libvirt URI of the source ({LOCAL})"
    )
    for side in ("source", "destination"):
        parser.add_argument(
            f"--{side}-state",
            action="append",
            default=[],
            type=_assignment,
            metavar="DEVICE=FILE",
            help=f"the {side}'s config state of a device; repeatable",
        )
    output.add_format(parser)
    parser.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Carry the command out."""
    if options.to:
        if options.source_state or options.destination_state:
            raise UsageError("--source-state and --destination-state go with a domain XML file")
        return output.show(_live(options), options.format)
    if not os.path.isfile(options.guest):
        raise UsageError(
            f"'{options.guest}' is not a file; for a running guest, say where to: --to URI"
        )
    return output.show(_offline(options), options.format)


def _live(options: Namespace) -> Json:
    from . import dryrun
    from .connection import library

    migratable = library().VIR_DOMAIN_XML_MIGRATABLE
    with connected(options.connect) as source, connected(options.to) as destination:
        xml = domain_named(source, options.guest).XMLDesc(migratable)
        return dryrun.ask(source, destination, xml)


def _offline(options: Namespace) -> Json:
    settings = load()
    with open(options.guest, "rb") as file:
        guest = read_guest(parse_domain(file.read()), hands_out_devices)
    facts = facts_here(
        guest,
        settings,
        time.monotonic() + settings.deadline,
        _states(guest, options.source_state, settings),
        _states(guest, options.destination_state, settings),
    )
    report = preflight(facts)
    policy = {**settings.policy, **(read_policy(guest.metadata) if settings.guest_override else {})}
    return to_dict(report, decide(report, policy, settings.vsc_tolerant))


def _states(
    guest: Guest, given: list[tuple[str, str]], settings: Configuration
) -> dict[str, State]:
    return {_key(guest, name): load_state(file, settings.states) for name, file in given}


def _key(guest: Guest, name: str) -> str:
    """The key of the device that an operator names by alias, guest or host address, or UUID."""
    wanted = device_name(name) or name
    names = {device.key: (device.key, device.alias, device.host) for device in guest.devices}
    found = [key for key, known in names.items() if wanted in known]
    if len(found) == 1:
        return found[0]
    choices = ", ".join(device.alias or device.key for device in guest.devices) or "none"
    raise UsageError(f"'{name}' names no VFIO device of guest {guest.name}; it has: {choices}")


def _assignment(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if not name or not equals or not file:
        raise ArgumentTypeError(f"'{text}' is not DEVICE=FILE")
    return name, file

"""``compare SOURCE DESTINATION``: would QEMU accept one config state in place of another?"""

from __future__ import annotations

import os
import time
from argparse import ArgumentTypeError, Namespace, _SubParsersAction

from ..collect import ask_emulator
from ..configuration import load
from ..guest.domain import Guest, GuestDevice, Property
from ..host.states import read_state
from ..pci.formats import read_file
from ..pci.state import ConfigState
from ..policy import decide
from ..preflight import Facts, preflight
from ..render import to_dict
from . import output
from .arguments import device_name

EMULATORS = ("/usr/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm", "/usr/bin/kvm")
BUSES = ("root-port", "root-complex", "conventional")
KEY = "device"
# Machine families whose root bus is conventional PCI.
CONVENTIONAL = ("pc", "pc-i440fx", "isapc", "pseries")


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare the command."""
    parser = commands.add_parser("compare", help="compare two config states as QEMU would")
    parser.add_argument("source", metavar="SOURCE", help="file, PCI address or mdev UUID")
    parser.add_argument("destination", metavar="DESTINATION", help="the same, of the destination")
    parser.add_argument("--machine", required=True, metavar="TYPE", help="e.g. pc-q35-9.0")
    parser.add_argument("--emulator", metavar="PATH", default=_emulator())
    parser.add_argument("--bus", choices=BUSES, default=BUSES[0], help="where the guest sees it")
    parser.add_argument(
        "--property",
        action="append",
        default=[],
        type=_property,
        metavar="NAME=VALUE",
        help="property set on the device; repeatable",
    )
    output.add_format(parser)
    parser.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Carry the command out."""
    settings = load()
    device = GuestDevice(KEY, "pci", None, KEY, "vfio-pci", options.bus, dict(options.property))
    machine = options.machine
    guest = Guest(
        f"{options.source} to {options.destination}",
        "",
        machine,
        "",
        "",
        options.emulator,
        (device,),
        (),
        _express(machine),
        None,
    )
    facts = Facts(
        guest,
        {KEY: load_state(options.source, settings.states)},
        {KEY: load_state(options.destination, settings.states)},
        ask_emulator(guest, settings, time.monotonic() + settings.deadline),
    )
    report = preflight(facts)
    decision = decide(report, settings.policy, settings.vsc_tolerant)
    return output.show(to_dict(report, decision), options.format)


def load_state(name: str, states: str) -> ConfigState:
    """The state in file ``name``, or of this host's device ``name``. Raises PreflightError."""
    device = device_name(name)
    if device is not None and not os.path.exists(name):
        return read_state(device, states)
    return read_file(name)


def _express(machine: str) -> bool:
    return not any(machine == name or machine.startswith(f"{name}-") for name in CONVENTIONAL) or (
        machine.startswith("pc-q35")
    )


def _emulator() -> str:
    return next((path for path in EMULATORS if os.path.exists(path)), EMULATORS[0])


def _property(text: str) -> tuple[str, Property]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"'{text}' is not NAME=VALUE")
    return name, Property(value, "--property")

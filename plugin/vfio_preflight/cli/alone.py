"""A device without a guest around it, as ``compare`` and ``masks`` take one."""

from __future__ import annotations

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace

from ..configuration import Configuration
from ..guest.domain import Guest, GuestDevice, Property
from ..guest.placement import PORT, ROOT_PORT
from ..host.sources import order
from ..host.sources.physical import presented
from ..host.sources.request import Request
from ..pci.formats import read_file
from ..pci.state import ConfigState
from ..qemu.model.boards import BOARDS, board_of, emulators_of
from .arguments import UsageError, device_name

# Where a guest can see a device, the usual place first. Below a conventional root bus all buses are
# conventional.
CONVENTIONAL_BUS = "conventional"
BUSES = ("root-port", "root-complex", CONVENTIONAL_BUS)
# The one device's key and alias.
DEVICE = "device"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options that describe the device's environment."""
    parser.add_argument("--machine", required=True, metavar="TYPE", help="e.g. pc-q35-9.0")
    parser.add_argument("--emulator", metavar="PATH", help="default: the board's own")
    parser.add_argument(
        "--bus",
        choices=BUSES,
        help=f"where the guest sees it ({BUSES[0]}, or {CONVENTIONAL_BUS} where that is all)",
    )
    parser.add_argument(
        "--property",
        action="append",
        default=[],
        type=_property,
        metavar="NAME=VALUE",
        help="property set on the device; repeatable",
    )


def bus_of(options: Namespace) -> str:
    """Where the guest sees the device. Raises UsageError for what the machine does not have."""
    if _has_express_root(options):
        return options.bus or BUSES[0]
    if options.bus not in (None, CONVENTIONAL_BUS):
        raise UsageError(
            f"{options.machine} has no PCI Express: --bus {options.bus} is not possible there,"
            f" only {CONVENTIONAL_BUS}"
        )
    return CONVENTIONAL_BUS


def guest_for(options: Namespace, name: str) -> Guest:
    """A guest with nothing but the device. Raises UsageError."""
    properties = dict(options.property)
    # A key and an alias of any kind will do: nothing else in this guest can clash with them.
    bus = bus_of(options)
    device = GuestDevice(DEVICE, "pci", None, DEVICE, "vfio-pci", bus, properties)
    # A bus of this name is the usual root port's, with nothing else on it.
    device = device._replace(port=PORT if bus == ROOT_PORT else "")
    return Guest(
        name=name,
        uuid="",
        machine=options.machine,
        arch="",
        # The machine type decides what is compared; libvirt is not involved.
        virt_type="",
        emulator=options.emulator or _emulator(options.machine),
        devices=(device,),
        globals=(),
        express=_has_express_root(options),
        metadata=None,
    )


def _has_express_root(options: Namespace) -> bool:
    """Whether the machine's root bus is PCI Express: by its board, or by the bus asked for."""
    board = board_of(options.machine)
    if board is not None:
        return board.express
    # An unknown board, such as a distributor's: the bus cannot be derived from it.
    if options.bus is None:
        raise UsageError(
            f"{options.machine} is of no known board: say where the guest sees the device, --bus"
            f" {', '.join(BUSES)}"
        )
    return bool(options.bus != CONVENTIONAL_BUS)


def load_state(name: str, settings: Configuration) -> ConfigState:
    """The state in file ``name``, or of this host's device ``name``. Raises PreflightError."""
    return load_device(name, settings)[0]


def load_device(name: str, settings: Configuration) -> tuple[ConfigState, str]:
    """As :func:`load_state`; and what the device's driver offers for migration, empty if that is
    not known."""
    device = device_name(name)
    # An existing file takes precedence over a device of the same name: it was named explicitly.
    if device is None or os.path.exists(name):
        return presented(read_file(name)), ""
    request = Request(
        device,
        states=settings.states,
        catalogue=settings.catalogue,
        opened=settings.open_devices,
    )
    answer = order.read(request)
    assert answer.state is not None  # order.read raises otherwise
    return answer.state, answer.offers


def _emulator(machine: str) -> str:
    """The board's emulator, where it is usually installed."""
    paths = emulators_of(machine) or BOARDS[0].emulators
    # The path is only a default; an emulator that is missing is reported when it is asked.
    return next((path for path in paths if os.path.exists(path)), paths[0])


def _property(text: str) -> tuple[str, Property]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"'{text}' is not NAME=VALUE")
    return name, Property(value, "--property")

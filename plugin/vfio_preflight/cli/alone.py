"""A device without a guest around it, as ``compare`` and ``masks`` are told of one."""

from __future__ import annotations

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace

from ..configuration import Configuration
from ..guest.domain import Guest, GuestDevice, Property
from ..host.states import read_device
from ..pci.formats import read_file
from ..pci.state import ConfigState
from .arguments import UsageError, device_name

EMULATORS = ("/usr/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm", "/usr/bin/kvm")
# Where a guest can see a device, the usual place first. A machine with a conventional root bus has
# no other than that sort.
CONVENTIONAL_BUS = "conventional"
BUSES = ("root-port", "root-complex", CONVENTIONAL_BUS)
# Machine families whose root bus is conventional PCI.
CONVENTIONAL = ("pc", "pc-i440fx", "isapc", "pseries")
# The one device's key and alias.
DEVICE = "device"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what makes up the device's surroundings."""
    parser.add_argument("--machine", required=True, metavar="TYPE", help="e.g. pc-q35-9.0")
    parser.add_argument("--emulator", metavar="PATH", default=_emulator())
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
    if has_express_root(options.machine):
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
    device = GuestDevice(DEVICE, "pci", None, DEVICE, "vfio-pci", bus_of(options), properties)
    machine = options.machine
    return Guest(
        name, "", machine, "", "", options.emulator, (device,), (), has_express_root(machine), None
    )


def has_express_root(machine: str) -> bool:
    """Whether the root bus of ``machine`` is PCI Express, by the name of its family."""
    if machine.startswith("pc-q35"):
        return True
    return not any(machine == name or machine.startswith(f"{name}-") for name in CONVENTIONAL)


def load_state(name: str, settings: Configuration) -> ConfigState:
    """The state in file ``name``, or of this host's device ``name``. Raises PreflightError."""
    return load_device(name, settings)[0]


def load_device(name: str, settings: Configuration) -> tuple[ConfigState, str]:
    """As :func:`load_state`; and what the device's driver offers for migration, empty if that is
    not known."""
    device = device_name(name)
    if device is None or os.path.exists(name):
        return read_file(name), ""
    return read_device(
        device, settings.states, catalogue=settings.catalogue, opened=settings.open_devices
    )


def _emulator() -> str:
    return next((path for path in EMULATORS if os.path.exists(path)), EMULATORS[0])


def _property(text: str) -> tuple[str, Property]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"'{text}' is not NAME=VALUE")
    return name, Property(value, "--property")

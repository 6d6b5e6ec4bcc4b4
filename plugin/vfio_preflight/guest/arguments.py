"""A guest's machine by the arguments of its QEMU: its device types, and what it sets of them.

    >>> uses = read_arguments(["-device", "pcie-root-port,chassis=1"]).uses()
    >>> uses.always["pcie-root-port"]
    frozenset({'chassis'})

They are the exact word on what libvirt made of the XML, whatever its release; what was plugged in
later is not in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..osutil.light import NamedTuple
from .commandline import Global, parse_device, parse_global, parse_options
from .xml import GuestError

_OPTIONS = ("machine", "M", "accel", "cpu", "device", "global", "enable-kvm")
# Of -device, but no properties.
_NO_PROPERTIES = frozenset(("driver", "id", "bus"))
_MAX_DEVICES = 2000


class Uses(NamedTuple):
    """The properties that a guest sets, by device type: on every device of the type, and on any."""

    always: Mapping[str, frozenset[str]]
    sometimes: Mapping[str, frozenset[str]]


class Arguments(NamedTuple):
    """``machine`` are the options of ``-machine`` and ``cpu`` the model's name; ``kvm`` is whether
    KVM runs the guest. ``devices`` are the options of each ``-device``."""

    machine: Mapping[str, str]
    cpu: str
    cpu_given: frozenset[str]
    kvm: bool
    devices: tuple[Mapping[str, str], ...]
    globals: tuple[Global, ...]

    def uses(self) -> Uses:
        """The types of the devices that are named, and what is set of them by ``-device``."""
        always: dict[str, frozenset[str]] = {}
        sometimes: dict[str, frozenset[str]] = {}
        for options in self.devices:
            name = options["driver"]
            given = frozenset(options) - _NO_PROPERTIES
            always[name] = always.get(name, given) & given
            sometimes[name] = sometimes.get(name, given) | given
        return Uses(always, sometimes)


def read_arguments(arguments: Sequence[str]) -> Arguments:
    """What QEMU's arguments say; those that cannot be read are left out."""
    machine: dict[str, str] = {}
    cpu: dict[str, str] = {}
    devices: list[Mapping[str, str]] = []
    globals_: list[Global] = []
    kvm = False
    for option, value in _options(arguments):
        if option in ("machine", "M"):
            machine.update(parse_options(value, implied="type"))
        elif option == "accel":
            kvm = kvm or value.split(",")[0] == "kvm"
        elif option == "enable-kvm":
            kvm = True
        elif option == "cpu":
            cpu = parse_options(value, implied="model")
        elif option == "global":
            globals_.extend(parse_global(value))
        else:
            devices.extend(_device(value))
    kvm = kvm or "kvm" in machine.get("accel", "").split(":")
    model = cpu.pop("model", "")
    given = frozenset(name.lstrip("+-") for name in cpu)
    return Arguments(machine, model, given, kvm, tuple(devices[:_MAX_DEVICES]), tuple(globals_))


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    words: Iterable[tuple[str, str]] = zip(arguments, (*arguments[1:], ""))
    for argument, value in words:
        option = argument[2:] if argument.startswith("--") else argument[1:]
        if argument.startswith("-") and option in _OPTIONS:
            yield option, value


def _device(text: str) -> Iterator[Mapping[str, str]]:
    try:
        options = parse_device(text)
    except GuestError:
        return
    if options.get("driver"):
        yield options

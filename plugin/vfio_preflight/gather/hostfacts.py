"""The facts of a host, as ``vfio-preflight host`` prints them and another host judges by them.

They hold all that a check of a guest asks of its destination: the emulators, what each device
presents and how that is known, who has it open, the pools of VFs, and what the hook there would do.
Left out are what only the host itself can do: a trial, its history, and inferences from what a
guest's record says (these are made by whoever judges).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Mapping

from .. import __version__
from ..configuration import Configuration
from ..errors import PreflightError
from ..host.inventory import HostDevice, Inventory, read_inventory
from ..host.sources import order
from ..host.sources.request import Request
from ..osutil.light import NamedTuple
from ..osutil.regular import open_regular
from ..pci.state import UNKNOWN, ConfigState, Missing, State
from ..qemu.emulator.facts import EmulatorError
from ..qemu.emulator.machines import EmulatorFacts
from ..qemu.emulator.typefacts import type_facts
from ..qemu.emulator.types import TypeFacts
from ..qemu.model.boards import BOARDS
from .here import ask_emulator

# Where install puts the hook (cli.payload); another name in the directory would be as good.
HOOK = "etc/libvirt/hooks/qemu.d/50-vfio-preflight"
_BLOCK = 1 << 20


class Presented(NamedTuple):
    """What a device presents, or why that is not known; and what its driver offers for migration
    (``stop-copy p2p``, ``none``), empty where it was not asked."""

    state: State
    offers: str = ""


class HostEmulator(NamedTuple):
    """An emulator of a host: what it says, or why it could not be asked; the SHA-256 of its file,
    by which equal builds are known, empty where it could not be read; and all its device types,
    None where they are not known."""

    facts: EmulatorFacts | Missing
    digest: str = ""
    types: TypeFacts | None = None


class HostFacts(NamedTuple):
    """A host. ``time`` is ISO 8601 in UTC; ``kernel`` and ``arch`` are uname's, ``libvirt`` the
    version of its library, empty where it has none. ``emulators`` are by path, ``presented`` by
    device. ``settings`` are those of its configuration that decide about a guest; ``hook`` is
    whether they are asked, ``problem`` what is wrong with the configuration.
    """

    host: str
    version: str
    time: str
    kernel: str
    arch: str
    libvirt: str
    emulators: Mapping[str, HostEmulator]
    inventory: Inventory
    presented: Mapping[str, Presented]
    settings: Configuration
    hook: bool = False
    problem: str = ""


def host_facts(
    settings: Configuration,
    deadline: float,
    emulators: Iterable[str] = (),
    libvirt: str = "",
    problem: str = "",
    root: str = "/",
) -> HostFacts:
    """This host's facts; the emulators have until ``deadline``, on ``time.monotonic()``'s clock.

    ``emulators`` are paths to ask beside the usual ones.
    """
    system = os.uname()
    inventory = read_inventory(root)
    return HostFacts(
        host=system.nodename,
        version=__version__,
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        kernel=system.release,
        arch=system.machine,
        libvirt=libvirt,
        emulators={
            path: _emulator(path, settings, deadline)
            for path in dict.fromkeys([*_usual(), *emulators])
        },
        inventory=inventory,
        presented={
            name: _presented(device, settings, root) for name, device in inventory.devices.items()
        },
        settings=settings,
        hook=os.path.exists(os.path.join(root, HOOK)),
        problem=problem,
    )


def _emulator(path: str, settings: Configuration, deadline: float) -> HostEmulator:
    facts = ask_emulator(path, settings, deadline)
    types = None if isinstance(facts, Missing) else _types(path, settings, deadline)
    return HostEmulator(facts, _digest(path), types)


def _types(path: str, settings: Configuration, deadline: float) -> TypeFacts | None:
    try:
        return type_facts(path, cache_dir=settings.cache, deadline=deadline)
    # Whoever judges says that the builds were not compared.
    except EmulatorError:
        return None


def _usual() -> list[str]:
    return [path for board in BOARDS for path in board.emulators if os.path.exists(path)]


def _presented(device: HostDevice, settings: Configuration, root: str) -> Presented:
    # VFIO gives no device without an IOMMU group, so nobody will ask.
    if not device.group:
        return Presented(Missing(UNKNOWN, f"{device.name} is in no IOMMU group"))
    request = Request(device.name, root, settings.states, settings.catalogue, settings.open_devices)
    try:
        answer = order.read(request)
    except PreflightError as error:
        return Presented(Missing(UNKNOWN, str(error)))
    assert isinstance(answer.state, ConfigState)  # order.read raises otherwise
    return Presented(answer.state, answer.offers)


def _digest(path: str) -> str:
    total = hashlib.sha256()
    try:
        with open_regular(path) as file:
            while block := file.read(_BLOCK):
                total.update(block)
    except OSError:
        return ""
    return total.hexdigest()

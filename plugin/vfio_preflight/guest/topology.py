"""What QEMU calls a guest's PCI device: its path from the root bus.

libvirt numbers buses by controller, QEMU's migration streams name a device by slot and function on
each bus from the root to it, because a guest may number buses as it likes: ``0000:00:01.0:00.0``
is the device behind the root port at 00:01.0. An expander bus has its own number at the front, then
its own slot, and the conventional one a bridge that QEMU creates.

>>> read_topology(parse_domain(xml)).path_of(device)
'0000:00:01.0:00.0'

Source: QEMU 10.0.2, ``pcibus_get_dev_path()``, ``pxb_host_root_bus_path()``; libvirt,
``qemuBuildPCIExpanderBusProps``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lxml import etree

from ..osutil.light import NamedTuple
from ..qemu.model.boards import board_of
from ..qemu.model.properties import NUMBER
from .controllers import Controller, read_controllers
from .device import GuestDevice
from .properties import Property

# XML can describe controllers that are plugged into each other in a circle.
_MAX_DEPTH = 32
_ADDRESS = r"0000:([0-9a-f]{2}):([0-9a-f]{2}\.[0-7])"
# QEMU's "addr=", as set_pci_devfn() reads text: hexadecimal, each part with 0x or without.
_SLOT = r"\s*(?:0[xX])?([0-9a-fA-F]{1,8})(?:\.(?:0[xX])?([0-9a-fA-F]{1,8}))?"
# <controller model=...> whose bus has a number of its own -> what follows its own slot.
_EXPANDERS = {"pcie-expander-bus": "", "pci-expander-bus": ":00.0"}


class Topology(NamedTuple):
    """The PCI controllers of a guest by index, and the index by the bus's name for QEMU."""

    controllers: Mapping[int, Controller]
    names: Mapping[str, int]
    root_path: str = ""

    def path_of(self, device: GuestDevice) -> str | None:
        """QEMU's path of a VFIO device, None where libvirt or QEMU has yet to choose its place."""
        properties = device.properties
        # The key of a device from libvirt's XML is its guest address, which only an override can
        # replace. Without an address QEMU or libvirt chooses bus and slot itself.
        address = re.fullmatch(_ADDRESS, device.key)
        bus = int(address[1], 16) if address else None
        slot = address[2] if address else None
        if "bus" in properties:
            bus = self.names.get(properties["bus"].value)
        if "addr" in properties:
            slot = _slot(properties["addr"])
        return None if bus is None or slot is None else self._join(self._bus(bus), slot)

    def _path(self, address: str | None, depth: int) -> str | None:
        match = re.fullmatch(_ADDRESS, address or "")
        # The depth is counted down on every bus, which ends a loop of controllers.
        if match is None or depth == 0:
            return None
        return self._join(self._bus(int(match[1], 16), depth), match[2])

    def _bus(self, index: int, depth: int = _MAX_DEPTH) -> str | None:
        """What the paths of the devices on a bus begin with."""
        controller = self.controllers.get(index)
        # Index 0 without a controller: a board whose root bus is not known.
        if index == 0 or controller is None:
            return self.root_path if controller is not None else None
        # An expander's bus is a root bus for QEMU: its path does not begin at the machine's own
        # root.
        if controller.model not in _EXPANDERS:
            return self._path(controller.address, depth - 1)
        match = re.fullmatch(_ADDRESS, controller.address or "")
        # libvirt always writes busNr for an expander that it has assigned an address to.
        if match is None or controller.bus_number is None:
            return None
        return f"0000:{controller.bus_number:02x}:{match[2]}{_EXPANDERS[controller.model]}"

    @staticmethod
    def _join(bus: str | None, slot: str) -> str | None:
        return None if bus is None else f"{bus}:{slot}"


def read_topology(root: etree._Element) -> Topology:
    """The topology of a ``<domain>``. Raises GuestError for numbers that libvirt refuses."""
    kind = root.find("os/type")
    board = None if kind is None else board_of(kind.get("machine", ""), kind.get("arch", ""))
    # Without the root's path no path can be given; an empty topology answers None for all.
    if board is None or board.root_path is None:
        return Topology({}, {})
    controllers = read_controllers(root, board.express)
    # The root bus goes by all of its names: which one it has, the board decides.
    names = {"pcie.0": 0, "pci.0": 0, "pci": 0}
    names.update((name, each.number) for each in controllers for name in each.bus_names)
    return Topology({each.number: each for each in controllers}, names, board.root_path)


def _slot(addr: Property) -> str | None:
    if addr.form == NUMBER:
        # One of JSON's numbers is slot and function in one.
        number = int(addr.value) if addr.value.isdigit() else -1
        slot, function = number >> 3, number & 7
    else:
        match = re.fullmatch(_SLOT, addr.value)
        if match is None:
            return None
        slot, function = int(match[1], 16), int(match[2] or "0", 16)
    return f"{slot:02x}.{function}" if 0 <= slot <= 0x1F and function <= 7 else None

"""Where the guest sees a device: which bus, and of what kind.

Two questions matter to QEMU's ``vfio_setup_pcie_cap``: is the device's own bus PCI Express, and is
it a root bus? ``root-complex``: Express and root; ``root-port``: Express and behind a port;
``conventional``: not Express, on any level. :attr:`Buses.express` distinguishes the
two kinds of conventional bus: below an Express root complex QEMU drops the PCIe capability.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lxml import etree

from ..osutil.light import NamedTuple
from ..qemu.model.boards import board_of
from .controllers import read_controllers
from .properties import Property

# libvirt's usual port, which has QEMU's name; and QEMU's other root ports.
PORT = "pcie-root-port"
ROOT_PORTS = (PORT, "ioh3420", "cxl-rp")

ROOT_COMPLEX = "root-complex"
ROOT_PORT = "root-port"
CONVENTIONAL = "conventional"

# <controller type='pci' model=...>: what a device plugged into it is (libvirt, formatdomain).
_MODELS = {
    "pci-root": CONVENTIONAL,
    "pci-bridge": CONVENTIONAL,
    "pci-expander-bus": CONVENTIONAL,
    "dmi-to-pci-bridge": CONVENTIONAL,
    "pcie-to-pci-bridge": CONVENTIONAL,
    "pcie-root": ROOT_COMPLEX,
    "pcie-expander-bus": ROOT_COMPLEX,
    "pcie-root-port": ROOT_PORT,
    "pcie-switch-upstream-port": ROOT_PORT,
    "pcie-switch-downstream-port": ROOT_PORT,
}
# The same for QEMU's device types, where <qemu:commandline> makes the bus.
_DRIVERS = {
    "pci-bridge": CONVENTIONAL,
    "pci-bridge-seat": CONVENTIONAL,
    "pxb": CONVENTIONAL,
    "i82801b11-bridge": CONVENTIONAL,
    "pcie-pci-bridge": CONVENTIONAL,
    "spapr-pci-host-bridge": CONVENTIONAL,
    "pxb-pcie": ROOT_COMPLEX,
    "pxb-cxl": ROOT_COMPLEX,
    "pcie-root-port": ROOT_PORT,
    "ioh3420": ROOT_PORT,
    "cxl-rp": ROOT_PORT,
    "x3130-upstream": ROOT_PORT,
    "xio3130-downstream": ROOT_PORT,
    "cxl-upstream": ROOT_PORT,
    "cxl-downstream": ROOT_PORT,
}


def possible(express: bool) -> tuple[str, ...]:
    """Every placement that a guest can have; ``express`` as in :class:`Buses`."""
    # vfio_setup_pcie_cap() behaves the same on every conventional bus of a conventional machine.
    return (ROOT_PORT, ROOT_COMPLEX, CONVENTIONAL) if express else (CONVENTIONAL,)


class Place(NamedTuple):
    """Where a device sits; ``assumption`` says what had to be assumed for it, if anything.

    ``port`` is QEMU's type of the root port right above it, empty where there is none.
    """

    placement: str
    assumption: str = ""
    port: str = ""

    def port_for(self, address: str | None, properties: Mapping[str, Property]) -> str:
        """The port above a device at a guest ``address``, or at what ``addr`` says; empty for one
        that is not the first function of its slot.
        """
        given = properties["addr"].value if "addr" in properties else ""
        # Of QEMU's, slot and function in hexadecimal, as 0x0.1.
        first = not given.strip("0x.") if given else address is None or address.endswith(":00.0")
        return self.port if first else ""


class Buses(NamedTuple):
    """The PCI buses of a guest.

    ``by_index`` holds libvirt's bus numbers, ``by_name`` QEMU's bus names. ``express`` is whether
    the machine's root bus is PCI Express. ``ports`` has QEMU's types of those that root ports make.
    """

    by_index: Mapping[int, str]
    by_name: Mapping[str, str]
    express: bool
    ports: Mapping[int | str, str] = {}

    def at_address(self, address: str | None) -> Place:
        """Return the place of a guest PCI address such as ``0000:05:00.0``, or of None."""
        if address is None:
            why = "the device has no PCI <address>; libvirt will assign one"
            return self._assumed(why)
        # libvirt's bus number is the index of the controller that creates the bus.
        index = int(address.split(":")[1], 16)
        if index in self.by_index:
            return Place(self.by_index[index], port=self.ports.get(index, ""))
        # Not an error: libvirt adds missing controllers when it assigns addresses.
        return self._assumed(f"the guest has no PCI controller with index {index}")

    def named(self, name: str | None) -> Place:
        """Return the place of a device with ``bus=name`` on QEMU's command line, or without any."""
        if name is None:
            # QEMU puts a device without bus= on the machine's root bus.
            return Place(self.by_index[0])
        # A bus without a name of its own is called ID.N by QEMU's qbus_init_internal().
        for each in (name, name.partition(".0")[0]):
            if each in self.by_name:
                return Place(self.by_name[each], port=self.ports.get(each, ""))
        return self._assumed(f"the guest has no PCI bus {name[:60]!r} whose kind is known")

    def _assumed(self, why: str) -> Place:
        """Where libvirt puts a hostdev by itself (``qemuDomainDeviceCalculatePCIConnectFlags``)."""
        return Place(ROOT_PORT, why, PORT) if self.express else Place(CONVENTIONAL, why)


def read_buses(
    root: etree._Element, machine: str, devices: Iterable[Mapping[str, str]] = ()
) -> Buses:
    """Return the buses of a ``<domain>``; ``devices`` are the ``-device`` options it adds itself.

    The root bus of a machine of an unknown family is what the XML says it is, or conventional.
    Raises GuestError for a controller index that is not a number.
    """
    kind = root.find("os/type")
    board = board_of(machine, "" if kind is None else str(kind.get("arch", "")))
    controllers = read_controllers(root, express=board is not None and board.express)
    by_index = {each.number: _MODELS.get(each.model, CONVENTIONAL) for each in controllers}
    by_name = {name: by_index[each.number] for each in controllers for name in each.bus_names}
    ports: dict[int | str, str] = {}
    for each in controllers:
        if each.model == PORT:
            ports[each.number] = each.device or PORT
            ports.update((name, ports[each.number]) for name in each.bus_names)
    for options in devices:
        driver = options.get("driver", "")
        placement = _DRIVERS.get(driver)
        # Without an id nothing can be plugged into it by name.
        if placement and "id" in options:
            by_name[options["id"]] = placement
            ports[options["id"]] = driver if driver in ROOT_PORTS else ""
    # By the controllers found, so that a root named in the XML outweighs the board's default.
    return Buses(by_index, by_name, by_index[0] == ROOT_COMPLEX, ports)

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
    """Where a device sits; ``assumption`` says what had to be assumed for it, if anything."""

    placement: str
    assumption: str = ""


class Buses(NamedTuple):
    """The PCI buses of a guest.

    ``by_index`` holds libvirt's bus numbers, ``by_name`` QEMU's bus names. ``express`` is whether
    the machine's root bus is PCI Express.
    """

    by_index: Mapping[int, str]
    by_name: Mapping[str, str]
    express: bool

    def at_address(self, address: str | None) -> Place:
        """Return the place of a guest PCI address such as ``0000:05:00.0``, or of None."""
        if address is None:
            return Place(self._usual(), "the device has no PCI <address>; libvirt will assign one")
        # libvirt's bus number is the index of the controller that creates the bus.
        index = int(address.split(":")[1], 16)
        if index in self.by_index:
            return Place(self.by_index[index])
        # Not an error: libvirt adds missing controllers when it assigns addresses.
        return Place(self._usual(), f"the guest has no PCI controller with index {index}")

    def named(self, name: str | None) -> Place:
        """Return the place of a device with ``bus=name`` on QEMU's command line, or without any."""
        if name is None:
            # QEMU puts a device without bus= on the machine's root bus.
            return Place(self.by_index[0])
        # A bus without a name of its own is called ID.N by QEMU's qbus_init_internal().
        placement = self.by_name.get(name) or self.by_name.get(name.partition(".0")[0])
        if placement:
            return Place(placement)
        return Place(self._usual(), f"the guest has no PCI bus {name[:60]!r} whose kind is known")

    def _usual(self) -> str:
        """Where libvirt puts a hostdev by itself (``qemuDomainDeviceCalculatePCIConnectFlags``)."""
        return ROOT_PORT if self.express else CONVENTIONAL


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
    for options in devices:
        placement = _DRIVERS.get(options.get("driver", ""))
        # Without an id nothing can be plugged into it by name.
        if placement and "id" in options:
            by_name[options["id"]] = placement
    # By the controllers found, so that a root named in the XML outweighs the board's default.
    return Buses(by_index, by_name, by_index[0] == ROOT_COMPLEX)

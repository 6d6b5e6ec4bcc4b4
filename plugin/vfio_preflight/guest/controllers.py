"""The PCI controllers of a guest, each of which creates a bus: the basis of placement and paths."""

from __future__ import annotations

from lxml import etree

from ..osutil.light import NamedTuple
from .addresses import pci_address, unsigned
from .aliases import user_alias
from .xml import GuestError


class Controller(NamedTuple):
    """A ``<controller type='pci'>``.

    ``number`` is libvirt's number for its bus. ``address`` is its guest PCI address, None where
    libvirt has yet to assign one; ``bus_number`` the number an expander's bus gets (``busNr``).
    ``device`` is QEMU's type for it, where the XML says so.
    """

    number: int
    model: str
    address: str | None = None
    bus_number: int | None = None
    alias: str | None = None
    device: str = ""

    @property
    def bus_names(self) -> tuple[str, ...]:
        """The names QEMU knows its bus by (``qemuAssignDeviceControllerAlias``)."""
        if self.number == 0:
            # Older QEMU names the i440fx root bus "pci", newer ones "pci.0"; only one of them
            # exists.
            return ("pcie.0",) if self.model == "pcie-root" else ("pci.0", "pci")
        # An operator's alias becomes the id of QEMU's bridge, and so the name of its bus.
        return (self.alias or f"pci.{self.number}",)


def read_controllers(root: etree._Element, express: bool) -> tuple[Controller, ...]:
    """The PCI controllers of a ``<domain>``, the machine's own root first.

    ``express`` is whether the machine's root bus is PCI Express, which counts where the XML does
    not list it. Of several with one index the last counts; one without an index, to which libvirt
    gives a number that nothing can refer to yet, is left out. Raises GuestError for an index or
    address that libvirt refuses.
    """
    builtin = "pcie-root" if express else "pci-root"
    # The root bus is there even if the XML does not list it: libvirt adds it implicitly.
    found = {0: Controller(0, builtin)}
    for element in root.iterfind("devices/controller[@type='pci']"):
        text = element.get("index")
        if text is None:
            continue
        index = unsigned(text)
        if index is None:
            raise GuestError(f"PCI controller with index={text[:40]!r}, which is not a number")
        # libvirt's default: a pci-bridge, from the time when there was nothing else.
        model = element.get("model") or (builtin if index == 0 else "pci-bridge")
        # A dictionary, so that a listed root replaces the implicit one and the last entry wins.
        found[index] = _controller(element, index, model)
    return tuple(found.values())


def _controller(element: etree._Element, index: int, model: str) -> Controller:
    address = element.find("address[@type='pci']")
    # An address without attributes means 0000:00:00.0 to libvirt, that is not assigned.
    attributes = {} if address is None else {str(k): str(v) for k, v in address.items()}
    target, named = element.find("target"), element.find("model")
    return Controller(
        index,
        model,
        pci_address(attributes) if attributes else None,
        # Only expander buses have busNr.
        None if target is None else unsigned(target.get("busNr", "")),
        user_alias(element),
        "" if named is None else named.get("name", ""),
    )

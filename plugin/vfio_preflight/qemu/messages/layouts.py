"""Where QEMU's own PCI bridges have their registers, to name a byte of one without its dump.

A root port's capabilities stand where QEMU puts them, in every release the same. Sources: QEMU 8.0
to 11.1, ``hw/pci-bridge/pcie_root_port.c`` (each at the next free address), ``ioh3420.c``,
``xio3130_upstream.c``, ``xio3130_downstream.c``; PCI-to-PCI Bridge 1.2, 3.2 (header type 1).
"""

from __future__ import annotations

from ...pci.ids import PCI_CAP_ID_EXP, PCI_CAP_ID_MSI, PCI_CAP_ID_MSIX
from ...pci.registers import locate

_SSVID = 0x0D
_SWITCH = ((0x70, PCI_CAP_ID_MSI), (0x80, _SSVID), (0x90, PCI_CAP_ID_EXP))
# By the last part of the device's id in the stream: offset and id of each capability.
_CAPABILITIES: dict[str, tuple[tuple[int, int], ...]] = {
    "pcie-root-port": ((0x40, _SSVID), (0x48, PCI_CAP_ID_MSIX), (0x54, PCI_CAP_ID_EXP)),
    "ioh-3240-express-root-port": (
        *((0x40, _SSVID), (0x60, PCI_CAP_ID_MSI)),
        (0x90, PCI_CAP_ID_EXP),
    ),
    "xio3130-express-upstream-port": _SWITCH,
    "xio3130-express-downstream-port": _SWITCH,
}
# A bridge's header, where it is not a device's: first byte behind, name.
_BRIDGE = (
    (0x18, "BAR"),
    (0x19, "Primary bus"),
    (0x1A, "Secondary bus"),
    (0x1B, "Subordinate bus"),
    (0x1C, "Secondary latency timer"),
    (0x1E, "I/O window"),
    (0x20, "Secondary status"),
    (0x24, "Memory window"),
    (0x2C, "Prefetchable window"),
    (0x34, "I/O window"),
    (0x38, "Capabilities pointer"),
    (0x3C, "Expansion ROM"),
    (0x3E, "Interrupt line and pin"),
    (0x40, "Bridge control"),
)
# Registers of a root port, and what makes them differ.
_CAUSES = {
    "SLTSTA": "whether a device is in the port's slot (presence): one was plugged or unplugged on"
    " one"
    " side alone, or QEMU's builds set the bit at other times",
    "SLTCAP": "whether and how the port's slot has hot-plug (hotplug, x-native-hotplug, power"
    " control)",
    "DEVCAP2": "the AtomicOp bits of a root port follow the VFIO device behind it"
    " (VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP, 'lspci -vv': AtomicOpsCap): hosts or kernels that"
    " differ"
    " give other bits; or QEMU's builds differ",
    "LNKCAP": "the port's speed and width (x-speed, x-width), which the machine type sets",
    "LNKSTA": "the port's speed and width (x-speed, x-width), which the machine type sets",
}


def is_bridge(name: str) -> bool:
    """Whether a device of QEMU's, by the last part of its id, has a bridge's header."""
    return name in _CAPABILITIES or "bridge" in name or name.endswith(("-port", "_port"))


def register(name: str, offset: int) -> tuple[str, str]:
    """What a byte of device ``name`` is, and what makes it differ; empty where not known."""
    if 0x10 <= offset < 0x40 and is_bridge(name):
        what = next((text for end, text in _BRIDGE if offset < end), "")
        return f"header, {what}", ""
    if name not in _CAPABILITIES or not 0x40 <= offset < 0x100:
        return "", ""
    place = locate(_made_up(_CAPABILITIES[name]), offset)
    return f"{place.where}, {place.register}", _CAUSES.get(place.register, "")


def _made_up(found: tuple[tuple[int, int], ...]) -> bytes:
    """A configuration space with capabilities at such places."""
    space = bytearray(256)
    space[0x06] = 0x10
    space[0x34] = found[0][0]
    for (offset, identity), (after, _) in zip(found, (*found[1:], (0, 0))):
        space[offset] = identity
        space[offset + 1] = after
    return bytes(space)

"""What a VFIO device changes in the root port above it: the AtomicOps that the guest may use.

Realising a device that VFIO says has AtomicOps to the host's root, QEMU sets these widths in Device
Capabilities 2 of the emulated root port. The register is compared like any other that the guest
cannot write, as a part of the *port's* state; which is loaded before the device's.

Source: QEMU 10.0.2, ``vfio_pci_enable_rp_atomics`` in ``hw/vfio/pci.c``, called by
``vfio_setup_pcie_cap``; ``gen_rp_realize``, ``rp_realize`` in ``hw/pci-bridge``.
"""

from __future__ import annotations

from ...pci.atomics import devcap2_bits
from ...pci.ids import PCI_CAP_ID_EXP
from ...pci.space import PCI_CAPABILITY_LIST, PCI_STATUS, PCI_STATUS_CAP_LIST
from ...pci.state import ConfigState
from .device import standard_list
from .properties import flag
from .values import Environment, Mismatch

ROOT_PORT = "pcie-root-port"
# Root ports of QEMU's, and where their Device Capabilities 2 stands. Compute Express Link's is not
# among them: no machine type that migrates has it.
DEVCAP2 = {ROOT_PORT: 0x78, "ioh3420": 0xB4}
# What it says beside AtomicOps: the port forwards ARI (pcie_cap_arifwd_init).
_FORWARDS_ARI = 0x20


def reaching(state: ConfigState, environment: Environment) -> int:
    """The widths that the device's QEMU sets in the root port; 0 also where they are not known."""
    alone = environment.placement == "root-port" and environment.port in DEVCAP2
    # A slot with several functions would need what all of them have in common.
    if not alone or flag(environment.properties, "multifunction", False):
        return 0
    if not environment.behaviour.atomics_reach_port or not _is_express(state.config):
        return 0
    return state.atomics or 0


def compare_ports(
    source: ConfigState, sender: Environment, destination: ConfigState, here: Environment
) -> Mismatch | None:
    """The first byte in which the root ports differ, None if they do not.

    Both devices must be such as QEMU realises.
    """
    sent, there = reaching(source, sender), reaching(destination, here)
    if sent == there:
        return None
    registers = [
        (_FORWARDS_ARI | devcap2_bits(widths)).to_bytes(2, "little") for widths in (sent, there)
    ]
    at = next(i for i, (one, other) in enumerate(zip(*registers)) if one != other)
    return Mismatch(DEVCAP2[here.port] + at, registers[0][at], registers[1][at], 0xFF, 0, 0)


def _is_express(config: bytes) -> bool:
    """Whether the device has the PCI Express capability, which is where QEMU looks at the port."""
    listed = config[PCI_STATUS] & PCI_STATUS_CAP_LIST and config[PCI_CAPABILITY_LIST]
    return bool(listed) and PCI_CAP_ID_EXP in (config[at] for at in standard_list(config))

"""Whether two config states are the same to QEMU."""

from __future__ import annotations

from ...pci.state import ConfigState
from .vfio_pci import Environment, VirtualConfig, compare, realise

# Behind a root port all of the PCIe capability is compared; without skip-vsc-check all of the VSC.
_STRICTEST = Environment("root-port", skip_vsc_check=False)


def equivalent_to_qemu(one: ConfigState, other: ConfigState) -> bool:
    """Whether the states are equal in every byte that QEMU compares at any placement."""
    if one.config == other.config:
        return True
    a, b = realise(one, _STRICTEST), realise(other, _STRICTEST)
    # A state that QEMU refuses is equivalent to none: it gives no bytes to compare.
    if not isinstance(a, VirtualConfig) or not isinstance(b, VirtualConfig):
        return False
    # 256 against 4096 bytes never passes, and compare() does not take it.
    return len(a.config) == len(b.config) and not compare(a.config, b)

"""What QEMU's ``vfio-pci`` makes of a config state, and how it compares the result with a stream.

``realise`` repeats, on a copy of the bytes, what QEMU does between opening the device and the end
of ``vfio_realize()``: it clears and registers BARs, rebuilds the capability list from its end,
adjusts the PCIe capability to the bus the guest sees, rebuilds the extended list, and along the way
marks which bytes must be equal (``cmask``), which the guest writes (``wmask``) and which it clears
by writing ones (``w1cmask``). ``compare`` is ``get_pci_config_device()``.

The steps are in ``header``, ``msi``, ``msix``, ``capabilities``, ``extended``, ``quirks`` and
``reset``, and work on a ``device.Device``. What releases of QEMU do differently is in ``versions``.
That all of it is right is the conformance suite's business (tests/conformance), which asks real
QEMU.

Pure: bytes and values in, values out. Sources: QEMU 10.0.2, ``vfio_realize`` in ``hw/vfio/pci.c``;
``pci_qdev_realize`` and ``get_pci_config_device`` in ``hw/pci/pci.c``.
"""

from __future__ import annotations

import re
from functools import lru_cache

from ...pci.ids import PCI_EXT_CAP_ID_ARI
from ...pci.space import PCIE_CONFIG_SPACE_SIZE
from ...pci.state import ConfigState
from . import capabilities, extended, header, msix, quirks, reset
from .device import Device
from .properties import PropertyError, parse_bool
from .settings import require_valid
from .values import (
    CACHED,
    Environment,
    Mismatch,
    Refusal,
    RefusedError,
    VirtualConfig,
    compared_bits,
    number,
)

__all__ = [
    "Environment",
    "Mismatch",
    "PropertyError",
    "Refusal",
    "VirtualConfig",
    "compare",
    "parse_bool",
    "realise",
]


def compare(stream: bytes, device: VirtualConfig) -> tuple[Mismatch, ...]:
    """All bytes at which loading ``stream`` into ``device`` fails; QEMU names the first alone.

    Both must be of one size: where they are not, QEMU reads one side's bytes as something else.
    """
    if len(stream) != len(device.config):
        raise ValueError(f"stream of {len(stream)} bytes, device of {len(device.config)}")
    # As numbers of 4096 bytes: a loop in Python takes a hundred times as long.
    failing = (_number(stream) ^ _number(device.config)) & compared_bits(device)
    if not failing:
        return ()
    found = re.finditer(_NOT_ZERO, failing.to_bytes(len(stream), "little"))
    offsets = [match.start() for match in found]
    columns = (stream, *device)
    return tuple(Mismatch(at, *[column[at] for column in columns]) for at in offsets)


_NOT_ZERO = re.compile(rb"[^\0]")
# The numbers of bytes that are compared again and again; a byte string keeps its hash.
_number = lru_cache(maxsize=CACHED)(number)


def realise(state: ConfigState, environment: Environment) -> VirtualConfig | Refusal:
    """What ``vfio-pci`` presents to the guest for ``state``, or why there is no device.

    Raises :class:`PropertyError` where QEMU would not even take one of the device's properties.

    Where ``state.bars`` is empty, BARs are guessed from the registers (``bars.likely_bars``): type
    bits are compared, and MSI-X fits.
    """
    # Evidence and origin decide nothing here, and would keep equal states apart in the cache.
    return _realised(ConfigState(state.config, state.bars, "", ""), environment)


# A guest's devices are often of one model, and a fleet's always: each state is worked out once.
@lru_cache(maxsize=CACHED)
def _realised(state: ConfigState, environment: Environment) -> VirtualConfig | Refusal:
    # QEMU sets all properties before it opens the device.
    require_valid(environment.properties)
    device = Device(state, environment)
    try:
        _realise(device)
    except RefusedError as refused:
        return refused.refusal
    return device.result()


def _realise(device: Device) -> None:
    """``vfio_realize``, what ``pci_qdev_realize`` does after it, and the machine's reset."""
    # pci_qdev_realize() sets the masks up before it calls vfio_realize().
    header.init_masks(device)
    header.override_identifiers(device)
    # vfio_pci_size_rom() registers the ROM's BAR, whose register must have been cleared before.
    header.clear_bars(device)
    header.register_rom(device)
    # VFIO does not let the MSI-X table be mapped, so QEMU must know its place before it registers
    # BARs. Relocation enlarges one of them.
    placed = msix.early_setup(device)
    header.register_bars(device)
    # vfio_add_capabilities() returns before it looks at the extended list.
    if capabilities.add_standard_capabilities(device, placed):
        extended.add_extended_capabilities(device)
    # After the capabilities, whose masks it may overwrite.
    quirks.emulate_igd(device)
    quirks.require_bars(device)
    reset.check_interrupt_pin(device)
    # pci_qdev_realize() asks for ARI, to warn of a slot number that a downstream port does not
    # allow. Where it was dropped this goes through the whole list.
    if device.size == PCIE_CONFIG_SPACE_SIZE:
        extended.find_extended(device, PCI_EXT_CAP_ID_ARI)
    # Machines are reset before -incoming begins to load: the comparison is with what is left then.
    reset.reset(device)

"""What QEMU does with a stream's configuration space once it has found no fault with it.

Realising a device that has an interrupt pin, QEMU sets up its INTx. It takes that back when the
guest uses MSI or MSI-X, and at a reset; by then the pin is the one that was loaded, and one that is
none trips an assertion. The pin itself is not compared.

Source: QEMU 10.0.2, ``vfio_pci_load_config``, ``vfio_msix_enable``, ``vfio_intx_disable`` in
``hw/vfio/pci.c``, ``pci_irq_handler`` in ``hw/pci/pci.c``; the same in 11.1.3.
"""

from __future__ import annotations

from ...pci.ids import PCI_CAP_ID_MSI, PCI_CAP_ID_MSIX
from ...pci.space import capabilities, word
from .reset import PCI_INTERRUPT_PIN
from .values import VirtualConfig

PIN_ASSERTION = "pci_irq_handler: Assertion `0 <= irq_num && irq_num < PCI_NUM_PINS' failed."

# Both in message control, 2 bytes behind either capability's start (6.8.1.3, 6.8.2.3).
_MSI_ENABLE, _MSIX_ENABLE = 0x0001, 0x8000


def loses_pin(stream: bytes, device: VirtualConfig) -> bool:
    """Whether a device that has set up INTx is given a pin by which it cannot take it back."""
    # 6.2.4: INTA to INTD are 1 to 4. QEMU subtracts 1 and asserts that the rest is 0 to 3.
    return device.config[PCI_INTERRUPT_PIN] > 0 and not 1 <= stream[PCI_INTERRUPT_PIN] <= 4


def uses_messages(stream: bytes) -> bool:
    """Whether the guest has MSI or MSI-X on: then INTx is taken back while loading."""
    enabled = {PCI_CAP_ID_MSI: _MSI_ENABLE, PCI_CAP_ID_MSIX: _MSIX_ENABLE}
    return any(
        word(stream, capability.offset + 2) & enabled[capability.id]
        for capability in capabilities(stream)
        # Behind the end there is no message control to read.
        if capability.id in enabled and capability.offset + 4 <= len(stream)
    )

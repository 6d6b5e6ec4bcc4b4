"""The machine's reset, which comes before a guest runs and before a stream is loaded.

Where lists are sound it clears nothing that is compared but MSI registers and the power state. A
capability that lies in the header is another matter: its bytes are compared *and* reset.

Source: QEMU 10.0.2, ``pci_do_device_reset`` in ``hw/pci/pci.c``, ``msi_reset``, ``msix_reset``.
"""

from __future__ import annotations

from ...pci.space import PCI_STATUS
from .capabilities import PCI_PM_CTRL
from .device import Device
from .msi import reset_msi
from .values import ABORT, ERROR, RefusedError

PCI_COMMAND = 0x04
PCI_CACHE_LINE_SIZE = 0x0C
PCI_INTERRUPT_LINE = 0x3C
PCI_INTERRUPT_PIN = 0x3D

# Their writable bits alone; the cache line size is set to 0 whatever its mask.
_CLEARED = (*(PCI_COMMAND, PCI_COMMAND + 1, PCI_STATUS, PCI_STATUS + 1), PCI_INTERRUPT_LINE)


def check_interrupt_pin(device: Device) -> None:
    """``vfio_intx_enable`` takes any pin; older releases then abort when they lower it."""
    # Read through vfio_pci_read_config(), as vfio_intx_enable() does.
    pin = device.seen(PCI_INTERRUPT_PIN)
    if pin > 4 and device.environment.behaviour.pin_is_checked:
        raise RefusedError(ERROR, f"invalid PCI interrupt pin {pin}")
    if pin > 4:
        raise RefusedError(ABORT, f"interrupt pin {pin}, 4 at most")


def reset(device: Device) -> None:
    """``pci_do_device_reset``."""
    for offset in _CLEARED:
        device.config[offset] &= ~(device.wmask[offset] | device.w1cmask[offset]) & 0xFF
    device.config[PCI_CACHE_LINE_SIZE] = 0
    if device.pm:
        # Back to D0, which is power state 0 (PM 1.2, 3.2.4).
        device.config[device.pm + PCI_PM_CTRL] &= 0xFC
    # pci_reset_regions(): addresses go, type bits stay.
    for offset, value, size in device.bar_registers:
        device.put(offset, value, size)
    # BARs before MSI, as in QEMU: registers that wrapped into the header are then MSI's.
    if device.msi:
        reset_msi(device)
    if device.msix:
        # Enable and function mask. Table and PBA are not in configuration space.
        device.config[device.msix + 3] &= ~device.wmask[device.msix + 3] & 0xFF

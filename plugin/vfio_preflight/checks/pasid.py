"""The PASID capability that QEMU may add to a device, by what the host's IOMMU has.

Source: QEMU 11.1, ``vfio_pci_synthesize_pasid_cap`` in ``hw/vfio/pci.c``.
"""

from __future__ import annotations

from ..findings import Finding
from ..guest.domain import Guest, GuestDevice
from ..qemu.machines import EmulatorFacts

OFFSET = "x-vpasid-cap-offset"  # a property of the emulators that can add it


def check_pasid(
    guest: Guest, device: GuestDevice, emulator: EmulatorFacts | None
) -> tuple[Finding, ...]:
    """A finding where it is not known whether QEMU adds the capability, on either side."""
    if not guest.pasid or "iommufd" not in device.properties or device.kind == "mdev":
        return ()
    if emulator is None or device.placement == "conventional":
        return ()
    if OFFSET not in emulator.properties.get(device.driver, {}):
        return ()
    text = (
        "the device is behind iommufd, and the guest's virtual IOMMU may offer PASID: QEMU adds"
        " a capability for it where the host's IOMMU has it, and compares it; the config states do"
        " not show it"
    )
    return (
        Finding(
            "pasid-undecided",
            text,
            "see that the IOMMUs of both hosts have the same PASID support, or do without",
        ),
    )

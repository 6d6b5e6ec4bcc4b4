"""The PASID capability that QEMU may add to a device, depending on the host's IOMMU.

Source: QEMU 11.1, ``vfio_pci_synthesize_pasid_cap`` in ``hw/vfio/pci.c``.
"""

from __future__ import annotations

from .. import codes
from ..context import Context
from ..findings import Finding

# Emulators with this property can add the capability; it has no compat entry, so that the release
# decides, whatever the machine type.
OFFSET = "x-vpasid-cap-offset"


def check_pasid(context: Context) -> tuple[Finding, ...]:
    """A finding where it is not known whether QEMU adds the capability, on either side."""
    device, emulator = context.device, context.emulator
    # Mediated devices have no IOMMU of their own, so no PASID capability is added.
    if (
        not context.guest.viommu.pasid
        or "iommufd" not in device.properties
        or device.kind == "mdev"
    ):
        return ()
    # On a conventional bus the guest sees no extended capabilities, and QEMU adds none.
    if emulator is None or device.placement == "conventional":
        return ()
    # Emulators without the property never synthesise the capability.
    if OFFSET not in emulator.properties.get(device.driver, {}):
        return ()
    text = (
        "whether QEMU adds a PASID capability on both hosts is not known; it does, and compares it,"
        " if the device uses iommufd, the guest's virtual IOMMU offers PASID and the host's has it;"
        " no config state shows that"
    )
    remedy = "make sure that the IOMMUs of both hosts have the same PASID support, or disable PASID"
    return (Finding(codes.PASID_UNDECIDED, text, remedy),)

"""Whether a guest's virtual IOMMU may offer PASID (process address space IDs) to its devices.

QEMU 11.1 then adds a PASID capability to a device behind iommufd, if the host's IOMMU has it. It
takes ``pasid-bits`` of intel-iommu, which comes by ``<qemu:commandline>`` or ``<qemu:override>``.
"""

from __future__ import annotations

from lxml import etree

from .xml import QEMU_NS

_ARGUMENTS = f"{{{QEMU_NS}}}commandline/{{{QEMU_NS}}}arg"
_OVERRIDDEN = (
    f"{{{QEMU_NS}}}override/{{{QEMU_NS}}}device/{{{QEMU_NS}}}frontend/{{{QEMU_NS}}}property"
)
_PROPERTY = "pasid-bits"


def may_offer_pasid(root: etree._Element) -> bool:
    """Whether the ``<domain>`` mentions PASID at all; the value is not examined."""
    # -global, -set and -device all contain the property's name, so the form does not matter.
    arguments = (element.get("value", "") for element in root.iterfind(_ARGUMENTS))
    overridden = (element.get("name", "") for element in root.iterfind(_OVERRIDDEN))
    drivers = root.iterfind("devices/iommu/driver")
    return (
        any(_PROPERTY in argument for argument in arguments)
        or _PROPERTY in overridden
        # A libvirt version that supports PASID may express it as an attribute of <driver>.
        or any("pasid" in str(name).lower() for driver in drivers for name in driver.attrib)
    )

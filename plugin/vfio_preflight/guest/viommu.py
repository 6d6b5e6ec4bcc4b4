"""A guest's virtual IOMMU: by ``<iommu>``, or by ``<qemu:commandline>``.

QEMU gives a device behind one an address space of its own (``pci_device_iommu_address_space()``,
hw/pci/pci.c), and refuses to migrate it (``judge.checks.blockers``). On pcie.0 that is every PCI
device, also behind ports and PXBs, unless the machine or a PXB has ``bypass_iommu``.

QEMU 11.1 adds a PASID capability to a device behind iommufd, if the host's IOMMU has it. It takes
``pasid-bits`` of intel-iommu, which comes by ``<qemu:commandline>`` or ``<qemu:override>``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from lxml import etree

from ..osutil.light import NamedTuple
from .commandline import ARGUMENTS, parse_options
from .xml import QEMU_NS

_OVERRIDDEN = (
    f"{{{QEMU_NS}}}override/{{{QEMU_NS}}}device/{{{QEMU_NS}}}frontend/{{{QEMU_NS}}}property"
)
_PASID = "pasid-bits"
_BYPASS = "bypass_iommu"  # of a PXB; default_bus_bypass_iommu of the machine
# QEMU's device types, and what libvirt calls them.
_TYPES = {
    **dict.fromkeys(("virtio-iommu", "virtio-iommu-pci"), "virtio"),
    **{"intel-iommu": "intel", "amd-iommu": "amd", "arm-smmuv3": "smmuv3"},
    **dict.fromkeys(("riscv-iommu-pci", "riscv-iommu-sys"), "riscv"),
}
# The property of Arm's virt machine by which libvirt, too, adds an SMMU for the whole machine.
_MACHINE_OPTIONS = ("machine", "M")
_MACHINE_IOMMU = "iommu"
# Seen to have an address space for every device on their bus. In smmuv3's VFIO realises no device
# ("iommu MAP notifier", QEMU 10.0.2 and 11.1.3), so that no such guest runs; 11's accel=on, which
# needs KVM, was not tried.
_KNOWN = ("intel", "virtio", "smmuv3")


class Viommu(NamedTuple):
    """A virtual IOMMU, of libvirt's ``model``; empty: the guest has none.

    ``doubt`` says why the guest's VFIO devices may not be behind it, empty if they certainly are.
    ``pasid`` is whether it may offer PASID (process address space IDs).
    """

    model: str = ""
    doubt: str = ""
    pasid: bool = False


def read_viommu(root: etree._Element, devices: Iterable[Mapping[str, str]]) -> Viommu:
    """The virtual IOMMU of a ``<domain>``; ``devices`` are the options of each ``-device``."""
    named = [element.get("model", "") for element in root.iterfind("devices/iommu")]
    added = [_TYPES[kind] for kind in (d.get("driver", "") for d in devices) if kind in _TYPES]
    models = [*named, *added, *_of_machine(root)]
    return Viommu(
        models[0] if models else "",
        next(_doubts(root, models, added), ""),
        _may_offer_pasid(root),
    )


def _of_machine(root: etree._Element) -> Iterator[str]:
    """A virtual IOMMU by ``-machine iommu=...`` on ``<qemu:commandline>``."""
    arguments = [element.get("value", "") for element in root.iterfind(ARGUMENTS)]
    for option, value in zip(arguments, arguments[1:]):
        if option.startswith("-") and option.lstrip("-") in _MACHINE_OPTIONS:
            model = parse_options(value).get(_MACHINE_IOMMU, "none")
            # "on" is how QEMU before 3.0 had its intel-iommu.
            if model not in ("none", "off"):
                yield "intel" if model == "on" else model


def _doubts(root: etree._Element, models: list[str], added: list[str]) -> Iterator[str]:
    if mentions(root, _BYPASS):
        yield f"{_BYPASS} is mentioned in the guest's XML"
    if len(models) > 1:
        yield "there is more than one"
    # QEMU 10.2's device arm-smmuv3, libvirt's pciBus: an SMMU for one root bus.
    drivers = root.iterfind("devices/iommu/driver")
    if "smmuv3" in added or any("pciBus" in driver.attrib for driver in drivers):
        yield "it may serve another bus"
    yield from (f"model {model[:40]!a} was not tried" for model in models if model not in _KNOWN)


def _may_offer_pasid(root: etree._Element) -> bool:
    """Whether the ``<domain>`` mentions PASID at all; the value is not examined."""
    drivers = root.iterfind("devices/iommu/driver")
    # A libvirt version that supports PASID may express it as an attribute of <driver>.
    return mentions(root, _PASID) or any(
        "pasid" in str(name).lower() for driver in drivers for name in driver.attrib
    )


def mentions(root: etree._Element, name: str) -> bool:
    """Whether a property is set past libvirt: by any of QEMU's arguments, or by an override."""
    # -global, -set, -machine and -device all contain the property's name: the form does not matter.
    arguments = (_unescaped(element.get("value", "")) for element in root.iterfind(ARGUMENTS))
    overridden = (element.get("name", "") for element in root.iterfind(_OVERRIDDEN))
    return any(name in argument for argument in arguments) or name in overridden


def _unescaped(argument: str) -> str:
    """An argument with JSON's escapes for letters resolved, whether or not it is JSON."""
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), argument)

"""A guest's virtual IOMMU: which, whether devices are behind it, whether it may offer PASID."""

from __future__ import annotations

import pytest

from unit.domains import make_domain
from vfio_preflight.guest.domain import parse_domain, read_guest
from vfio_preflight.guest.xml import QEMU_NS

LINE = f"<commandline xmlns='{QEMU_NS}'><arg value='%s'/><arg value='%s'/></commandline>"
OVERRIDE = (
    f"<override xmlns='{QEMU_NS}'><device alias='iommu0'><frontend>"
    "<property name='%s' type='unsigned' value='20'/></frontend></device></override>"
)
IOMMU = "<iommu model='intel'><driver intremap='on'%s/></iommu>"


@pytest.mark.parametrize(
    ("extra", "may"),
    [
        ("", False),
        (LINE % ("-device", "intel-iommu,scalable-mode=on,pasid-bits=20"), True),
        (LINE % ("-device", '{"driver":"intel-iommu","pasid-bits":20}'), True),
        (LINE % ("-global", "intel-iommu.pasid-bits=20"), True),
        (LINE % ("-device", '{"driver":"intel-iommu","\\u0070asid-bits":20}'), True),
        (LINE % ("-device", "intel-iommu,scalable-mode=on"), False),
        (OVERRIDE % "pasid-bits", True),
        (OVERRIDE % "scalable-mode", False),
    ],
)
def test_pasid(extra: str, may: bool) -> None:
    xml = make_domain().decode().replace("</domain>", f"{extra}</domain>")
    assert read_guest(parse_domain(xml.encode())).viommu.pasid is may


@pytest.mark.parametrize(("more", "may"), [("", False), (" pasid='on'", True)])
def test_pasid_of_an_iommu_of_libvirt(more: str, may: bool) -> None:
    xml = make_domain().decode().replace("</devices>", f"{IOMMU % more}</devices>")
    assert read_guest(parse_domain(xml.encode())).viommu.pasid is may


def _read(extra: str, *devices: str) -> tuple[str, str]:
    xml = make_domain().decode().replace("</devices>", f"{''.join(devices)}</devices>")
    xml = xml.replace("</domain>", f"{extra}</domain>")
    viommu = read_guest(parse_domain(xml.encode())).viommu
    return viommu.model, viommu.doubt


@pytest.mark.parametrize(
    ("extra", "devices", "model", "doubt"),
    [
        ("", (), "", ""),
        ("", ("<iommu model='intel'/>",), "intel", ""),
        ("", ("<iommu model='virtio'/>",), "virtio", ""),
        ("", ("<iommu model='smmuv3'/>",), "smmuv3", ""),
        ("", ("<iommu model='smmuv3'><driver pciBus='1'/></iommu>",), "smmuv3", "another bus"),
        ("", ("<iommu model='smmuv3'/>",) * 2, "smmuv3", "more than one"),
        ("", ("<iommu model='amd'/>",), "amd", "not tried"),
        (LINE % ("-device", "intel-iommu,caching-mode=on"), (), "intel", ""),
        (LINE % ("-device", '{"driver":"virtio-iommu-pci"}'), (), "virtio", ""),
        (LINE % ("-device", "arm-smmuv3,primary-bus=pcie.1"), (), "smmuv3", "another bus"),
        (LINE % ("-device", "intel-hda"), (), "", ""),
        (
            LINE % ("-machine", "default_bus_bypass_iommu=on"),
            ("<iommu model='intel'/>",),
            "intel",
            "bypass_iommu is mentioned",
        ),
        (OVERRIDE % "bypass_iommu", ("<iommu model='intel'/>",), "intel", "bypass_iommu"),
    ],
)
def test_model(extra: str, devices: tuple[str, ...], model: str, doubt: str) -> None:
    found, why = _read(extra, *devices)
    assert found == model
    assert doubt in why
    assert bool(doubt) == bool(why)

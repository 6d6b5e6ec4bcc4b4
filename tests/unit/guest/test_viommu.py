"""Whether a guest's virtual IOMMU may offer PASID (guest.viommu)."""

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
        (LINE % ("-device", "intel-iommu,scalable-mode=on"), False),
        (OVERRIDE % "pasid-bits", True),
        (OVERRIDE % "scalable-mode", False),
    ],
)
def test_pasid(extra: str, may: bool) -> None:
    xml = make_domain().decode().replace("</domain>", f"{extra}</domain>")
    assert read_guest(parse_domain(xml.encode())).pasid is may


@pytest.mark.parametrize(("more", "may"), [("", False), (" pasid='on'", True)])
def test_pasid_of_an_iommu_of_libvirt(more: str, may: bool) -> None:
    xml = make_domain().decode().replace("</devices>", f"{IOMMU % more}</devices>")
    assert read_guest(parse_domain(xml.encode())).pasid is may

"""The PASID capability that QEMU may add (checks.pasid)."""

from __future__ import annotations

import pytest

from unit.makers import make_context, make_device, make_emulator, make_facts, make_guest
from vfio_preflight.guest.domain import Guest, GuestDevice
from vfio_preflight.guest.viommu import Viommu
from vfio_preflight.judge.checks.pasid import OFFSET, check_pasid
from vfio_preflight.judge.model import preflight
from vfio_preflight.qemu.emulator.machines import EmulatorFacts, Property

BEHIND = make_device(properties={"iommufd": "iommufd0"})
GUEST = make_guest(BEHIND)._replace(viommu=Viommu(pasid=True))


def emulator() -> EmulatorFacts:
    """One that can add the capability."""
    facts = make_emulator(version="11.1.3")
    more = {OFFSET: Property("uint16", 0), "iommufd": Property("link<iommufd>", None)}
    return facts._replace(properties={t: {**p, **more} for t, p in facts.properties.items()})


def test_undecided() -> None:
    (finding,) = check_pasid(make_context(GUEST, BEHIND, emulator()))
    assert (finding.code, finding.verdict) == ("pasid-undecided", "unknown")
    report = preflight(make_facts(guest=GUEST, emulator=emulator()))
    codes = [found.code for found in report.devices[0].findings]
    assert codes[:2] == ["config-identical", "pasid-undecided"]
    assert report.verdict == "unknown"


@pytest.mark.parametrize(
    ("guest", "device", "facts"),
    [
        (GUEST, make_device(), emulator()),
        (GUEST._replace(viommu=Viommu()), BEHIND, emulator()),
        (GUEST, BEHIND._replace(kind="mdev"), emulator()),
        (GUEST, BEHIND._replace(placement="conventional"), emulator()),
        (GUEST, BEHIND, make_emulator()),
        (GUEST, BEHIND, None),
    ],
)
def test_no_question(guest: Guest, device: GuestDevice, facts: EmulatorFacts | None) -> None:
    assert check_pasid(make_context(guest, device, facts)) == ()

"""A device's ROM file between two releases of QEMU."""

from __future__ import annotations

import pytest

from unit.makers import make_device, make_emulator, make_facts, make_guest, make_state
from vfio_preflight.guest.record import RecordEntry
from vfio_preflight.judge.model import preflight

ROM = {"romfile": "/usr/share/pxe.rom"}


def told(sender: str, here: str, driver: str = "vfio-pci", **properties: str) -> list[str]:
    guest = make_guest(make_device(driver=driver, properties=properties))
    made = make_facts(make_state(), make_state(), guest, make_emulator(version=here))
    (known,) = made.devices
    known = known._replace(entry=RecordEntry(make_state(), qemu=sender))
    (report,) = preflight(made._replace(devices=(known,))).devices
    return [each.text for each in report.findings if each.code == "rom-file-named"]


@pytest.mark.parametrize(
    ("sender", "here", "names"),
    [
        ("10.0.2", "11.1.3", ("vfio-pci.rom to QEMU 10.0.2", "vfio-cpr-pci.rom to QEMU 11.1.3")),
        ("10.1.0", "9.2.4", ("vfio-cpr-pci.rom to QEMU 10.1.0", "vfio-pci.rom to QEMU 9.2.4")),
    ],
)
def test_releases_that_name_it_otherwise(sender: str, here: str, names: tuple[str, str]) -> None:
    (text,) = told(sender, here, **ROM)
    assert all(name in text for name in names)


def test_type_is_the_name_before() -> None:
    (text,) = told("10.0.2", "11.1.3", "vfio-pci-nohotplug", **ROM)
    assert "vfio-pci-nohotplug.rom to QEMU 10.0.2" in text


@pytest.mark.parametrize(
    ("sender", "here", "properties"),
    [
        ("9.1.0", "10.0.2", ROM),
        ("10.1.0", "11.1.3", ROM),
        # The source's release is not known.
        ("", "11.1.3", ROM),
        ("10.0.2", "11.1.3", {}),
        ("10.0.2", "11.1.3", {"romfile": ""}),
        ("10.0.2", "11.1.3", {**ROM, "rombar": "0"}),
        ("10.0.2", "11.1.3", {**ROM, "rombar": "x"}),
        # It is unplugged before.
        ("10.0.2", "11.1.3", {**ROM, "failover_pair_id": "net0"}),
    ],
)
def test_nothing_to_tell(sender: str, here: str, properties: dict[str, str]) -> None:
    assert told(sender, here, **properties) == []

from __future__ import annotations

import pytest

from unit.makers import HOST, make_device, make_facts, make_guest, make_host_device, make_inventory
from vfio_preflight.guest.traits import Traits
from vfio_preflight.host.inventory import HostDevice, MdevType
from vfio_preflight.host.pools import Pool
from vfio_preflight.judge.checks.readiness import check_pools, check_readiness, with_readiness
from vfio_preflight.judge.findings import Finding
from vfio_preflight.judge.model import preflight
from vfio_preflight.judge.policy import Decision

UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"
SENT = Traits("10de", "1eb8", "", "", "vendor_vfio_pci", "1.0")
VGPU = SENT._replace(type="nvidia-63")
SECOND = "0000:06:00.5"


def found(
    here: HostDevice | None = None, sent: Traits = SENT, host: str | None = HOST, **changes: object
) -> dict[str, Finding]:
    inventory = make_inventory(*([here] if here else []), **changes)
    device = make_device(kind="mdev" if host == UUID else "pci", host=host)
    return {str(f.code): f for f in check_readiness(device, sent, inventory)}


def test_ready() -> None:
    (notice,) = found().values()
    assert notice.code == "device-place"
    assert notice.text == f"{HOST}: NUMA node 1, IOMMU group 17, of 0000:06:00.0"


def test_device_that_libvirt_chooses() -> None:
    assert found(host=None) == {}


def test_missing_pci_device_and_what_is_there_instead() -> None:
    finding = found(host=SECOND)["device-absent"]
    assert finding.text == (f"there is no PCI device {SECOND}; free ones like the source's: {HOST}")


@pytest.mark.parametrize("here", [{"holder": "x"}, {"holder": None}, {"bound": False}])
def test_what_is_not_free_is_not_offered(here: dict[str, object]) -> None:
    finding = found(make_host_device(**here), host=SECOND)["device-absent"]
    assert "free ones" not in finding.text


@pytest.mark.parametrize("sent", [VGPU, Traits()], ids=["recorded", "unknown"])
def test_missing_mdev_of_which_there_is_a_free_instance(sent: Traits) -> None:
    types = (
        MdevType("0000:40:00.0", "nvidia-63", "full", 0),
        MdevType("0000:41:00.0", "nvidia-63", "T4-2Q", 3),
    )
    finding = found(sent=sent, host=UUID, types=types)["device-absent"]
    assert "0000:41:00.0 has 3 free instances of nvidia-63" in finding.text
    assert finding.remedy == (
        f"mdevctl start -u {UUID} -p 0000:41:00.0 -t nvidia-63, or: echo {UUID} >"
        " /sys/class/mdev_bus/0000:41:00.0/mdev_supported_types/nvidia-63/create"
    )


def test_missing_mdev_of_an_unknown_type() -> None:
    types = (MdevType("p", "nvidia-63", "", 1), MdevType("p", "nvidia-64", "", -1))
    finding = found(sent=Traits(), host=UUID, types=types)["device-absent"]
    assert finding.text.endswith("types with a free instance: nvidia-63, nvidia-64")


def test_missing_mdev_that_cannot_be_made() -> None:
    types = (MdevType("p", "nvidia-63", "", 0), MdevType("p", "nvidia-64", "", 4))
    finding = found(sent=VGPU, host=UUID, types=types)["device-absent"]
    assert finding.text.endswith("and no free instance of nvidia-63")


def test_in_use() -> None:
    finding = found(make_host_device(holder="guest g2 (process 4)"))["device-in-use"]
    assert finding.text == f"{HOST} is in use there by guest g2 (process 4)"
    assert "device-in-use" not in found(make_host_device(holder=None)), "not known"


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"bound": False, "traits": SENT._replace(driver="nvidia")}, "device-unbound", "to nvidia"),
        ({"bound": False, "traits": SENT._replace(driver="")}, "device-unbound", "to no driver"),
        ({"traits": SENT._replace(driver="vfio-pci")}, "device-plain-driver", "no migration"),
        ({"neighbours": ("0000:06:00.1 (ixgbe)",)}, "device-group", "0000:06:00.1 (ixgbe)"),
        ({"neighbours": tuple("abcde")}, "device-group", "with a, b, c, d, ...: VFIO"),
        ({"migratable": "disable"}, "device-not-migratable", "migratable disable"),
        ({"traits": SENT._replace(device="1eb9")}, "device-other-kind", "10de:1eb9"),
    ],
)
def test_not_ready(changes: dict[str, object], code: str, text: str) -> None:
    findings = found(make_host_device(**changes))
    assert set(findings) == {code, "device-place"}
    assert text in findings[code].text


def test_vgpu_type_that_is_not_set() -> None:
    finding = found(sent=VGPU)["device-other-kind"]
    assert finding.text.endswith("is 10de:1eb8 without a vGPU type")


def test_what_one_side_does_not_tell_is_not_compared() -> None:
    assert "device-other-kind" not in found(sent=Traits("", "", "", "", "", ""))


# --- pools ----------------------------------------------------------------------------------------

POOL = Pool("vfs", True, (HOST, SECOND, "0000:06:00.6"))


@pytest.mark.parametrize(
    ("networks", "code"),
    [
        (("vfs",), "pool-left"),
        (("vfs", "vfs"), "pool-exhausted"),
        (("lan",), None),
        (("nowhere",), None),
    ],
)
def test_pools(networks: tuple[str, ...], code: str | None) -> None:
    devices = (make_host_device(), make_host_device(SECOND, holder="guest g2 (process 4)"))
    inventory = make_inventory(*devices, pools=(POOL, Pool("lan", False)))
    findings = list(check_pools(networks, inventory))
    assert [finding.code for finding in findings] == ([code] if code else [])
    if code:
        assert findings[0].text.startswith("network vfs has 1 of 3 VFs left")


def test_pool_of_which_not_all_holders_are_seen() -> None:
    devices = (make_host_device(holder=None), make_host_device(SECOND, holder="guest g2 (x)"))
    inventory = make_inventory(*devices, pools=(POOL,))
    (finding,) = check_pools(("vfs",), inventory)
    assert finding.text.startswith("network vfs has up to 1 of 3 VFs left")


# --- what becomes of the decision -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("here", "action", "left"),
    [
        ({}, "mend", "mend"),
        ({"holder": "guest g2"}, "annotate", None),
        ({"holder": "guest g2"}, "mend", None),
        ({"holder": "guest g2"}, "block", "block"),
        ({"bound": False}, "annotate", "annotate"),
        ({"bound": False}, "mend", None),
    ],
)
def test_decision_that_would_not_come_about(
    here: dict[str, object], action: str, left: str | None
) -> None:
    facts = make_facts()
    inventory = make_inventory(make_host_device(**here))
    report, would = with_readiness(preflight(facts), Decision(action), facts, inventory, ())
    assert (would.action if would else None) == left
    assert report.verdict == {"holder": "fail", "bound": "unknown", "": "pass"}["".join(here)]


def test_device_whose_state_was_given_is_left_out() -> None:
    facts = make_facts(guest=make_guest(make_device(host=SECOND)))
    report, _ = with_readiness(
        preflight(facts), None, facts, make_inventory(), (), {facts.devices[0].device.key}
    )
    assert report.verdict == "pass"

"""Real migrations through the installed hook; the dry run is asked first and must say the same."""

from __future__ import annotations

import json

import pytest

from lab import as_json, guest_xml, hostdev_mdev, hostdev_pci, interface_hostdev, vfio_commandline

from .pair import (
    CONFIG,
    MDEV,
    MIGRATED,
    NETWORK_VF,
    NEW,
    OLD,
    OTHER_LENGTH,
    OTHER_PM,
    OTHER_VSC,
    PCI,
    QEMU_LINE,
    SECOND_VF,
    STAYED,
    VF,
    Pair,
)

ON_COMMAND_LINE = vfio_commandline(PCI)
MEND = "[policy]\nfail = mend\nvsc-tolerant = 10de:1eb8\n"


@pytest.mark.parametrize("machine", [OLD, NEW])
@pytest.mark.parametrize("device", [hostdev_pci(VF), hostdev_mdev(MDEV)], ids=["vf", "mdev"])
def test_s1_identical_states_pass(pair: Pair, machine: str, device: str) -> None:
    guest = pair.start(guest_xml("s1", machine, [device]))
    asked = pair.check(guest)
    assert (asked.status, asked.report["verdict"]) == (0, "pass")

    result = pair.migrate(guest)

    assert result.returncode == 0, result.stderr
    assert pair.where(guest) == MIGRATED
    assert pair.annotation(guest).get("verdict") == "pass"


@pytest.mark.parametrize("name", [VF, MDEV], ids=["vf", "mdev"])
def test_s2_other_vsc_on_old_machine_is_blocked(pair: Pair, name: str) -> None:
    device = hostdev_mdev(MDEV) if name == MDEV else hostdev_pci(name)
    guest = pair.start(guest_xml("s2", OLD, [device]))
    pair.present(pair.b, name, OTHER_VSC)
    asked = pair.check(guest)
    assert (asked.status, asked.report["verdict"]) == (1, "fail")
    assert asked.report["devices"][0]["qemu"] == QEMU_LINE

    result = pair.migrate(guest)

    assert result.returncode != 0
    first = next(line for line in result.stderr.splitlines() if "vfio-preflight:" in line)
    for part in (
        f"hostdev0 ({name[:8]}",
        "VSC at 0x60",
        "offset 0x63",
        "source 01, destination 51",
        "to do: equal drivers, or mend: vsc-tolerant = 10de:1eb8",
    ):
        assert part in first
    assert len(first.partition("vfio-preflight:")[2]) <= 185
    assert QEMU_LINE in result.stderr and "fail = mend and vsc-tolerant = 10de:" in result.stderr
    assert pair.where(guest) == STAYED
    assert pair.b.guest_log(guest) == ""  # QEMU was never started there


def test_s2_without_hook_qemu_prints_the_predicted_line(pair: Pair) -> None:
    guest = pair.start(guest_xml("s2bare", OLD, [hostdev_pci(VF)]))
    pair.present(pair.b, VF, OTHER_VSC)
    hook = pair.b.hooks / "qemu.d/50-vfio-preflight"
    hook.chmod(0o644)
    try:
        result = pair.migrate(guest)
    finally:
        hook.chmod(0o755)
    assert result.returncode != 0
    assert "vfio-preflight" not in result.stderr
    assert QEMU_LINE in pair.b.guest_log(guest)
    assert pair.where(guest) == STAYED


def test_s3_other_vsc_on_new_machine_is_tolerated(pair: Pair) -> None:
    guest = pair.start(guest_xml("s3", NEW, [hostdev_pci(VF)]))
    pair.present(pair.b, VF, OTHER_VSC)
    asked = pair.check(guest)
    assert (asked.status, asked.report["verdict"]) == (0, "tolerated")

    assert pair.migrate(guest).returncode == 0

    assert pair.where(guest) == MIGRATED
    report = pair.annotation(guest)
    assert report.get("verdict") == "tolerated"
    assert "vsc-body-tolerated" in [node.get("code") for node in report.iter() if node.get("code")]


def test_s4_mend_touches_the_failing_device_alone(pair: Pair) -> None:
    devices = [hostdev_pci(VF), hostdev_pci(SECOND_VF)]
    guest = pair.start(guest_xml("s4", OLD, devices))
    pair.present(pair.b, SECOND_VF, OTHER_VSC)
    pair.configure(MEND)
    asked = pair.check(guest)
    assert (asked.status, asked.report["action"]) == (0, "mend")

    result = pair.migrate(guest)

    assert result.returncode == 0, result.stderr
    assert pair.where(guest) == MIGRATED
    vfio = [json.loads(a) for a in pair.b.qemu_arguments(guest) if '"driver":"vfio-pci"' in a]
    assert {device["host"]: device.get("skip-vsc-check") for device in vfio} == {
        VF: None,
        SECOND_VF: True,
    }
    assert pair.annotation(guest).get("action") == "mend"


def test_s4_unlisted_device_is_not_mended(pair: Pair) -> None:
    guest = pair.start(guest_xml("s4strict", OLD, [hostdev_pci(VF)]))
    pair.present(pair.b, VF, OTHER_VSC)
    pair.configure("[policy]\nfail = mend\nvsc-tolerant = 15b3:*\n")
    assert pair.check(guest).status == 1

    result = pair.migrate(guest)

    assert "not mended: hostdev0 is not listed under vsc-tolerant" in result.stderr
    assert pair.where(guest) == STAYED


@pytest.mark.parametrize("machine", [OLD, NEW, "pc-i440fx-9.0", "pc-q35-10.0"])
@pytest.mark.parametrize("config", [OTHER_LENGTH, OTHER_PM], ids=["vsc-length", "pm"])
def test_s5_other_bytes_are_beyond_mending(pair: Pair, machine: str, config: bytes) -> None:
    guest = pair.start(guest_xml("s5", machine, [hostdev_pci(VF)]))
    pair.present(pair.b, VF, config)
    pair.configure(MEND)
    asked = pair.check(guest)
    assert (asked.status, asked.codes()[0]) == (1, "config-differs")

    result = pair.migrate(guest)

    assert result.returncode != 0
    assert "mend does not help" in result.stderr
    assert "not mended: more than Vendor Specific Information differs on hostdev0" in result.stderr
    assert pair.where(guest) == STAYED


def test_s6_without_record_unknown_is_annotated(pair: Pair) -> None:
    guest = pair.a.start_guest(guest_xml("s6", OLD, [hostdev_pci(VF)]))
    asked = pair.check(guest)
    assert (asked.status, asked.codes()[0]) == (3, "source-unknown")

    assert pair.migrate(guest).returncode == 0

    assert pair.where(guest) == MIGRATED
    assert pair.annotation(guest).get("verdict") == "unknown"


def test_s6_without_record_unknown_is_blocked_if_configured(pair: Pair) -> None:
    guest = pair.a.start_guest(guest_xml("s6block", OLD, [hostdev_pci(VF)]))
    pair.configure("[policy]\nunknown = block\n")
    assert pair.check(guest).status == 1

    result = pair.migrate(guest)

    assert "vfio-preflight record s6block" in result.stderr
    assert pair.where(guest) == STAYED


def test_s8_guest_without_vfio_device_is_left_alone(pair: Pair) -> None:
    guest = pair.a.start_guest(guest_xml("s8", OLD))
    cache = pair.b.path("/var/cache/vfio-preflight")
    before = sorted(path.name for path in cache.iterdir())
    assert pair.migrate(guest).returncode == 0
    assert pair.where(guest) == MIGRATED
    assert "urn:vfio-preflight" not in pair.b.virsh("dumpxml", guest).stdout
    assert sorted(path.name for path in cache.iterdir()) == before


@pytest.mark.parametrize(
    "commandline", [ON_COMMAND_LINE, as_json(ON_COMMAND_LINE)], ids=["k=v", "json"]
)
def test_s11_every_sort_of_device_is_found_and_judged(pair: Pair, commandline: list[str]) -> None:
    devices = [hostdev_pci(VF), hostdev_mdev(MDEV), interface_hostdev(NETWORK_VF)]
    guest = pair.start(guest_xml("s11", OLD, devices, commandline=commandline))
    for name in (VF, MDEV, NETWORK_VF, PCI):
        pair.present(pair.b, name, OTHER_VSC)
    asked = pair.check(guest)
    assert asked.status == 1
    hosts = {device["host"]: device["verdict"] for device in asked.report["devices"]}
    assert hosts == dict.fromkeys((VF, MDEV, NETWORK_VF, PCI), "fail")

    result = pair.migrate(guest)

    assert pair.where(guest) == STAYED
    for name in (VF, MDEV, NETWORK_VF, PCI):
        assert f"({name}" in result.stderr


@pytest.mark.parametrize(
    "commandline", [ON_COMMAND_LINE, as_json(ON_COMMAND_LINE)], ids=["k=v", "json"]
)
def test_s11_every_sort_of_device_migrates(pair: Pair, commandline: list[str]) -> None:
    devices = [hostdev_pci(VF), hostdev_mdev(MDEV), interface_hostdev(NETWORK_VF)]
    guest = pair.start(guest_xml("s11pass", OLD, devices, commandline=commandline))
    asked = pair.check(guest)
    assert asked.status == 0, asked.report
    result = pair.migrate(guest)
    assert result.returncode == 0, result.stderr
    verdicts = {node.get("host"): node.get("verdict") for node in pair.annotation(guest).iter()}
    assert all(verdicts[name] == "pass" for name in (VF, MDEV, NETWORK_VF, PCI))


def test_interface_is_numbered_before_hostdev(pair: Pair) -> None:
    """Mending goes by libvirt's alias: an interface of type hostdev is numbered first."""
    devices = [hostdev_pci(VF), interface_hostdev(NETWORK_VF)]
    guest = pair.start(guest_xml("alias", OLD, devices))
    pair.present(pair.b, VF, OTHER_VSC)
    pair.configure(MEND)
    assert pair.migrate(guest).returncode == 0
    vfio = [json.loads(a) for a in pair.b.qemu_arguments(guest) if '"driver":"vfio-pci"' in a]
    found = {device["id"]: (device["host"], device.get("skip-vsc-check")) for device in vfio}
    assert found == {"hostdev0": (NETWORK_VF, None), "hostdev1": (VF, True)}


def test_second_hop_goes_by_the_first_hosts_bytes(pair: Pair) -> None:
    """A→B→A with A's device changed meanwhile: the record travelled, and says what QEMU says."""
    guest = pair.start(guest_xml("hop", OLD, [hostdev_pci(VF)]))
    assert pair.migrate(guest).returncode == 0
    pair.present(pair.a, VF, OTHER_VSC)
    back = pair.lab.migrate(guest, pair.b, pair.a)
    assert QEMU_LINE in back.stderr
    assert pair.where(guest) == MIGRATED
    pair.present(pair.a, VF, CONFIG)
    assert pair.lab.migrate(guest, pair.b, pair.a).returncode == 0


def test_guests_own_policy_counts_unless_forbidden(pair: Pair) -> None:
    wish = "<p:preflight xmlns:p='urn:vfio-preflight:1'><policy unknown='block'/></p:preflight>"
    xml = guest_xml("wish", OLD, [hostdev_pci(VF)], metadata=wish)
    guest = pair.a.start_guest(xml)
    assert "blocked" in pair.migrate(guest).stderr
    pair.configure("[policy]\nguest-override = no\n")
    assert pair.migrate(guest).returncode == 0


def test_tenant_does_not_switch_the_check_off(pair: Pair) -> None:
    """Whoever may write the guest's metadata asks for less than the host's policy."""
    guest = pair.start(guest_xml("tenant", OLD, [hostdev_pci(VF)]))
    wish = "<preflight><policy fail='allow' unknown='allow'/>%s</preflight>"
    ours = pair.a.virsh("metadata", guest, "urn:vfio-preflight:1").stdout
    record = ours[ours.index("<record") : ours.rindex("</preflight>")]
    words = ("metadata", guest, "urn:vfio-preflight:1", "--key", "preflight", "--set")
    pair.a.virsh(*words, wish % record, "--live").check_returncode()
    pair.present(pair.b, VF, OTHER_VSC)
    blocked = pair.migrate(guest)
    assert QEMU_LINE in blocked.stderr and "guest-policy-refused" in blocked.stderr
    assert pair.where(guest) == STAYED
    pair.configure("[policy]\nguest-override = yes\n")
    assert "migration blocked" not in pair.migrate(guest).stderr

"""The trial on two QEMU builds: what the emulator itself says is what a migration does."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from lab import FakeDevice, Lab, guest_xml, hostdev_pci
from lab.other_qemu import NEWEST, exchange_emulator, other_qemu

from .pair import CONFIG, MIGRATED, NEW, OLD, OTHER_PM, OTHER_VSC, STAYED, VF, Pair

VERIFIED = "/usr/lib/vfio-preflight/vfio_preflight/qemu/emulator/verified.json"
CASES = [
    (OLD, CONFIG, "pass"),
    (OLD, OTHER_VSC, "fail"),
    (NEW, OTHER_VSC, "tolerated"),
    ("pc-q35-10.0", OTHER_PM, "fail"),
]
IDS = ["same", "vsc-old", "vsc-new", "pm"]


@pytest.fixture(scope="module", params=["own", "newest"])
def hosts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """A pair whose destination has one of the two builds, unknown to the model's table."""
    with Lab(tmp_path_factory.mktemp("trial")) as lab:
        if request.param == "newest":
            exchange_emulator(lab.b, other_qemu(NEWEST))
        pair = Pair(lab)
        for host in lab.a, lab.b:
            host.add_device(FakeDevice(VF, "vf", CONFIG))
            pair.install(host)
        lab.b.path(VERIFIED).write_text('{"verified": [{"version": "9.2.0"}]}')
        yield pair


@pytest.fixture
def pair(hosts: Pair) -> Iterator[Pair]:
    yield hosts
    for host in hosts.a, hosts.b:
        for guest in host.virsh("list", "--all", "--name").stdout.split():
            host.virsh("destroy", guest)
            host.virsh("undefine", guest)
    hosts.present(hosts.b, VF, CONFIG)


@pytest.mark.parametrize(("machine", "config", "verdict"), CASES, ids=IDS)
def test_trial_says_what_a_migration_does(
    pair: Pair, machine: str, config: bytes, verdict: str
) -> None:
    guest = pair.start(guest_xml("trial", machine, [hostdev_pci(VF)]))
    pair.present(pair.b, VF, config)

    asked = pair.check(guest)

    assert asked.report["verdict"] == verdict
    assert "trial-agrees" in asked.codes()
    assert [finding["code"] for finding in asked.report["findings"]] == ["emulator-unverified"]
    hook = pair.b.hooks / "qemu.d/50-vfio-preflight"
    if verdict != "fail":
        assert pair.migrate(guest).returncode == 0
        codes = [node.get("code") for node in pair.annotation(guest).iter() if node.get("code")]
        assert "trial-agrees" in codes
        assert pair.where(guest) == MIGRATED
        return
    refused = pair.migrate(guest).stderr
    assert "trial-agrees" in refused, refused
    assert pair.where(guest) == STAYED
    hook.chmod(0o644)
    try:
        assert pair.migrate(guest).returncode != 0
    finally:
        hook.chmod(0o755)
    assert asked.report["devices"][0]["qemu"] in pair.b.guest_log(guest)


def test_verified_emulator_is_not_tried_unless_asked(pair: Pair) -> None:
    table = pair.b.path(VERIFIED)
    before = table.read_text()
    version = pair.b.run(["qemu-system-x86_64", "--version"]).stdout.split()[3]
    table.write_text(json.dumps({"verified": [{"version": version}]}))
    try:
        guest = pair.start(guest_xml("known", OLD, [hostdev_pci(VF)]))
        assert not [code for code in pair.check(guest).codes() if code.startswith("trial")]
        result = pair.a.run(
            ["vfio-preflight", "check", guest, "--to", pair.b.uri, "--trial", "--format", "json"]
        )
        (device,) = json.loads(result.stdout)["devices"]
        assert "trial-agrees" in [finding["code"] for finding in device["findings"]]
    finally:
        table.write_text(before)


def test_never_means_never(pair: Pair) -> None:
    pair.configure("[hook]\ntrial = never\n")
    guest = pair.start(guest_xml("never", OLD, [hostdev_pci(VF)]))
    asked = pair.check(guest)
    assert not [code for code in asked.codes() if code.startswith("trial")]
    assert [finding["code"] for finding in asked.report["findings"]] == ["emulator-unverified"]

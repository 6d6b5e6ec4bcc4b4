"""What arrives after several hops is what the guest's first host presented.

Three hosts present three VSCs. Each hop is predicted first. What really arrived is then seen in
QEMU's own line on the host that refuses it, and in the bytes of a save image made at the end.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lxml import etree

from lab import FakeDevice, Host, guest_xml, hostdev_mdev, hostdev_pci
from lab.configs import VSC_BODY, patched
from vfio_preflight.guest.xml import QEMU_NS
from vfio_preflight.images.save_image import read_image
from vfio_preflight.pci.state import ConfigState

from .pair import CONFIG, MDEV, MDEV_TYPE, NEW, OLD, OTHER_VSC, VF, VSC_AT, Answer, Pair

THIRD_VSC = patched(CONFIG, VSC_AT, VSC_BODY[0] ^ 0xC0)
RELOADED_VSC = patched(CONFIG, VSC_AT, VSC_BODY[0] ^ 0x30)
MEND = "[policy]\nfail = mend\nvsc-tolerant = 10de:*\n"
DEVICES = pytest.mark.parametrize(
    ("name", "device"),
    [(VF, hostdev_pci(VF)), (MDEV, hostdev_mdev(MDEV))],
    ids=["vf", "mdev"],
)


@pytest.fixture(scope="module")
def third(hosts: Pair) -> Iterator[Host]:
    """Host c of the chain; others have one of that name (test_destinations)."""
    host = hosts.lab.add_host("third")
    host.add_device(FakeDevice(VF, "vf", CONFIG))
    host.add_device(FakeDevice(MDEV, "mdev", CONFIG, mdev_type=MDEV_TYPE))
    hosts.install(host)
    yield host
    host.end()


@pytest.fixture
def chain(pair: Pair, third: Host) -> Iterator[Pair]:
    """a, b and c, each with Vendor Specific Information of its own."""
    for name in (VF, MDEV):
        pair.present(pair.b, name, OTHER_VSC)
        pair.present(third, name, THIRD_VSC)
    yield pair
    for guest in third.virsh("list", "--all", "--name").stdout.split():
        third.virsh("destroy", guest)


def line(source: bytes, destination: bytes) -> str:
    """What QEMU prints where the first byte of the VSC's body differs."""
    return (
        f"get_pci_config_device: Bad config data: i=0x63 read: {source[VSC_AT]:x}"
        f" device: {destination[VSC_AT]:x} cmask: ff wmask: 0 w1cmask:0"
    )


def check(guest: str, source: Host, destination: Host) -> Answer:
    command = ["vfio-preflight", "check", guest, "--to", destination.uri, "--format", "json"]
    result = source.run(command)
    assert result.stdout, result.stderr
    return Answer(result.returncode, json.loads(result.stdout))


def check_xml(xml: str, destination: Host) -> Answer:
    """The judgement of domain XML on the destination itself."""
    destination.path("/var/tmp/hop.xml").write_text(xml)
    result = destination.run(["vfio-preflight", "check", "/var/tmp/hop.xml", "--format", "json"])
    assert result.stdout, result.stderr
    return Answer(result.returncode, json.loads(result.stdout))


@contextmanager
def without_hook(host: Host) -> Iterator[None]:
    hook = host.hooks / "qemu.d/50-vfio-preflight"
    hook.chmod(0o644)
    try:
        yield
    finally:
        hook.chmod(0o755)


def bare_migration(
    pair: Pair, guest: str, source: Host, destination: Host, *extra: str
) -> subprocess.CompletedProcess[str]:
    with without_hook(destination):
        return pair.lab.migrate(guest, source, destination, *extra)


def saved_config(guest: str, host: Host) -> bytes:
    """The device's config space in the stream of the guest, saved on ``host``."""
    file = f"/var/lib/libvirt/{guest}.img"
    host.virsh("save", guest, file).check_returncode()
    (state,) = read_image(str(host.path(file))).stream.vfio.values()
    assert isinstance(state, ConfigState)
    return state.config


@DEVICES
def test_third_host_receives_the_first_ones_bytes(
    chain: Pair, third: Host, name: str, device: str
) -> None:
    """b mends, c meets what a presented; as an mdev, with a's driver "reloaded" meanwhile."""
    guest = chain.start(guest_xml("hops", OLD, [device]))
    if name == MDEV:
        chain.present(chain.a, name, RELOADED_VSC)
    assert check(guest, chain.a, chain.b).report["devices"][0]["qemu"] == line(CONFIG, OTHER_VSC)
    refused = bare_migration(chain, guest, chain.a, chain.b)
    assert refused.returncode != 0
    assert line(CONFIG, OTHER_VSC) in chain.b.guest_log(guest)

    chain.configure(MEND)
    assert check(guest, chain.a, chain.b).report["action"] == "mend"
    assert chain.migrate(guest).returncode == 0
    chain.record(guest, chain.b)  # as the service does, on every host

    # As mended, the guest passes on c too; without the mend it does not.
    assert check(guest, chain.b, third).report["verdict"] == "tolerated"
    plain = without_override(chain.b.virsh("dumpxml", "--migratable", guest).stdout)
    predicted = check_xml(plain, third)
    assert predicted.status == 1
    assert predicted.report["devices"][0]["qemu"] == line(CONFIG, THIRD_VSC)
    chain.b.path("/var/tmp/plain.xml").write_text(plain)
    refused = bare_migration(chain, guest, chain.b, third, "--xml", "/var/tmp/plain.xml")
    assert refused.returncode != 0
    assert line(CONFIG, THIRD_VSC) in third.guest_log(guest)
    assert line(OTHER_VSC, THIRD_VSC) not in third.guest_log(guest)

    moved = chain.lab.migrate(guest, chain.b, third)
    assert moved.returncode == 0, moved.stderr
    chain.record(guest, third)
    assert saved_config(guest, third)[VSC_AT:][: len(VSC_BODY)] == VSC_BODY


def without_override(xml: str) -> str:
    root = etree.fromstring(xml)
    for override in root.findall(f"{{{QEMU_NS}}}override"):
        root.remove(override)
    return etree.tostring(root, encoding="unicode")


def test_tolerant_machine_carries_the_first_ones_bytes(chain: Pair, third: Host) -> None:
    guest = chain.start(guest_xml("hopsnew", NEW, [hostdev_pci(VF)]))
    for source, destination in ((chain.a, chain.b), (chain.b, third)):
        assert check(guest, source, destination).report["verdict"] == "tolerated"
        assert chain.lab.migrate(guest, source, destination).returncode == 0
        chain.record(guest, destination)
    assert saved_config(guest, third)[VSC_AT:][: len(VSC_BODY)] == VSC_BODY


@DEVICES
def test_driver_reload_does_not_change_what_is_sent(pair: Pair, name: str, device: str) -> None:
    """a's device presents other bytes after the guest started: QEMU sends those of the start."""
    guest = pair.start(guest_xml("reload", OLD, [device]))
    pair.present(pair.a, name, OTHER_VSC)
    assert "kept" in pair.record(guest).stdout

    pair.present(pair.b, name, OTHER_VSC)
    asked = pair.check(guest)
    assert (asked.status, asked.report["devices"][0]["qemu"]) == (1, line(CONFIG, OTHER_VSC))
    assert bare_migration(pair, guest, pair.a, pair.b).returncode != 0
    assert line(CONFIG, OTHER_VSC) in pair.b.guest_log(guest)

    pair.present(pair.b, name, CONFIG)
    assert pair.check(guest).report["verdict"] == "pass"
    assert bare_migration(pair, guest, pair.a, pair.b).returncode == 0


@DEVICES
def test_cold_start_sends_what_is_there_now(pair: Pair, name: str, device: str) -> None:
    """After a shutdown the record of the earlier run is worth nothing, even if it was kept."""
    guest = pair.start(guest_xml("cold", OLD, [device]))
    pair.a.define(pair.a.virsh("dumpxml", guest).stdout)
    pair.a.virsh("destroy", guest).check_returncode()
    pair.present(pair.a, name, OTHER_VSC)
    pair.a.virsh("start", guest).check_returncode()
    assert "recorded" in pair.record(guest).stdout
    assert "kept" in pair.record(guest).stdout

    asked = pair.check(guest)
    assert (asked.status, asked.report["devices"][0]["qemu"]) == (1, line(OTHER_VSC, CONFIG))
    assert bare_migration(pair, guest, pair.a, pair.b).returncode != 0
    assert line(OTHER_VSC, CONFIG) in pair.b.guest_log(guest)

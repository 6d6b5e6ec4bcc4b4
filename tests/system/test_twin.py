"""The whole machine's trial between two hosts with different builds of QEMU, and what libvirt and
QEMU then do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import FakeDevice, Host, Lab, guest_xml, hostdev_pci
from lab.guests import EMULATOR
from lab.other_qemu import NEWEST, exchange_emulator, other_qemu
from lab.ssh import SshNetwork, served

from .pair import CONFIG, MIGRATED, OLD, STAYED, VF, Pair

URI = "qemu+ssh://lab-b/system"
ROM = "/usr/share/operator.rom"
SMALL, LARGE = 64 << 10, 128 << 10
# libvirt gives each a root port, and more behind it.
NETWORK = (
    "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='e1000e'/>{}</interface>"
)
DEVICES = (
    "<controller type='scsi' model='virtio-scsi'/>",
    "<controller type='usb' model='qemu-xhci'/>",
    "<input type='tablet' bus='usb'/>",
    "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    "<video><model type='virtio'/></video>",
    "<serial type='null'/>",
)


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Host a with the machine's QEMU, b with the newest; sshd on b."""
    if not served(Path("/")):
        pytest.skip("lacks sshd")
    newest = other_qemu(NEWEST)
    with Lab(tmp_path_factory.mktemp("builds")) as lab:
        pair = Pair(lab)
        exchange_emulator(lab.b, newest)
        for host in lab.a, lab.b:
            host.add_device(FakeDevice(VF, "vf", CONFIG))
            pair.install(host)
            host.path(ROM).write_bytes(bytes(SMALL))
        with SshNetwork(lab.a) as network:
            network.serve(lab.b)
            yield pair


@pytest.fixture
def pair(builds: Pair) -> Iterator[Pair]:
    yield builds
    for host in builds.a, builds.b:
        for guest in host.virsh("list", "--all", "--name").stdout.split():
            host.virsh("destroy", guest)
            host.virsh("undefine", guest)


def check(pair: Pair, guest: str, *options: str) -> tuple[int, dict[str, Any]]:
    command = ["vfio-preflight", "check", guest, "--to", URI, "--format", "json", *options]
    result = pair.a.run(command)
    assert result.returncode != 2, result.stderr
    return result.returncode, json.loads(result.stdout)


def findings(report: dict[str, Any]) -> dict[str, str]:
    return {finding["code"]: finding["text"] for finding in report["findings"]}


def xml(name: str, rom: str = "") -> str:
    devices = [*DEVICES, NETWORK.format(rom), hostdev_pci(VF)]
    text = guest_xml(name, OLD, devices)
    return text.replace("<controller type='usb' model='none'/>\n", "")


def test_another_build_loads_the_twin_and_then_the_guest(pair: Pair) -> None:
    guest = pair.start(xml("twin1"))

    status, report = check(pair, guest, "--twin")

    assert status == 0, report
    told = findings(report)
    assert "twin-accepted" in told, told
    assert " loads the guest's twin that QEMU 10." in told["twin-accepted"]
    result = pair.migrate(guest)
    assert result.returncode == 0, result.stderr
    assert pair.where(guest) == MIGRATED


def test_option_rom_of_another_size(pair: Pair) -> None:
    pair.b.path(ROM).write_bytes(bytes(LARGE))
    guest = pair.start(xml("twin2", f"<rom file='{ROM}'/>"))
    try:
        status, report = check(pair, guest)
        assert status == 1, report
        refused = findings(report)["twin-refused"]
        pair.configure("[policy]\nfail = allow\n")
        result = pair.migrate(guest)
    finally:
        pair.b.path(ROM).write_bytes(bytes(SMALL))
        pair.configure("")
    assert result.returncode != 0
    assert pair.where(guest) == STAYED
    log = (pair.b.log / f"qemu/{guest}.log").read_text()
    line = refused.partition('"')[2].partition('"')[0]
    assert "Size mismatch" in line, refused
    assert line in log, log

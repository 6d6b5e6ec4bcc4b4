"""Beside the libvirt hooks that VDSM, CloudStack and KubeVirt bring (docs/INTEGRATIONS.md).

libvirt runs theirs, ``hooks/qemu``, first: it prints the XML of every incoming guest anew, which is
then what our hook gets, and what it prints is what libvirt takes.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from lab import FakeDevice, Host, guest_xml, hostdev_mdev, hostdev_pci
from lab.host import child_of

from .pair import CONFIG, MDEV, MDEV_TYPE, MIGRATED, OLD, OTHER_VSC, STAYED, VF, Pair

PEERS = Path(__file__).with_name("peers")
# Keep what libvirt gives to a hook in that place.
WITNESS = "#!/bin/sh\n[ $2 != migrate ] || cat >/var/log/libvirt/seen-{name}\n"
# The mdev of a's guest is another one on b, as KubeVirt and Nova have it.
THERE = "b0b0b0b0-1111-4222-8333-444455556666"
DISK = "/var/lib/libvirt/images/cd.iso"
CDROM = f"""<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='{DISK}'/>
<target dev='sda' bus='sata'/><readonly/></disk>"""
MARKER = "/run/kubevirt-migrated"
SOCKET = "/run/kubevirt-migration-hook-socket"
BLOCKED = "vfio-preflight: migration blocked: hostdev0"


class Peer(NamedTuple):
    """A platform's hook; ``marks`` are in what it prints, and ``stays`` in the guest's XML."""

    devices: list[str]
    device: str
    marks: str
    stays: str


VDSM = Peer([hostdev_pci(VF), CDROM], VF, "<ns0:preflight", "<seclabel model='dac' relabel='no'/>")
CLOUDSTACK = Peer([hostdev_pci(VF)], VF, '<?xml version="1.0" ?><domain', "<hostdev ")
KUBEVIRT = Peer([hostdev_mdev(MDEV)], THERE, f'uuid="{THERE}"', f"<address uuid='{THERE}'/>")
NAMED = {"vdsm": VDSM, "cloudstack": CLOUDSTACK, "kubevirt": KUBEVIRT}


class Beside(NamedTuple):
    """The pair, with a platform's hook on both hosts."""

    pair: Pair
    name: str
    peer: Peer

    def start(self) -> str:
        return self.pair.start(guest_xml(f"beside-{self.name}", OLD, self.peer.devices))

    def seen(self, name: str) -> str:
        """The XML that libvirt gave to the witness ``name`` at ``migrate begin`` on b."""
        return (self.pair.b.log / f"seen-{name}").read_text()

    def migrate(self, guest: str) -> str:
        """Migrate it to b; return what virsh has to say."""
        with self.server():
            return self.pair.migrate(guest).stderr

    @contextmanager
    def server(self) -> Iterator[None]:
        """KubeVirt's virt-launcher on b, in wait for a migration."""
        if self.peer is not KUBEVIRT:
            yield
            return
        path = "/usr/lib/lab-kubevirt-server"
        put(self.pair.b.path(path), (PEERS / "kubevirt_server.py").read_text())
        process = self.pair.b.popen([path, THERE])
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            if process.poll() is None and self.pair.b.path(SOCKET).exists():
                os.kill(child_of(process), signal.SIGKILL)
            process.communicate(timeout=30)
            self.pair.b.path(SOCKET).unlink(missing_ok=True)


def put(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture(scope="module", autouse=True)
def other_devices(hosts: Pair) -> None:
    hosts.b.add_device(FakeDevice(THERE, "mdev", CONFIG, mdev_type=MDEV_TYPE))
    for host in hosts.a, hosts.b:
        host.path(DISK).parent.mkdir(parents=True, exist_ok=True)
        host.path(DISK).write_bytes(bytes(1 << 20))


@pytest.fixture
def install(pair: Pair) -> Iterator[Callable[[str], Beside]]:
    """Puts a platform's hook, and the witnesses before and after ours, onto both hosts."""
    written: list[Path] = []

    def do(name: str) -> Beside:
        texts = {"qemu": (PEERS / f"{name}.py").read_text()}
        texts["qemu.d/10-before"] = WITNESS.format(name="before")
        texts["qemu.d/90-after"] = WITNESS.format(name="after")
        for host in pair.a, pair.b:
            for place, text in texts.items():
                written.append(host.hooks / place)
                put(host.hooks / place, text)
            host.reload()
        peer = NAMED[name]
        present(pair.b, peer.device, CONFIG)
        return Beside(pair, name, peer)

    yield do
    for path in written:
        path.unlink()
    for host in pair.a, pair.b:
        host.path(MARKER).unlink(missing_ok=True)
        for path in host.log.glob("seen-*"):
            path.unlink()
        host.reload()


def present(host: Host, name: str, config: bytes) -> None:
    """As :meth:`Pair.present`, for an mdev of this file's own, too."""
    host.set_config(name, config)
    if name == THERE:
        host.path(f"/var/lib/vfio-preflight/states/{name}.bin").write_bytes(config)


@pytest.fixture(params=NAMED)
def beside(request: pytest.FixtureRequest, install: Callable[[str], Beside]) -> Beside:
    return install(request.param)


def test_both_do_their_work(beside: Beside) -> None:
    guest = beside.start()
    assert beside.migrate(guest) == ""
    assert beside.pair.where(guest) == MIGRATED
    # Theirs came first, and what they printed is what ours got.
    assert beside.peer.marks in beside.seen("before") and "<report " not in beside.seen("before")
    report = beside.pair.annotation(guest)
    assert report.get("verdict") == "pass"
    # libvirt took what ours printed, in which their changes still are.
    arrived = beside.pair.b.virsh("dumpxml", guest).stdout
    assert beside.peer.stays in arrived and "<report " in beside.seen("after")
    # KubeVirt's is told on the source that the guest has left.
    assert beside.pair.a.path(MARKER).exists() is (beside.peer is KUBEVIRT)


def test_refusal_of_ours(beside: Beside) -> None:
    guest = beside.start()
    present(beside.pair.b, beside.peer.device, OTHER_VSC)
    said = beside.migrate(guest)
    assert BLOCKED in said and "offset 0x63: source 01, destination 51" in said
    assert beside.pair.where(guest) == STAYED
    # The device is the one that theirs named.
    assert beside.peer.device in said


def test_mend_of_ours(beside: Beside) -> None:
    guest = beside.start()
    present(beside.pair.b, beside.peer.device, OTHER_VSC)
    beside.pair.configure("[policy]\nfail = mend\nvsc-tolerant = 10de:*\n")
    assert beside.migrate(guest) == ""
    assert beside.pair.where(guest) == MIGRATED
    (device,) = [
        json.loads(argument)
        for argument in beside.pair.b.qemu_arguments(guest)
        if argument.startswith('{"driver":"vfio-pci"')
    ]
    assert device["skip-vsc-check"] is True
    assert beside.peer.stays in beside.pair.b.virsh("dumpxml", guest).stdout


def test_restore_beside_vdsms(install: Callable[[str], Beside]) -> None:
    """Theirs prints the XML at ``restore begin``, too; a refusal still loses nothing."""
    beside = install("vdsm")
    a, guest = beside.pair.a, beside.start()
    assert a.virsh("managedsave", guest).returncode == 0
    present(a, VF, OTHER_VSC)
    assert "vfio-preflight: restore blocked: hostdev0" in a.virsh("start", guest).stderr
    assert (a.var_lib / f"qemu/save/{guest}.save").exists()
    present(a, VF, CONFIG)
    assert a.virsh("start", guest).returncode == 0
    assert a.state(guest) == "running"


# --- what is special about one of them ------------------------------------------------------------


def test_kubevirt_refuses(install: Callable[[str], Beside]) -> None:
    """Its failure is told in its own words, whatever ours says."""
    beside = install("kubevirt")
    guest = beside.start()
    said = beside.pair.migrate(guest).stderr
    assert "Hook failed: [Errno 2]" in said and "vfio-preflight" not in said
    assert beside.pair.where(guest) == STAYED


def test_dry_run_uses_kubevirts_server_up(install: Callable[[str], Beside]) -> None:
    """Why the documentation has KubeVirt asked by its facts: --to calls theirs, too."""
    beside = install("kubevirt")
    guest = beside.start()
    command = ["vfio-preflight", "check", guest, "--to", beside.pair.b.uri]
    with beside.server():
        # Only the first part of the first answer is about KubeVirt's XML: it is asked for again,
        # and what comes then is about the guest as it was sent.
        beside.pair.a.run(command)
        assert not beside.pair.b.path(SOCKET).exists()
        assert "Hook failed: " in beside.pair.migrate(guest).stderr
    assert beside.pair.where(guest) == STAYED


def test_in_cloudstacks_own_directory_a_refusal_is_lost(install: Callable[[str], Beside]) -> None:
    """Why the documentation says not to put the hook there: the XML is gone, and so is the end."""
    beside = install("cloudstack")
    b = beside.pair.b
    ours, custom = b.hooks / "qemu.d/50-vfio-preflight", b.hooks / "custom"
    guest = beside.start()
    present(b, VF, OTHER_VSC)
    custom.mkdir()
    ours.rename(custom / "all_vfio-preflight")
    try:
        said = beside.migrate(guest)
        assert "vfio-preflight" not in said and "load of migration failed" in said
        assert "all_vfio-preflight: 0 " in (b.log / "qemu-hook.log").read_text()
    finally:
        (custom / "all_vfio-preflight").rename(ours)
        custom.rmdir()

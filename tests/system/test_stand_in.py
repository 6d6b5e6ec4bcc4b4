"""The dry run of guests that have all sorts of things beside their VFIO devices.

libvirt itself defines guest and stand-in. What the stand-in leaves out, nothing in it may refer to.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import guest_xml, hostdev_mdev, hostdev_pci

from .pair import MDEV, OLD, VF, Pair

ON_BUS_1 = "<address type='pci' bus='1' slot='1' function='0'/>"
ON_BUS_2 = "<address type='pci' bus='2' slot='0' function='0'/>"
EXPANDER = (
    "<controller type='pci' index='1' model='{}'><target busNr='180'><node>0</node></target>"
    "</controller>"
)
IOTHREAD = (
    "<controller type='scsi' index='0' model='virtio-scsi'>"
    "<driver iothread='1' queues='2'/></controller>"
)
VHOST_USER = (
    "<interface type='vhostuser'><mac address='52:54:00:00:00:01'/>"
    "<source type='unix' path='/run/vhost' mode='client'/><model type='virtio'/></interface>"
)
TEAMING = (
    "<interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='br0'/>"
    "<model type='virtio'/><teaming type='persistent'/><alias name='ua-backup'/></interface>"
)
BEHIND_A_HUB = (
    "<controller type='usb' index='0' model='qemu-xhci'/>"
    "<hub type='usb'><address type='usb' bus='0' port='1'/></hub>"
    "<hostdev mode='subsystem' type='usb'>"
    "<source><vendor id='0x1234'/><product id='0xbeef'/></source>"
    "<address type='usb' bus='0' port='1.1'/></hostdev>"
)
SCSI_HOSTDEV = (
    "<hostdev mode='subsystem' type='scsi'>"
    "<source><adapter name='scsi_host0'/><address bus='0' target='0' unit='0'/></source>"
    "<address type='drive' controller='0' bus='0' target='0' unit='3'/></hostdev>"
)
DISPLAY = hostdev_mdev(MDEV).replace("'vfio-pci'", "'vfio-pci' display='on' ramfb='on'")
VNC = "<graphics type='vnc' passwd='s3cret'/>"
ROOT_PORT = (
    "<controller type='pci' index='2' model='pcie-root-port'>"
    "<address type='pci' bus='1' slot='0'/></controller>"
)
NETWORK = "<interface type='network'><source network='x' portgroup='y'/></interface>"
# Each beside a device for which it matters, or might.
BESIDE = {
    "display": [DISPLAY, VNC, "<graphics type='egl-headless'/>"],
    "pcie-expander": [EXPANDER.format("pcie-expander-bus"), ROOT_PORT, hostdev_pci(VF, ON_BUS_2)],
    "iothread": [IOTHREAD, hostdev_pci(VF)],
    "vhost-user": [VHOST_USER, hostdev_pci(VF)],
    "teaming": [TEAMING, hostdev_pci(VF, "<teaming type='transient' persistent='ua-backup'/>")],
    "usb": [BEHIND_A_HUB, hostdev_pci(VF)],
    "scsi": [IOTHREAD, SCSI_HOSTDEV, hostdev_pci(VF)],
    "network": [NETWORK, hostdev_pci(VF)],
}
# What a guest may have that is none of the dry run's business.
RICH = """
<maxMemory slots='4' unit='MiB'>512</maxMemory>
<iothreads>2</iothreads>
<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
<cputune><vcpupin vcpu='0' cpuset='0'/><emulatorpin cpuset='0'/><iothreadpin iothread='1'
  cpuset='0'/></cputune>
<numatune><memory mode='strict' nodeset='0'/><memnode cellid='0' mode='strict' nodeset='0'/>
</numatune>
<cpu mode='custom'><model>qemu64</model>
  <numa><cell id='0' cpus='0' memory='32' unit='MiB' memAccess='shared'/></numa></cpu>
<clock offset='utc'><timer name='hpet' present='no'/></clock>
<pm><suspend-to-mem enabled='no'/></pm>
<sysinfo type='smbios'><system><entry name='serial'>x</entry></system></sysinfo>
<resource><partition>/machine</partition></resource>
"""
RICH_DEVICES = [
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2' iothread='2'/>"
    "<source file='/none.qcow2'/><target dev='vda' bus='virtio'/><boot order='1'/></disk>",
    "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>",
    "<filesystem type='mount'><driver type='virtiofs'/><source dir='/tmp'/>"
    "<target dir='share'/></filesystem>",
    "<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>",
    "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
    "<serial type='pty'/>",
    "<console type='pty'><target type='virtio'/></console>",
    "<input type='tablet' bus='usb'/>",
    "<controller type='usb' index='0' model='qemu-xhci'/>",
    VNC,
    "<sound model='ich9'/>",
    "<video><model type='virtio'/></video>",
    "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>",
    "<watchdog model='itco' action='reset'/>",
    "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    "<panic model='pvpanic'/>",
    "<shmem name='shared'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>",
    "<vsock model='virtio'><cid auto='yes'/></vsock>",
    "<iommu model='intel'><driver intremap='on' caching_mode='on'/></iommu>",
]


def guest_with(devices: list[str], machine: str = OLD) -> str:
    """A guest that has ``devices`` and all that :data:`RICH` sets."""
    xml = guest_xml("stood-in-for", machine, devices)
    return xml.replace("<controller type='usb' model='none'/>", "").replace(
        "</vcpu>", f"</vcpu>{RICH}"
    )


def assert_answered(pair: Pair, xml: str, host: str) -> None:
    """libvirt defines the guest; the hook on b judges it, and knows what its device presents."""
    guest = pair.a.define(xml)
    answer = pair.check(guest)
    (device,) = answer.report["devices"]
    assert device["host"] == host
    assert device["destination"], answer.report
    assert pair.a.virsh("list", "--all", "--name").stdout.split() == [guest]


@pytest.mark.parametrize("what", BESIDE)
def test_dry_run_beside(pair: Pair, what: str) -> None:
    assert_answered(pair, guest_with(BESIDE[what]), MDEV if what == "display" else VF)


def test_dry_run_behind_a_conventional_expander(pair: Pair) -> None:
    devices = [EXPANDER.format("pci-expander-bus"), hostdev_pci(VF, ON_BUS_1)]
    assert_answered(pair, guest_with(devices, "pc-i440fx-9.0"), VF)


def test_dry_run_of_a_rich_guest(pair: Pair) -> None:
    devices = [*RICH_DEVICES, VHOST_USER, IOTHREAD, hostdev_pci(VF)]
    assert_answered(pair, guest_with(devices), VF)


@pytest.fixture
def slow(pair: Pair) -> Iterator[None]:
    """Another hook on b that takes its time."""
    path = pair.b.hooks / "qemu.d/10-slow"
    path.write_text("#!/bin/sh\n[ $2 = migrate ] && sleep 2\nexit 0\n")
    path.chmod(0o755)
    yield
    path.unlink()


@pytest.mark.parametrize("signal", ["TERM", "HUP", "INT"])
def test_interrupted_dry_run_leaves_nothing_behind(pair: Pair, slow: None, signal: str) -> None:
    guest = pair.a.define(guest_xml("impatient", OLD, [hostdev_pci(VF)]))
    command = ["timeout", f"--signal={signal}", "1", "vfio-preflight", "check", guest, "--to"]
    assert pair.a.run([*command, pair.b.uri]).returncode == 124
    assert pair.a.virsh("list", "--all", "--name").stdout.split() == [guest]
    assert pair.b.virsh("list", "--all", "--name").stdout.split() == []

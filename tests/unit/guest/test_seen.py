"""Devices of the host that are seen and not judged."""

from __future__ import annotations

import pytest

from lab.guests import as_json, guest_xml, hostdev_pci, interface_hostdev
from vfio_preflight.guest.domain import GuestDevice, parse_domain, read_guest
from vfio_preflight.guest.unjudged import Unjudged
from vfio_preflight.guest.viommu import read_viommu

MDEV = "5c9a3ab2-63b6-4d2b-9d6f-2a0e3c5f7d11"
PCI = hostdev_pci("0000:06:00.4", "<address type='pci' domain='0' bus='0' slot='5' function='0'/>")


def mdev(model: str = "", extra: str = "") -> str:
    return (
        f"<hostdev mode='subsystem' type='mdev' {model}>"
        f"<source><address uuid='{MDEV}'/></source>{extra}</hostdev>"
    )


def hostdev(kind: str, source: str) -> str:
    return f"<hostdev mode='subsystem' type='{kind}'>{source}</hostdev>"


def seen(*devices: str, commandline: tuple[str, ...] = ()) -> tuple[Unjudged, ...]:
    xml = guest_xml("g1", devices=devices, commandline=commandline)
    return read_guest(parse_domain(xml.encode())).unjudged


def one(*devices: str, commandline: tuple[str, ...] = ()) -> Unjudged:
    (found,) = seen(*devices, commandline=commandline)
    return found


USB = hostdev("usb", "<source><vendor id='0x0529'/><product id='0x0001'/></source>")
USB_BY_ADDRESS = hostdev("usb", "<source><address bus='1' device='5'/></source>")
SCSI = hostdev(
    "scsi",
    "<source><adapter name='scsi_host2'/><address bus='0' target='3' unit='1'/></source>",
)
ISCSI = hostdev("scsi", "<source protocol='iscsi' name='iqn.2014-08.org.example:t1'/>")
VHOST_SCSI = hostdev("scsi_host", "<source protocol='vhost' wwpn='naa.500140512345678a'/>")
NVME = (
    "<disk type='nvme' device='disk'><source type='pci' namespace='1'>"
    "<address domain='0' bus='0x41' slot='0' function='0'/></source>"
    "<target dev='vdb' bus='virtio'/></disk>"
)
UNASSIGNED = hostdev_pci("0000:06:00.1", "<address type='unassigned'/>")


@pytest.mark.parametrize(
    ("element", "kind", "host", "refused"),
    [
        (mdev(), "mdev-without-model", MDEV, True),
        (mdev("model=''"), "mdev-without-model", MDEV, True),
        (mdev("model='vfio-ap'"), "vfio-ap", MDEV, True),
        (mdev("model='vfio-ccw'"), "vfio-ccw", MDEV, True),
        (mdev("model='vfio-cdx'"), "mdev-of-other-model", MDEV, False),
        (mdev("model='vfio-pci'", "<address type='unassigned'/>"), "unassigned", MDEV, True),
        (UNASSIGNED, "unassigned", "0000:06:00.1", False),
        (USB, "usb", "0529:0001", False),
        (USB_BY_ADDRESS, "usb", "bus 1 device 5", False),
        (SCSI, "scsi", "scsi_host2 bus 0 target 3 unit 1", False),
        (ISCSI, "scsi", "iqn.2014-08.org.example:t1", False),
        (VHOST_SCSI, "scsi-host", "naa.500140512345678a", True),
        (hostdev("cxl", "<source/>"), "other-hostdev", "", False),
        (
            "<hostdev mode='capabilities' type='storage'>"
            "<source><block>/dev/sdf1</block></source></hostdev>",
            "capabilities",
            "/dev/sdf1",
            True,
        ),
        (
            "<interface type='hostdev'><source><address type='usb' bus='1' device='2'/></source>"
            "</interface>",
            "usb",
            "bus 1 device 2",
            False,
        ),
        ("<interface type='vdpa'><source dev='/dev/vhost-vdpa-3'/></interface>", "vdpa",
         "/dev/vhost-vdpa-3", False),
        (NVME, "nvme-disk", "0000:41:00.0", False),
        (
            "<disk type='vhostvdpa'><source dev='/dev/vhost-vdpa-1'/><target dev='vda'/></disk>",
            "vdpa-disk",
            "/dev/vhost-vdpa-1",
            False,
        ),
        ("<shmem name='ring' role='master'><model type='ivshmem-plain'/></shmem>", "shmem", "ring",
         False),
        ("<shmem name='ring' role='peer'><model type='ivshmem-plain'/></shmem>", "shmem", "ring",
         True),
        ("<shmem name='ring'><model type='ivshmem-plain'/></shmem>", "shmem", "ring", True),
        (
            "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend>"
            "</tpm>",
            "tpm-passthrough",
            "/dev/tpm0",
            False,
        ),
    ],
)  # fmt: skip
def test_element(element: str, kind: str, host: str, refused: bool) -> None:
    found = one(element)
    assert (found.kind.name, found.host, bool(found.kind.refusal)) == (kind, host, refused)
    assert found.kind.what and found.kind.reason


@pytest.mark.parametrize(
    ("argument", "kind", "host", "refused"),
    [
        ("vfio-ap,id=ap0,sysfsdev=/sys/x/y", "vfio-ap", "/sys/x/y", True),
        ("vfio-ccw,sysfsdev=/sys/x/y", "vfio-ccw", "/sys/x/y", True),
        ("vfio-amd-xgbe,host=e0900000.xgmac", "vfio-platform", "e0900000.xgmac", True),
        ("vfio-platform,host=a", "vfio-platform", "a", True),
        ('{"driver": "vfio-user-pci", "id": "u"}', "vfio-user", "", False),
        ("vfio-cdx,host=a", "other-vfio", "a", False),
        ("usb-host,hostdevice=/dev/bus/usb/001/005", "usb", "/dev/bus/usb/001/005", False),
        ("scsi-block,drive=d", "scsi", "d", False),
        ("vhost-scsi-pci,wwpn=naa.1", "scsi-host", "naa.1", True),
        ("vhost-scsi-pci,wwpn=naa.1,migratable=on", "scsi-host", "naa.1", False),
        ("vhost-vdpa-device-pci,vhostdev=/dev/vhost-vdpa-0", "vdpa-device", "/dev/vhost-vdpa-0",
         False),
        ("ivshmem-plain,memdev=m", "shmem", "m", True),
        ("ivshmem-plain,memdev=m,master=on", "shmem", "m", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("json_form", [False, True])
def test_device_of_the_command_line(
    argument: str, kind: str, host: str, refused: bool, json_form: bool
) -> None:
    option = ("-device", argument)
    if json_form and not argument.startswith("{"):
        option = tuple(as_json(option))  # type: ignore[assignment]
    found = one(commandline=option)
    assert (found.kind.name, found.host, bool(found.kind.refusal)) == (kind, host, refused)


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [
        ("-netdev", "vhost-vdpa,id=n,vhostdev=/dev/vhost-vdpa-0", "vdpa"),
        ("-netdev", '{"type": "vhost-vdpa", "id": "n"}', "vdpa"),
        ("--netdev", "type=vhost-vdpa,id=n", "vdpa"),
        ("-blockdev", "driver=nvme,node-name=d,device=0000:41:00.0,namespace=1", "nvme-disk"),
        ("-blockdev", '{"driver":"raw","file":{"driver":"nvme","namespace":1}}', "nvme-disk"),
        ("-blockdev", "driver=nvme-io_uring,path=/dev/ng0n1", "nvme-disk"),
        ("-blockdev", "driver=virtio-blk-vfio-pci,path=/sys/x", "nvme-disk"),
        ("-blockdev", "driver=virtio-blk-vhost-vdpa,path=/dev/vhost-vdpa-1", "vdpa-disk"),
        ("-drive", "file=nvme://0000:41:00.0/1,if=none", "nvme-disk"),
        ("-blockdev", "driver=file,filename=/srv/nvme/a.raw", ""),
        ("-netdev", "tap,id=vhost-vdpa", ""),
        ("-device", "nvme,drive=d", ""),
        ("-append", "vhost-vdpa", ""),
    ],
)
def test_back_end_of_the_command_line(option: str, value: str, kind: str) -> None:
    assert [device.kind.name for device in seen(commandline=(option, value))] == [kind] * bool(kind)


def test_judged_devices_are_not_among_them() -> None:
    devices = (PCI, mdev("model='vfio-pci'"), interface_hostdev("0000:06:00.5"))
    assert seen(*devices, commandline=("-device", "vfio-pci,host=06:00.7")) == ()


def test_ordinary_guest_has_none() -> None:
    assert seen("<interface type='network'><source network='default'/></interface>") == ()


def test_aliases_are_those_that_libvirt_will_assign() -> None:
    named = USB.replace("<source>", "<alias name='ua-dongle'/><source>")
    found = seen(PCI, USB, named, SCSI)
    assert [device.alias for device in found] == ["hostdev1", "ua-dongle", "hostdev2"]


@pytest.mark.parametrize("option", ["-set", "-global"])
def test_vhost_scsi_that_is_said_to_be_migratable(option: str) -> None:
    found = one(VHOST_SCSI, commandline=(option, "device.hostdev0.migratable=on"))
    assert not found.kind.refusal and "migratable" in found.kind.known


def test_foreign_text_is_made_printable_and_short() -> None:
    found = one(f"<shmem name='a\u202e{'b' * 500}'/>")
    assert found.host.isprintable() and len(found.host) < 100


def test_device_of_the_host_without_an_address() -> None:
    assert one("<hostdev type='usb'/>").host == ""
    source = "<source><address slot='x'/></source>"
    assert one(f"<hostdev type='pci'>{source}<address type='unassigned'/></hostdev>").host == ""


def devices_of(*devices: str) -> tuple[GuestDevice, ...]:
    return read_guest(parse_domain(guest_xml("g1", devices=devices).encode())).devices


def test_judged_ones_stay() -> None:
    assert [device.alias for device in devices_of(USB, PCI)] == ["hostdev1"]


@pytest.mark.parametrize(
    ("option", "value", "model"),
    [
        ("-machine", "iommu=smmuv3", "smmuv3"),
        ("-M", "virt,gic-version=3,iommu=smmuv3", "smmuv3"),
        ("-machine", "q35,iommu=on", "intel"),
        ("-machine", "iommu=none", ""),
        ("-device", "intel-iommu,intremap=on", "intel"),
        ("-device", '{"driver":"virtio-iommu-pci"}', "virtio"),
        ("-device", "riscv-iommu-pci", "riscv"),
    ],
)
def test_virtual_iommu_of_the_command_line(option: str, value: str, model: str) -> None:
    root = parse_domain(guest_xml("g1", commandline=(option, value)).encode())
    assert read_guest(root).viommu.model == model
    assert read_viommu(root, []).model == (model if option != "-device" else "")

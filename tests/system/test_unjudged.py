"""What libvirt itself says of devices that are not judged, and the dry run of guests with them."""

from __future__ import annotations

import pytest

from lab import guest_xml, hostdev_pci
from vfio_preflight.guest.unjudged import CAPABILITIES, NO_MODEL, UNASSIGNED_MDEV, Kind

from .pair import MDEV, OLD, VF, Pair

USB = (
    "<controller type='usb' index='0' model='qemu-xhci'/>"
    "<hostdev mode='subsystem' type='usb'>"
    "<source><vendor id='0x0529'/><product id='0x0001'/></source></hostdev>"
)
SHMEM = "<shmem name='ring'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>"
SOURCE = f"<source><address uuid='{MDEV}'/></source>"
REFUSED = {
    "no-model": (NO_MODEL, f"<hostdev mode='subsystem' type='mdev'>{SOURCE}</hostdev>"),
    "capabilities": (
        CAPABILITIES,
        "<hostdev mode='capabilities' type='misc'>"
        "<source><char>/dev/input/event3</char></source></hostdev>",
    ),
    "unassigned": (
        UNASSIGNED_MDEV,
        f"<hostdev mode='subsystem' type='mdev' model='vfio-pci'>{SOURCE}"
        "<address type='unassigned'/></hostdev>",
    ),
}


def xml_of(*devices: str) -> str:
    return guest_xml("unjudged", OLD, devices).replace("<controller type='usb' model='none'/>", "")


@pytest.mark.parametrize("what", REFUSED)
def test_libvirt_refuses_in_the_words_that_are_told(pair: Pair, what: str) -> None:
    kind, element = REFUSED[what]
    define = ["/usr/bin/virsh", "define", "/dev/stdin"]
    assert quoted(kind) in pair.a.run(define, stdin=xml_of(element)).stderr


def quoted(kind: Kind) -> str:
    return kind.refusal.split('"')[1]


def test_libvirt_refuses_a_foreign_architecture(pair: Pair) -> None:
    xml = xml_of().replace("arch='x86_64'", "arch='aarch64'")
    result = pair.a.run(["/usr/bin/virsh", "define", "/dev/stdin"], stdin=xml)
    assert "does not support arch 'aarch64'" in result.stderr


def test_libvirt_names_a_usb_device_by_its_place(pair: Pair) -> None:
    """QEMU does not look for such a device again after a migration."""
    element = USB.replace(
        "<vendor id='0x0529'/><product id='0x0001'/>", "<address bus='1' device='5'/>"
    )
    convert = ["/usr/bin/virsh", "domxml-to-native", "qemu-argv", "/dev/stdin"]
    said = pair.a.run(convert, stdin=xml_of(element)).stdout
    assert '"hostdevice":"/dev/bus/usb/001/005"' in said


def test_dry_run_of_nothing_to_judge(pair: Pair) -> None:
    guest = pair.a.define(xml_of(USB))
    answer = pair.check(guest)
    assert (answer.status, answer.report["verdict"], answer.report["devices"]) == (3, "unknown", [])
    assert [device["kind"] for device in answer.report["unjudged"]] == ["usb"]


def test_dry_run_beside_what_is_not_judged(pair: Pair) -> None:
    guest = pair.a.define(xml_of(USB, SHMEM, hostdev_pci(VF)))
    answer = pair.check(guest)
    assert len(answer.report["devices"]) == 1
    assert [device["kind"] for device in answer.report["unjudged"]] == ["usb", "shmem"]
    assert "unjudged-refused" in [finding["code"] for finding in answer.report["findings"]]

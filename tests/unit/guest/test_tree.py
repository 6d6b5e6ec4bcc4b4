"""The digest of a guest's machine."""

from __future__ import annotations

import pytest

from unit.makers import KEY, differing, make_state
from vfio_preflight.guest.tree import tree_digest
from vfio_preflight.guest.xml import parse_domain

XML = """
<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>g</name><uuid>11111111-2222-3333-4444-555555555555</uuid>
  <metadata><x/></metadata><memory unit='KiB'>65536</memory>
  <vcpu>2</vcpu>
  <os><type machine='pc-q35-9.0'>hvm</type><loader type='pflash'>/usr/share/OVMF_CODE.fd</loader>
    <nvram>/var/lib/g.fd</nvram></os>
  <features><acpi/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file'><driver name='qemu' type='raw'/><source file='/a'/>
      <target dev='vda' bus='virtio'/><address type='pci' slot='0x01'/></disk>
    <interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/>
      <target dev='vnet0'/><model type='e1000e'/><rom file='/usr/share/x.rom'/></interface>
    <!-- a comment -->
  </devices>
  <qemu:commandline><qemu:arg value='-global'/><qemu:arg value='x.y=1'/></qemu:commandline>
</domain>
"""


def digest(old: str = "", new: str = "") -> str:
    assert not old or old in XML
    changed = XML.replace(old, new) if old else XML
    return tree_digest(parse_domain(changed.encode()), {KEY: make_state()})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<name>g</name>", "<name>h</name>"),
        ("file='/a'", "file='/b'"),
        ("bridge='br0'", "bridge='br1'"),
        ("dev='vnet0'", "dev='vnet7'"),
        ("52:54:00:00:00:01", "52:54:00:00:00:02"),
        ("65536", "131072"),
        ("<x/>", "<y/>"),
        ("/var/lib/g.fd", "/var/lib/h.fd"),
        ("<!-- a comment -->", ""),
        ("  <devices>", "<devices>"),
    ],
)
def test_what_is_not_of_the_machine(old: str, new: str) -> None:
    assert digest(old, new) == digest()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pc-q35-9.0", "pc-q35-9.1"),
        ("<vcpu>2", "<vcpu>3"),
        ("<acpi/>", "<acpi/><apic/>"),
        ("e1000e", "virtio"),
        ("slot='0x01'", "slot='0x02'"),
        ("bus='virtio'", "bus='sata'"),
        ("/usr/share/x.rom", "/usr/share/y.rom"),
        ("OVMF_CODE.fd", "OVMF_CODE_4M.fd"),
        ("x.y=1", "x.y=2"),
        ("</disk>", "</disk><rng model='virtio'/>"),
    ],
)
def test_what_is_of_the_machine(old: str, new: str) -> None:
    assert digest(old, new) != digest()


def test_states_of_its_devices() -> None:
    root = parse_domain(XML.encode())
    digests = {
        tree_digest(root, states)
        for states in (
            {},
            {KEY: make_state()},
            {KEY: differing(0x63)},
            {KEY: make_state()._replace(atomics=3)},
            {"0000:07:00.0": make_state()},
        )
    }
    assert len(digests) == 5
    # Where a state was read is not what it is.
    moved = make_state()._replace(origin="elsewhere", evidence="vfio")
    assert tree_digest(root, {KEY: moved}) == digest()

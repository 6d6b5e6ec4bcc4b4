"""Two builds of QEMU on two hosts: what the record says of the source's, and a destination whose
option ROMs are of another size."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lxml import etree

from lab import FakeDevice, Lab, guest_xml, hostdev_pci
from lab.guests import EMULATOR
from lab.host import Host

from .pair import CONFIG, NAMESPACE, OLD, STAYED, VF, Pair

ROMS = "/usr/lib/other-roms"
REAL = f"{EMULATOR}.real"
# A build that looks for its firmware elsewhere first, as a package of another vendor's would.
WRAPPER = f'#!/bin/sh\nexec {REAL} -L {ROMS} "$@"\n'
SIZE = 300_000
INTERFACE = "<interface type='user'><model type='virtio'/></interface>"
LINE = "virtio-net-pci.rom: 0x40000 != 0x80000"


def with_other_roms(host: Host) -> None:
    host.path(ROMS).mkdir()
    rom = host.path(EMULATOR).parents[1] / "lib/ipxe/qemu/efi-virtio.rom"
    host.path(f"{ROMS}/efi-virtio.rom").write_bytes(rom.read_bytes().ljust(SIZE, b"\0"))
    host.path(EMULATOR).rename(host.path(REAL))
    host.path(EMULATOR).write_text(WRAPPER)
    host.path(EMULATOR).chmod(0o755)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with Lab(tmp_path_factory.mktemp("drift")) as lab:
        pair = Pair(lab)
        with_other_roms(lab.b)
        for host in lab.a, lab.b:
            host.add_device(FakeDevice(VF, "vf", CONFIG))
            pair.install(host)
        yield pair


@pytest.fixture
def guest(hosts: Pair) -> Iterator[str]:
    """A running guest with a network card, recorded."""
    name = hosts.start(guest_xml("d1", OLD, [hostdev_pci(VF), INTERFACE]))
    yield name
    for host in hosts.a, hosts.b:
        host.virsh("destroy", name)
        host.virsh("undefine", name)
    hosts.configure("")


def recorded(pair: Pair, guest: str) -> etree._Element:
    """What the record has of the guest's QEMU."""
    root = etree.fromstring(pair.a.virsh("dumpxml", guest).stdout)
    (found,) = root.iterfind(f"metadata/{NAMESPACE}preflight/{NAMESPACE}record/{NAMESPACE}emulator")
    return found


def test_record_has_the_build_and_stays_small(hosts: Pair, guest: str) -> None:
    found = recorded(hosts, guest)
    assert found.get("machine") == OLD
    assert len(etree.tostring(found)) < 2048
    # A second time nothing changes.
    assert hosts.record(guest).returncode == 0
    assert etree.tostring(recorded(hosts, guest)) == etree.tostring(found)


def test_option_rom_of_another_size_is_refused_before_anything_moves(
    hosts: Pair, guest: str
) -> None:
    asked = hosts.check(guest)
    assert asked.status == 1
    (finding,) = [each for each in asked.report["findings"] if each["verdict"] == "fail"]
    assert finding["code"] == "rom-size-differs"
    assert LINE in finding["text"]

    result = hosts.migrate(guest)
    assert result.returncode != 0
    assert "the option ROM of virtio-net-pci takes 262144 bytes on the source" in result.stderr
    assert hosts.where(guest) == STAYED


def test_it_is_what_qemu_says(hosts: Pair, guest: str) -> None:
    hosts.configure("[policy]\nfail = allow\n")
    result = hosts.migrate(guest)
    assert result.returncode != 0
    assert hosts.where(guest) == STAYED
    log = hosts.b.path(f"/var/log/libvirt/qemu/{guest}.log").read_text()
    assert "Size mismatch: 0000:00:0" in log and LINE in log

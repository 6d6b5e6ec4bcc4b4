from __future__ import annotations

import pytest

from lab.guests import AARCH64, EMULATORS, guest_xml, hostdev_pci
from vfio_preflight.guest.domain import parse_domain, read_guest
from vfio_preflight.qemu.model.boards import BOARDS, board_of, canonical, emulators_of


@pytest.mark.parametrize(
    ("machine", "board", "express"),
    [
        ("pc-q35-9.0", "pc-q35", True),
        ("q35", "pc-q35", True),
        ("pc-q35-rhel9.4.0", "pc-q35", True),
        ("pc-q35-noble-v2", "pc-q35", True),
        ("ubuntu-q35", "pc-q35", True),
        ("pc", "pc-i440fx", False),
        ("pc-i440fx-9.0", "pc-i440fx", False),
        ("pc-1.3", "pc-i440fx", False),
        ("ubuntu", "pc-i440fx", False),
        ("isapc", "isapc", False),
        ("microvm", "microvm", True),
        ("virt", "virt", True),
        ("virt-9.0", "virt", True),
        ("virt-rhel9.6.0", "virt", True),
        ("sbsa-ref", "sbsa-ref", True),
        ("pseries-9.0", "pseries", False),
        ("s390-ccw-virtio-9.0", "s390-ccw-virtio", False),
    ],
)
def test_board(machine: str, board: str, express: bool) -> None:
    found = board_of(machine)
    assert found is not None and (found.name, found.express) == (board, express)
    # The guest's placement goes by the same table.
    assert read_guest(parse_domain(guest_xml("g", machine).encode())).express == express


@pytest.mark.parametrize(
    ("address", "placement"),
    [
        ("", "root-port"),  # where libvirt puts it (seen: tests/system/test_arm.py)
        ("<address type='pci' domain='0' bus='0' slot='5' function='0'/>", "root-complex"),
    ],
)
def test_placement_on_virt(address: str, placement: str) -> None:
    xml = guest_xml("g", "virt-9.0", [hostdev_pci("0000:06:00.4", address)], arch=AARCH64)
    guest = read_guest(parse_domain(xml.encode()))
    assert (guest.arch, guest.emulator) == ("aarch64", EMULATORS[AARCH64])
    assert [device.placement for device in guest.devices] == [placement]


@pytest.mark.parametrize("machine", ["", "none", "raspi4b", "virtual", "pcspk", "q35x"])
def test_unknown_family(machine: str) -> None:
    assert board_of(machine) is None


def test_canonical_names() -> None:
    assert [canonical(name) for name in ("q35", "ubuntu", "virt", "x")] == [
        *("pc-q35", "pc-i440fx", "virt", "x"),
    ]


@pytest.mark.parametrize(
    ("machine", "arch", "emulator"),
    [
        ("pc-q35-9.0", "", "x86_64"),
        ("pc-q35-9.0", "aarch64", "x86_64"),
        ("virt-9.0", "", "aarch64"),
        ("virt-9.0", "aarch64", "aarch64"),
        ("virt", "loongarch64", "loongarch64"),
        ("virt", "riscv64", "riscv64"),
        ("virt-9.0", "armv7l", "arm"),
        ("pseries-9.0", "ppc64le", "ppc64"),
    ],
)
def test_board_of_an_architecture(machine: str, arch: str, emulator: str) -> None:
    """Several call their board ``virt``."""
    found = board_of(machine, arch)
    assert found is not None and found.emulators[0] == f"/usr/bin/qemu-system-{emulator}"


@pytest.mark.parametrize(
    ("machine", "first", "last"),
    [
        ("pc-q35-9.0", "/usr/bin/qemu-system-x86_64", "/usr/bin/kvm"),
        ("virt-9.0", "/usr/bin/qemu-system-aarch64", "/usr/libexec/qemu-kvm"),
        ("s390-ccw-virtio-9.0", "/usr/bin/qemu-system-s390x", "/usr/libexec/qemu-kvm"),
    ],
)
def test_emulators_of(machine: str, first: str, last: str) -> None:
    found = emulators_of(machine)
    assert (found[0], found[-1]) == (first, last)
    assert emulators_of("vendor-board-1") == ()


def test_emulators_of_every_architecture_that_calls_its_board_so() -> None:
    assert {f"/usr/bin/qemu-system-{arch}" for arch in ("arm", "loongarch64", "riscv64")} <= {
        *emulators_of("virt")
    }


def test_every_board_has_an_emulator_and_no_name_twice() -> None:
    names = [
        (name, arch)
        for board in BOARDS
        for name in (board.name, *board.aliases)
        for arch in board.target.architectures
    ]
    assert len(set(names)) == len(names)
    assert all(board.emulators for board in BOARDS)


def test_what_is_never_sent_was_not_compared() -> None:
    assert not [board.name for board in BOARDS if board.tried and board.refusal]

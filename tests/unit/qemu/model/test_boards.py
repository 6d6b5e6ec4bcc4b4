from __future__ import annotations

import pytest

from lab.guests import guest_xml
from vfio_preflight.guest.domain import parse_domain, read_guest
from vfio_preflight.qemu.model.boards import BOARDS, board_of, canonical


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


@pytest.mark.parametrize("machine", ["", "none", "raspi4b", "virtual", "pcspk", "q35x"])
def test_unknown_family(machine: str) -> None:
    assert board_of(machine) is None


def test_canonical_names() -> None:
    assert [canonical(name) for name in ("q35", "ubuntu", "virt", "x")] == [
        *("pc-q35", "pc-i440fx", "virt", "x"),
    ]


def test_every_board_has_an_emulator_and_no_name_twice() -> None:
    names = [name for board in BOARDS for name in (board.name, *board.aliases)]
    assert len(set(names)) == len(names)
    assert all(board.emulators for board in BOARDS)

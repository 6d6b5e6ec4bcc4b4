from __future__ import annotations

from lab.configs import make_config
from unit.makers import VSC_BODY, differing, make_state
from vfio_preflight.qemu.model.equivalence import equivalent_to_qemu


def test_bytes_that_qemu_does_not_compare() -> None:
    config = bytearray(make_config())
    config[0x04], config[0x2C] = 0x06, 0xFF  # command, subsystem
    assert equivalent_to_qemu(make_state(), make_state(bytes(config)))


def test_bytes_that_qemu_compares_somewhere() -> None:
    assert not equivalent_to_qemu(make_state(), differing(VSC_BODY))
    assert not equivalent_to_qemu(make_state(), differing(0x84))  # LNKCAP, behind a root port


def test_sizes_and_what_is_not_realised() -> None:
    assert not equivalent_to_qemu(make_state(), make_state(make_config(4096)))
    assert not equivalent_to_qemu(make_state(), make_state(b"\xff" * 256))

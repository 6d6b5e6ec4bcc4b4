"""Dumps of real devices against what VFIO presents of them: the same to QEMU, wherever they are.

What does not hold for VFIO's view against itself, as QEMU refuses some of the devices at some
places, cannot hold for a dump.
"""

from __future__ import annotations

import pytest

from unit.makers import make_device, make_facts, make_guest
from unit.physical import FORMS, NAMES, USES, Real, as_vf, dumped, real, sent, used
from vfio_preflight.host.sources.physical import presented
from vfio_preflight.judge.context import context_of
from vfio_preflight.judge.findings import FAIL, PASS
from vfio_preflight.judge.model import preflight
from vfio_preflight.pci.formats import parse
from vfio_preflight.pci.state import ConfigState
from vfio_preflight.qemu.model.values import VirtualConfig
from vfio_preflight.qemu.model.vfio_pci import realise

PLACES = (
    *(("pc-q35-9.0", place) for place in ("root-port", "root-complex", "conventional")),
    *(("pc-i440fx-9.0", "conventional"), ("pc-q35-10.0", "root-port")),
)
DEVICES = pytest.mark.parametrize("name", NAMES)


def verdict(source: ConfigState, destination: ConfigState, machine: str, place: str) -> str:
    guest = make_guest(make_device(placement=place), machine=machine)
    return preflight(make_facts(source, destination, guest)).devices[0].verdict


def stream_of(device: Real, machine: str, place: str) -> ConfigState | None:
    guest = make_guest(make_device(placement=place), machine=machine)
    environment = context_of(guest, guest.devices[0], None).environment
    virtual = realise(device.vfio, environment._replace(skip_vsc_check=False))
    return sent(virtual, (machine, place)) if isinstance(virtual, VirtualConfig) else None


@DEVICES
@pytest.mark.parametrize("use", USES)
def test_a_dump_is_its_device(name: str, use: str) -> None:
    device = real(name)
    dump = dumped(used(device.physical, use))
    assert dump.evidence == "sysfs"
    for at in PLACES:
        alone = verdict(device.vfio, device.vfio, *at)
        assert verdict(device.vfio, dump, *at) == alone, at
        assert verdict(dump, device.vfio, *at) == alone, at
        stream = stream_of(device, *at)
        assert alone == FAIL if stream is None else verdict(stream, dump, *at) == alone == PASS, at


@DEVICES
def test_two_dumps_of_one_device_are_equal(name: str) -> None:
    physical = real(name).physical
    plain = dumped(physical)
    for use in USES:
        for form in FORMS:
            again = dumped(used(physical, use), form)
            for at in PLACES:
                assert verdict(plain, again, *at) == verdict(plain, plain, *at), (use, form, at)


@DEVICES
def test_a_dump_of_a_vf_is_its_device(name: str) -> None:
    """IDs ffff, no addresses and no types in its BARs: what VFIO shows instead is in no byte."""
    device = real(name)
    config = device.vfio.config
    vfio = device.vfio._replace(config=config[:0x3D] + b"\0" + config[0x3E:])
    dump = presented(parse(as_vf(device.physical), "vf.txt"))
    for at in PLACES:
        alone = verdict(vfio, vfio, *at)
        assert verdict(vfio, dump, *at) == verdict(dump, vfio, *at) == alone, at
        stream = stream_of(Real(device.physical, vfio), *at)
        assert stream is None or verdict(stream, dump, *at) == alone == PASS, at


@DEVICES
def test_what_differs_is_found_still(name: str) -> None:
    """Another revision, and another BAR's type where the dump shows it."""
    device = real(name)
    config = bytearray(device.physical)
    config[0x08] ^= 0x04
    assert verdict(device.vfio, dumped(bytes(config)), "pc-q35-9.0", "root-port") == FAIL
    config = bytearray(device.physical)
    if config[0x10] & 0xF == 0xC:
        config[0x10] &= 0xF7
        assert verdict(device.vfio, dumped(bytes(config)), "pc-q35-9.0", "root-port") == FAIL


@DEVICES
def test_a_dump_of_what_a_dump_came_to_is_the_same(name: str) -> None:
    """VFIO's view may be dumped, too: of a device that a guest was given."""
    once = dumped(real(name).vfio.config)
    assert dumped(once.config).config == once.config

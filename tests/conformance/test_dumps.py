"""Dumps of real devices, in real QEMU: what is settled of them decides nothing there, either."""

from __future__ import annotations

import time

import pytest

from unit.physical import NAMES, as_vf, dumped, real, sent, used
from vfio_preflight.host.sources.physical import presented
from vfio_preflight.judge.undecided import settle
from vfio_preflight.pci.formats import parse
from vfio_preflight.pci.state import ConfigState
from vfio_preflight.qemu.model.values import VirtualConfig
from vfio_preflight.qemu.model.versions import behaviour
from vfio_preflight.qemu.model.vfio_pci import Environment, realise
from vfio_preflight.qemu.trial.setting import Setting
from vfio_preflight.qemu.trial.trial import trial

from .engine import Engine

MACHINE = "pc-q35-9.0"


def outcome(engine: Engine, source: ConfigState, destination: ConfigState) -> tuple[str, str]:
    environment = Environment("root-port", behaviour=behaviour(engine.facts.version))
    source, destination, _ = settle(source, destination)
    result = trial(
        source,
        destination,
        Setting(MACHINE, "vfio-pci", environment, ()),
        engine.receiver.executable,
        deadline=time.monotonic() + 30,
        library=engine.library,
    )
    return result.outcome, result.line


@pytest.mark.parametrize("name", NAMES)
def test_a_dump_is_its_device(name: str, own_engine: Engine) -> None:
    device = real(name)
    alone = outcome(own_engine, device.vfio, device.vfio)
    dump = dumped(used(used(device.physical, "failed"), "asleep"))
    assert outcome(own_engine, device.vfio, dump) == alone
    environment = Environment("root-port", behaviour=behaviour(own_engine.facts.version))
    virtual = realise(device.vfio, environment._replace(skip_vsc_check=False))
    if not isinstance(virtual, VirtualConfig):
        return
    stream = sent(virtual, name)
    # A VF has no interrupt pin: that this device has one would be another matter.
    vf = presented(parse(as_vf(device.physical), name))
    for destination in (dump, vf._replace(config=_pinned(vf.config, device.vfio.config))):
        assert outcome(own_engine, stream, destination) == alone


def _pinned(config: bytes, other: bytes) -> bytes:
    return config[:0x3D] + other[0x3D:0x3E] + config[0x3E:]

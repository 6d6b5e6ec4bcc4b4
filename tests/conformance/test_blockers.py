"""What real QEMU refuses to send, in its own words, against what the check says of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from lab.configs import make_config
from unit.makers import make_context, make_device, make_facts, make_guest
from vfio_preflight.guest.record import RecordEntry
from vfio_preflight.guest.viommu import Viommu
from vfio_preflight.judge.checks.blockers import check_blockers
from vfio_preflight.judge.findings import Finding
from vfio_preflight.pci.state import Bar, ConfigState
from vfio_preflight.qemu.messages.explain import explain
from vfio_preflight.qemu.model.versions import release
from vfio_preflight.qemu.model.vfio_pci import Environment
from vfio_preflight.qemu.trial.workbench import Limits, Setting, arguments, workbench

from .engine import Engine

STATE = ConfigState(make_config(), (Bar(0, 0x4000, "mem32"),), "vfio", "test")
# What a driver offers: VFIO_MIGRATION_* for the made-up device, and in the record's words.
FLAGS = {"none": 0, "stop-copy": 1, "stop-copy p2p": 3}
ONE, TWO = ("stop-copy p2p",), ("stop-copy p2p",) * 2
INTEL = ("-device", "intel-iommu,caching-mode=on")
VIRTIO = ("-device", "virtio-iommu-pci,bus=pcie.0,addr=10")
BYPASS = ("-machine", "default_bus_bypass_iommu=on", *INTEL)
UNTRACKED = {"x-device-dirty-page-tracking": "off"}
VIOMMU = "Migration is currently not supported with vIOMMU enabled"
SEVERAL = "Multiple VFIO devices migration is supported only if all of them support P2P migration"
NO_TRACKING = "VFIO device doesn't support device and IOMMU dirty tracking"


class Made(NamedTuple):
    """A guest: what its devices' drivers offer, its vIOMMU, and the devices' properties."""

    offers: Sequence[str]
    viommu: Viommu = Viommu()
    options: Sequence[str] = ()
    properties: Mapping[str, str] = {}


CASES = [
    (Made(ONE), ""),
    (Made(TWO), ""),
    (Made(ONE, Viommu("intel"), INTEL), VIOMMU),
    (Made(ONE, Viommu("virtio"), VIRTIO), VIOMMU),
    (Made(("stop-copy",)), ""),
    (Made(("stop-copy p2p", "stop-copy")), SEVERAL),
    (Made(("stop-copy", "stop-copy")), SEVERAL),
    (Made(ONE, properties=UNTRACKED), NO_TRACKING),
    (Made(ONE, properties={**UNTRACKED, "enable-migration": "on"}), ""),
]


def real(engine: Engine, made: Made, machine: str = "pc-q35-9.0") -> str:
    """QEMU's answer to ``migrate``, empty if it begins to send; or what it says if it has ended."""
    with workbench(engine.library) as bench:
        setting = Setting(machine, "vfio-pci", Environment("root-port"))
        devices = []
        for number, offers in enumerate(made.offers):
            name = f"0000:01:0{number}.0"
            device = bench.add_device("source", name, STATE, setting, number + 1)
            (Path(device) / "migration").write_text(str(FLAGS[offers]))
            devices.append((device, setting))
        options = arguments(devices, bench.directory)
        # An IOMMU has to be there before the devices that are to be behind it.
        at = options.index("-device")
        options[at:at] = made.options
        for name, value in made.properties.items():
            options += ["-global", f"vfio-pci.{name}={value}"]
        with bench.start(
            engine.receiver.executable, options, "source", Limits(life=60)
        ) as emulator:
            end = time.monotonic() + 30
            if emulator.ask("qmp_capabilities", end) is None:
                return emulator.stderr
            reply = emulator.ask("migrate", end, uri="exec:cat >/dev/null")
            assert reply is not None, emulator.stderr
            return str(reply.get("error", {}).get("desc", ""))


def _findings(made: Made, version: str) -> tuple[Finding, ...]:
    devices = [
        make_device(f"0000:0{n + 1}:00.0", alias=f"hostdev{n}", properties=made.properties)
        for n in range(len(made.offers))
    ]
    guest = make_guest(*devices)._replace(viommu=made.viommu)
    entries = [RecordEntry(STATE, qemu=version, process="p", migration=o) for o in made.offers]
    facts = make_facts(STATE, guest=guest)
    known = [one._replace(entry=entry) for one, entry in zip(facts.devices, entries)]
    contexts = [make_context(guest, device) for device in devices]
    return check_blockers(facts._replace(devices=tuple(known)), contexts)


@pytest.mark.parametrize(("made", "line"), CASES)
def test_refusals(engine: Engine, made: Made, line: str) -> None:
    said = real(engine, made)
    assert said.endswith(line)
    assert bool(said) == bool(line)
    findings = _findings(made, engine.facts.version)
    assert [f'"{line}"' in finding.text for finding in findings] == ([True] if line else [])
    assert not line or next(explain(said)).quote == said


def test_verdict_is_certain_of_the_machines_own(own_engine: Engine) -> None:
    version = own_engine.facts.version
    verdicts = {f.verdict for made, _ in CASES for f in _findings(made, version)}
    assert verdicts == ({"fail"} if release(version) < (10, 1) else {"fail", "unknown"})


def test_bypass(engine: Engine) -> None:
    """A vIOMMU that the devices are not behind refuses nothing; the check is not certain of it."""
    made = Made(ONE, Viommu("intel", "bypass_iommu is mentioned"), BYPASS)
    assert real(engine, made) == ""
    assert [f.verdict for f in _findings(made, engine.facts.version)] == ["unknown"]


def test_viommu_with_a_device_that_tracks_nothing(engine: Engine) -> None:
    """Refused, be it as the device is realised, before 11.0 alone: why a new QEMU is undecided."""
    properties = {**UNTRACKED, "enable-migration": "on"}
    made = Made(ONE, Viommu("intel"), INTEL, properties)
    own = release(engine.facts.version)
    verdicts = [f.verdict for f in _findings(made, engine.facts.version)]
    assert verdicts == ["fail" if own < (10, 1) else "unknown"]
    if own < (11, 0):
        assert VIOMMU in real(engine, made)
    else:
        assert real(engine, made) == ""


def test_driver_without_migration(engine: Engine) -> None:
    """Its words changed by 11.1; both are explained. It has a finding of its own elsewhere."""
    made = Made(("stop-copy", "none"))
    assert next(explain(real(engine, made))).kind == "vfio-not-supported"
    assert _findings(made, engine.facts.version) == ()

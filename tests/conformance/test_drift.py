"""Drift between two real builds, held against other readings of the same QEMUs.

One is of the raw answers over QMP (``rawqmp``); the other asks machines that run for what their
devices really have.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vfio_preflight.qemu.emulator.drift import changes, rom_changes
from vfio_preflight.qemu.emulator.facts import EmulatorError
from vfio_preflight.qemu.emulator.onboard import SWITCHES, onboard
from vfio_preflight.qemu.emulator.roms import ROMS, bar_size
from vfio_preflight.qemu.emulator.sent import describe, pack, unpack
from vfio_preflight.qemu.emulator.typefacts import type_facts
from vfio_preflight.qemu.emulator.types import TypeFacts, effective, normal
from vfio_preflight.qemu.emulator.typesjson import compressed, decompressed

from .engine import Engine
from .rawqmp import INNER, Reading, drift, meaning, qmp
from .twosides import PASS, REFUSED, migrate

MACHINES = [
    *(f"pc-q35-{version}" for version in ("5.2", "6.0", "6.2", "7.2", "8.0", "8.1", "8.2")),
    *(f"pc-q35-{version}" for version in ("9.0", "9.1", "9.2", "10.0")),
    *(f"pc-i440fx-{version}" for version in ("6.2", "9.0", "10.0")),
]
# What a guest of the usual sort names, and in which order libvirt would.
GUEST = (
    *("pcie-root-port", "qemu-xhci", "virtio-serial-pci", "virtio-scsi-pci", "virtio-net-pci"),
    *("virtio-blk-pci", "virtio-balloon-pci", "virtio-rng-pci", "virtio-vga", "e1000e"),
    *("scsi-hd", "scsi-cd", "ide-cd", "isa-serial", "virtserialport", "usb-tablet", "vfio-pci"),
    *("ich9-intel-hda", "hda-duplex", "i6300esb", "tpm-crb", "Skylake-Server-x86_64-cpu"),
)
LIMIT = 2048  # bytes of a record


class Both:
    """A build twice: as the project reads it, and as it is read here."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.facts = type_facts(path, cache_dir=None, deadline=time.monotonic() + 60)
        self.reading = Reading(path)


both = functools.cache(Both)


@pytest.fixture
def builds(pair: Engine) -> tuple[Both, Both]:
    """Source and destination, in either direction."""
    return both(pair.sender.executable.path), both(pair.receiver.executable.path)


def used(facts: TypeFacts, machine: str) -> dict[str, frozenset[str]]:
    board = "pc-q35" if "q35" in machine else "pc-i440fx"
    names = (*GUEST, *onboard(board, True, {}), *onboard(board, False, {}))
    return {name: frozenset() for name in names if facts.has(name)}


def found(
    source: TypeFacts, there: TypeFacts, machine: str, types: dict[str, frozenset[str]]
) -> set[tuple[str, str, Any, Any]]:
    """What the project says, in the form of the independent reading."""
    sent = describe(source, machine, types, {})
    told = set()
    for change in changes(sent, there):
        for qom_type in change.types:
            kind = source.properties(qom_type)[change.property][0]
            sides = (change.source, change.destination)
            one, other = (meaning(kind, each.text) for each in sides)
            told.add((qom_type, change.property, one, other))
    return told


@pytest.mark.parametrize("machine", MACHINES)
def test_as_the_raw_answers_say(builds: tuple[Both, Both], machine: str) -> None:
    """Of every type that there is in both, not only of those that guests have."""
    source, there = builds
    # CPU models have one list of properties, and are a third of all.
    cpus = [name for name in source.reading.defaults if name.endswith("-cpu")]
    types = sorted(source.reading.defaults.keys() - set(cpus[3:]))
    assert len(types) > 300
    ours = found(source.facts, there.facts, machine, dict.fromkeys(types, frozenset()))
    theirs = drift(source.reading, there.reading, machine, types)
    assert ours == theirs


@pytest.mark.parametrize("machine", MACHINES)
def test_by_what_the_record_carries(builds: tuple[Both, Both], machine: str) -> None:
    source, there = builds
    uses = used(source.facts, machine)
    given = {"virtio-net-pci": {"mac", "netdev"}, "pcie-root-port": {"chassis"}}
    sent = describe(source.facts, machine, uses, given)
    packed = pack(sent)
    assert len(packed) < LIMIT - 300, "with its attributes, the record takes too much"
    assert unpack(packed, sent.version, sent.package, machine) == sent
    expected = drift(source.reading, there.reading, machine, sorted(uses))
    assert found(source.facts, there.facts, machine, uses) == expected
    # What a guest without Intel's graphics is told of: nothing.
    assert {name for _, name, _, _ in expected} <= {"x-igd-opregion"}


def test_same_build(builds: tuple[Both, Both]) -> None:
    facts = builds[0].facts
    for machine in MACHINES:
        sent = describe(facts, machine, used(facts, machine), {})
        assert (changes(sent, facts), rom_changes(sent, facts)) == ((), ())


def test_facts_of_another_host(builds: tuple[Both, Both]) -> None:
    text = compressed(builds[0].facts)
    assert decompressed(text) == builds[0].facts
    assert len(text) < 50_000


def test_kept(engine: Engine, tmp_path: Path) -> None:
    """Asked once: no time is left for a second conversation. A wrapper script is asked anew."""
    path = engine.receiver.executable.path
    first = type_facts(path, cache_dir=str(tmp_path), deadline=time.monotonic() + 60)
    if engine.receiver.executable.script:
        with pytest.raises(EmulatorError, match="no time"):
            type_facts(path, cache_dir=str(tmp_path), deadline=0.0)
        return
    begun = time.perf_counter()
    assert type_facts(path, cache_dir=str(tmp_path), deadline=0.0) == first
    print(f"{path}: from the cache in {1000 * (time.perf_counter() - begun):.1f} ms")


# --- machines that run ----------------------------------------------------------------------------

# Where a default only says that nobody chose, realising chooses; and what board or test set.
CHOSEN = re.compile(
    "addr|chassis|chassis_nr|multifunction|disable-legacy|num[-_]queues|vectors|class|msi|romsize"
    "|cyls|heads|secs|(logical|physical)_block_size|xres|yres|cad|index|iobase|irq|unit|lun|nr"
    "|discard_granularity|scsi-id|channel|MCFG|.*-mem-size|.*-id|(min-)?x?level2?|level-func7"
    "|min-level-func7|(guest-)?phys-bits|ucode-rev|address|smm-enabled|page(h)?-base|base|dshift"
    "|base_year"
    "|elcr_(addr|mask)|master|hpet-intcap"
)


def arguments(machine: str) -> list[str]:
    """A machine with many devices, and nothing of the host's."""
    made = ["-machine", f"{machine},accel=tcg,hpet=on", "-m", "64", "-vga", "none"]
    disks = ("virtio-blk-pci", "scsi-hd", "scsi-cd", "ide-cd")
    for number, _ in enumerate(disks):
        made += ["-blockdev", f"null-co,node-name=n{number},size=1048576"]
    ports: tuple[str, ...] = ("virtio-net-pci", "virtio-blk-pci,drive=n0", "virtio-scsi-pci,id=vs")
    ports += ("virtio-serial-pci,id=serial", "virtio-balloon-pci", "virtio-rng-pci", "e1000e")
    ports += ("virtio-gpu-pci", "qemu-xhci,id=usb", "igb", "pcie-pci-bridge,id=bridge")
    for number, name in enumerate(ports):
        slot = f"bus=pcie.0,addr={hex(2 + number // 8)}.{number % 8},multifunction=on"
        made += ["-device", f"pcie-root-port,id=rp{number},chassis={number + 1},{slot}"]
        made += ["-device", f"{name},bus=rp{number}"]
    rest: tuple[str, ...] = (
        "scsi-hd,bus=vs.0,drive=n1",
        "scsi-cd,bus=vs.0,drive=n2",
        "ide-cd,bus=ide.0,drive=n3",
    )
    rest += ("usb-tablet,bus=usb.0", "VGA,bus=pcie.0,addr=1", "isa-serial,chardev=c", "pvpanic")
    rest += ("e1000,bus=bridge,addr=1", "rtl8139,bus=bridge,addr=2", "vmxnet3,bus=bridge,addr=3")
    rest += ("i6300esb,bus=bridge,addr=4", "cirrus-vga,bus=bridge,addr=5")
    made += ["-chardev", "null,id=c"]
    return [*made, *(word for name in rest for word in ("-device", name))]


@pytest.mark.parametrize("machine", ["pc-q35-6.0", "pc-q35-9.0", "pc-q35-10.0"])
def test_as_devices_of_a_running_machine_have_it(engine: Engine, machine: str) -> None:
    path = engine.receiver.executable.path
    facts = type_facts(path, cache_dir=None, deadline=time.monotonic() + 60)
    wrong, compared, by_entry = [], 0, 0
    with qmp(path, *arguments(machine)) as asked:
        for where, qom_type in _objects(asked.ask(
            "human-monitor-command", **{"command-line": "info qom-tree"}
        )):  # fmt: skip
            for name, value in effective(facts, machine, qom_type).items():
                answer = asked.ask("qom-get", path=where, property=name)
                if not isinstance(answer, (str, bool, int)):
                    continue
                compared += 1
                by_entry += bool(value.origin)
                real = normal(facts.properties(qom_type)[name][0], answer)
                # What an entry sets, stays; a default may be a way to say "as it suits".
                if real != value.text and (value.origin or not CHOSEN.fullmatch(name)):
                    wrong.append((qom_type, name, value, real))
    assert wrong == []
    assert compared > 1000
    assert by_entry > {"pc-q35-10.0": -1}.get(machine, 20)


def _objects(tree: str) -> Iterator[tuple[str, str]]:
    """Path and type of every object, of what "info qom-tree" prints."""
    stack: list[str] = []
    for line in tree.splitlines():
        match = re.match(r"( *)/(\S*) \((.*)\)\s*$", line)
        if match:
            stack = [*stack[: len(match[1]) // 2], match[2]]
            yield "/" + "/".join(filter(None, stack)), match[3]


def test_option_roms_of_a_running_machine(engine: Engine) -> None:
    path = engine.receiver.executable.path
    facts = type_facts(path, cache_dir=None, deadline=time.monotonic() + 60)
    seen = set()
    with qmp(path, *arguments("pc-q35-9.0")) as asked:
        for where, qom_type in _objects(asked.ask(
            "human-monitor-command", **{"command-line": "info qom-tree"}
        )):  # fmt: skip
            file = asked.ask("qom-get", path=where, property="romfile")
            if qom_type in ROMS and facts.has(qom_type):
                size = asked.ask("qom-get", path=where, property="romsize")
                assert (file, size) == (ROMS[qom_type], bar_size(facts.roms[file], ""))
                seen.add(qom_type)
            else:
                assert not file or "-pci" not in qom_type, f"{qom_type} takes {file}"
    assert seen >= {"virtio-net-pci", "e1000e", "e1000", "rtl8139", "vmxnet3", "VGA", "cirrus-vga"}


def test_option_rom_of_another_size(engine: Engine, tmp_path: Path) -> None:
    """A build that finds another ROM is predicted to refuse, and does, with the quoted line."""
    tmp_path.chmod(0o755)
    (tmp_path / "efi-virtio.rom").write_bytes(b"\x55\xaa" + bytes(300_000))
    path = engine.receiver.executable.path
    facts = type_facts(path, cache_dir=None, deadline=time.monotonic() + 60)
    machine = "pc-q35-9.0"
    sent = describe(facts, machine, {"virtio-net-pci": ()}, {})
    there = facts._replace(roms={**facts.roms, "efi-virtio.rom": 300_002})
    (rom,) = rom_changes(sent, there)
    assert (rom.source, rom.destination) == (0x40000, 0x80000)
    plain = ["-machine", f"{machine},accel=tcg", "-m", "32", "-device", "virtio-net-pci,addr=3"]
    # Where -L would be looked into depends on how the emulator was built.
    other = [*plain[:-1], f"{plain[-1]},romfile={tmp_path}/efi-virtio.rom"]
    stream = tmp_path / "stream"
    assert migrate((path, plain), (path, plain), stream)[0] == PASS
    outcome, errors = migrate((path, plain), (path, other), stream)
    assert outcome == REFUSED
    assert "Size mismatch: 0000:00:03.0/virtio-net-pci.rom: 0x40000 != 0x80000" in errors


def _bare(path: str, *arguments: str) -> set[str]:
    """The types of all objects of a machine that nothing was added to."""
    with qmp(path, *arguments) as asked:
        tree = asked.ask("human-monitor-command", **{"command-line": "info qom-tree"})
    return {qom_type for _, qom_type in _objects(tree)}


@pytest.mark.parametrize("board", ["pc-q35", "pc-i440fx"])
def test_what_a_board_brings_along(engine: Engine, board: str) -> None:
    path = engine.receiver.executable.path
    facts = type_facts(path, cache_dir=None, deadline=time.monotonic() + 60)
    found = _bare(path, "-machine", f"{board}-9.0,accel=tcg")
    known = onboard(board, False, {})
    cpu = {name for name in found if name.endswith("-cpu")}
    assert {name for name in found if facts.has(name)} - cpu <= known
    # "migration" is no device of the tree, and pflash is only there for UEFI.
    assert {name for name in known if facts.has(name)} - found <= {"migration", "cfi.pflash01"}
    for option, name in SWITCHES.items():
        if facts.has(name) and name in known:
            assert name not in _bare(path, "-machine", f"{board}-9.0,accel=tcg,{option}=off")


def test_what_virt_brings_along(arm_engine: Engine) -> None:
    path = arm_engine.receiver.executable.path
    facts = type_facts(path, cache_dir=None, deadline=time.monotonic() + 60)
    machine = "-machine", "virt-9.0,accel=tcg,gic-version=3", "-cpu", "max"
    found = {name for name in _bare(path, *machine) if facts.has(name)}
    known = onboard("virt", False, {})
    assert {name for name in found if not name.endswith("-cpu")} - known <= {"platform-bus-device"}
    uses: dict[str, frozenset[str]] = dict.fromkeys((*known, "pcie-root-port"), frozenset())
    assert len(pack(describe(facts, "virt-9.0", uses, {}))) < LIMIT - 300


def test_inner_objects_are_known(engine: Engine) -> None:
    """Each device that hands on properties to another object, by what QEMU makes of it."""
    path = engine.receiver.executable.path
    facts = type_facts(path, cache_dir=None, deadline=time.monotonic() + 60)
    for outer, inner in INNER.items():
        assert facts.part(outer) == inner, outer
    assert os.path.exists(path)

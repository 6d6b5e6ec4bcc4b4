"""What a real QEMU says of itself, against what is known of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vfio_preflight.guest.unjudged import PLATFORMS, SHMEM_PEER
from vfio_preflight.osutil.executable import Executable
from vfio_preflight.qemu.emulator import facts as emulator
from vfio_preflight.qemu.emulator.client import Emulator
from vfio_preflight.qemu.emulator.facts import EmulatorError, EmulatorFacts, emulator_facts
from vfio_preflight.qemu.emulator.machines import Property, newest_machine

QEMU = "/usr/bin/qemu-system-x86_64"
SKIP = "skip-vsc-check"


@pytest.fixture(scope="module")
def facts() -> EmulatorFacts:
    if not os.path.exists(QEMU):
        why = f"{QEMU} is missing: install qemu-system-x86"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    return emulator_facts(QEMU, cache_dir=None, deadline=time.monotonic() + 20.0)


def test_version(facts: EmulatorFacts) -> None:
    said = subprocess.run([QEMU, "--version"], check=True, capture_output=True, text=True).stdout
    assert f"version {facts.version} ({facts.package})" in said
    assert facts.compat_props_known
    assert facts.target == "x86_64"


@pytest.mark.parametrize(
    ("role", "refused"), [("", True), (",master=off", True), (",master=on", False)]
)
def test_shared_memory_without_a_role_is_not_sent(role: str, refused: bool) -> None:
    """What ``guest.unjudged`` quotes QEMU with."""
    memory = "memory-backend-ram,id=m,size=4M,share=on"
    arguments = ("-machine", "q35", "-S", "-nodefaults", "-display", "none", "-qmp", "stdio")
    command = [QEMU, *arguments, "-object", memory, "-device", f"ivshmem-plain,memdev=m{role}"]
    words = ("qmp_capabilities", "query-migrate", "quit")
    asked = "".join(json.dumps({"execute": word}) for word in words)
    said = subprocess.run(command, input=asked, check=True, capture_output=True, text=True).stdout
    quote = SHMEM_PEER.refusal.split('"')[1]
    assert (quote in said) == refused


def test_states_are_called_as_is_quoted() -> None:
    """QEMU names the state that blocks a migration; 11.1 has no such device."""
    command = ["/usr/bin/qemu-system-aarch64", "-machine", "virt", "-dump-vmstate", "/dev/stdout"]
    states = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    for name, kind in PLATFORMS.items():
        assert states[name]["Description"]["name"] == name
        assert kind.refusal.endswith(f"non-migratable device '{name}'\"")


@pytest.mark.parametrize("board", ["pc-q35", "pc-i440fx"])
@pytest.mark.parametrize("qom_type", ["vfio-pci", "vfio-pci-nohotplug"])
def test_skip_vsc_check(facts: EmulatorFacts, board: str, qom_type: str) -> None:
    assert facts.properties[qom_type][SKIP] == Property("bool", True)
    expected = {"8.2": "false", "9.0": "false", "9.1": None, "9.2": None, "10.0": None}
    for version, value in expected.items():
        machine = facts.machines[f"{board}-{version}"]
        assert facts.compat_value(machine, qom_type, SKIP) == value


def test_entries_of_the_child_do_not_reach_the_parent(facts: EmulatorFacts) -> None:
    old = facts.machines["pc-q35-8.1"]
    assert facts.compat_value(old, "vfio-pci-nohotplug", "x-ramfb-migrate") == "off"
    assert facts.compat_value(old, "vfio-pci", "x-ramfb-migrate") is None


def test_reader_that_is_slow(facts: EmulatorFacts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers do not fit into the pipe: QEMU must not have been told to leave meanwhile."""
    read = Emulator.read

    def slow(emulator: Emulator, descriptor: int) -> None:
        read(emulator, descriptor)
        time.sleep(0.02)

    monkeypatch.setattr(Emulator, "read", slow)
    assert emulator_facts(QEMU, cache_dir=None, deadline=time.monotonic() + 20.0) == facts


def test_aliases(facts: EmulatorFacts) -> None:
    q35, pc = facts.resolve("q35"), facts.resolve("pc")
    assert q35 is not None and q35 == newest_machine(facts, like="pc-q35-99.0")
    assert pc is not None and pc == newest_machine(facts, like="pc-i440fx-99.0")
    assert facts.resolve("pc-q35-99.0") is None


def test_cached(facts: EmulatorFacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = time.monotonic() + 20.0
    assert emulator_facts(QEMU, cache_dir=str(tmp_path), deadline=deadline) == facts

    def refuse(executable: Executable, deadline: float) -> EmulatorFacts:
        raise AssertionError("asked again")

    monkeypatch.setattr(emulator, "_ask", refuse)
    assert emulator_facts(QEMU, cache_dir=str(tmp_path), deadline=0.0) == facts


def test_cached_needs_no_process(facts: EmulatorFacts, tmp_path: Path) -> None:
    emulator_facts(QEMU, cache_dir=str(tmp_path), deadline=time.monotonic() + 20.0)
    program = (
        "import sys; from vfio_preflight.qemu.emulator.facts import emulator_facts\n"
        f"emulator_facts({QEMU!r}, cache_dir={str(tmp_path)!r}, deadline=0.0)\n"
        "print({'subprocess', 'socket', 'selectors'} & set(sys.modules))\n"
    )
    path = str(Path(emulator.__file__).parents[3])
    said = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": path},
    ).stdout
    assert said == "set()\n"


@pytest.mark.parametrize("program", ["/bin/true", "/bin/cat", "/usr/bin/yes"])
def test_programs_that_are_no_emulators(program: str) -> None:
    with pytest.raises(EmulatorError):
        emulator_facts(program, cache_dir=None, deadline=time.monotonic() + 5.0)

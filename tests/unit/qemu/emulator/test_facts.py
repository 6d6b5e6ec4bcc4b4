"""Emulators that misbehave, as small scripts; a real one is asked in the conformance tests."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from unit.patience import ends, is_alive
from vfio_preflight.osutil.executable import (
    Executable,
    trusted_executable,
    unprivileged_user,
)
from vfio_preflight.osutil.locks import is_taken, lock_file
from vfio_preflight.qemu.emulator import facts as emulator
from vfio_preflight.qemu.emulator.facts import EmulatorError, EmulatorFacts, emulator_facts
from vfio_preflight.qemu.emulator.machines import MachineType, Property

TIME = 5.0

OLD_QEMU: list[dict[str, object]] = [
    {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "Debian 1"}}},
    {"return": {}},
    {"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESUME"},
    {"id": 0, "error": {"class": "GenericError", "desc": "Parameter 'compat-props' is unexpected"}},
    {
        "id": 1,
        "return": [
            {"name": "pc-q35-7.2", "alias": "q35", "cpu-max": 288},
            {"name": "pc-i440fx-7.2", "alias": "pc", "is-default": True, "deprecated": True},
        ],
    },
    {"id": 2, "return": [{"name": "vfio-pci", "parent": "pci-device"}, {"name": "pci-device"}]},
    {"id": 3, "return": [{"name": "x-no-mmap", "type": "bool", "default-value": False}]},
    {"id": 4, "error": {"class": "DeviceNotFound", "desc": "Device not found"}},
    {"id": 5, "return": {"arch": "x86_64"}},
]


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory that the user an emulator runs as can reach, which pytest's own are not."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def make_emulator(root: Path, script: str) -> None:
    (root / "qemu").write_text(f"#!/bin/sh\n{script}\n")
    (root / "qemu").chmod(0o755)


def make_qemu(root: Path, messages: list[dict[str, object]]) -> None:
    (root / "answers").write_text("".join(f"{json.dumps(m)}\r\n" for m in messages))
    make_emulator(root, f"exec cat {root}/answers")


def ask(root: Path, seconds: float = TIME, cache_dir: Path | None = None) -> EmulatorFacts:
    directory = str(cache_dir) if cache_dir else None
    deadline = time.monotonic() + seconds
    return emulator_facts("/qemu", cache_dir=directory, deadline=deadline, root=str(root))


def failure(root: Path, script: str, seconds: float = TIME) -> str:
    make_emulator(root, script)
    with ends(), pytest.raises(EmulatorError) as caught:
        ask(root, seconds)
    message = str(caught.value)
    assert message.startswith("emulator /qemu: ")
    assert "\n" not in message
    return message


def test_emulator_without_compat_props(root: Path) -> None:
    make_qemu(root, OLD_QEMU)
    assert ask(root) == EmulatorFacts(
        path="/qemu",
        version="7.2.22",
        package="Debian 1",
        machines={
            "pc-i440fx-7.2": MachineType("pc-i440fx-7.2", "pc", True, True, ()),
            "pc-q35-7.2": MachineType("pc-q35-7.2", "q35", False, False, ()),
        },
        properties={"vfio-pci": {"x-no-mmap": Property("bool", False)}},
        lineage={"vfio-pci": ("vfio-pci", "pci-device")},
        compat_props_known=False,
        target="x86_64",
    )


def test_quit_is_not_said_before_the_last_answer(root: Path) -> None:
    make_qemu(root, OLD_QEMU)
    make_emulator(root, f"timeout 0.3 grep -q quit && exit 0; exec cat {root}/answers")
    assert ask(root).version == "7.2.22"


def test_emulator_behind_a_wrapper_is_ended(root: Path) -> None:
    """Neither the wrapper's process id nor its death leads to it; the group's lifeline does."""
    message = failure(root, "sh -c 'echo $$ >&2; exec sleep 60'; exit 0", seconds=0.5)
    found = re.search(r"\(stderr: (\d+)\);", message)
    assert found is not None
    with ends():
        while is_alive(int(found[1])):
            time.sleep(0.01)


@pytest.mark.parametrize("number", [0, 4, 5, 6, 8])
def test_answers_of_another_form(root: Path, number: int) -> None:
    messages = [dict(message) for message in OLD_QEMU]
    messages[number] = {"id": messages[number].get("id"), "return": [{"nothing": 1}]}
    make_qemu(root, messages)
    with pytest.raises(EmulatorError, match="answers over QMP are not those of a QEMU"):
        ask(root)


def test_early_exit_quotes_the_first_line(root: Path) -> None:
    message = failure(root, "echo 'qemu: cannot \033[31mload' >&2; echo more >&2; exit 3")
    assert (
        "ended with exit status 3 before it answered (stderr: qemu: cannot ?[31mload);" in message
    )


def test_early_exit_of_a_crash(root: Path) -> None:
    assert "was killed by SIGSEGV before it answered;" in failure(root, "kill -SEGV $$")


def test_exit_amid_the_answers(root: Path) -> None:
    make_qemu(root, OLD_QEMU[:5])
    with pytest.raises(EmulatorError, match="ended with exit status 0 before it answered"):
        ask(root)


def test_hang_is_killed(root: Path) -> None:
    message = failure(root, "echo $$ >&2; exec sleep 60", seconds=0.3)
    found = re.search(r"did not answer in time and was stopped \(stderr: (\d+)\);", message)
    assert found is not None
    with pytest.raises(ProcessLookupError):
        os.kill(int(found[1]), 0)


def test_hang_after_closing_its_output(root: Path) -> None:
    message = failure(root, "echo $$ >&2; exec sleep 60 >&-")
    found = re.search(r"closed its output before it had answered \(stderr: (\d+)\);", message)
    assert found is not None
    with pytest.raises(ProcessLookupError):
        os.kill(int(found[1]), 0)


def test_hang_with_its_error_closed(root: Path) -> None:
    assert "in time and was stopped;" in failure(root, "exec sleep 60 2>&-", seconds=0.3)


def test_a_child_that_keeps_the_pipes_delays_nothing(root: Path) -> None:
    assert "exit status 4" in failure(root, "sleep 3 >&- & exit 4")


def test_garbage(root: Path) -> None:
    assert "something that is not QMP: 'hello?[0m" in failure(root, "printf 'hello\\033[0m\\n'")
    assert "something that is not QMP: '[1, 2]'" in failure(root, "echo '[1, 2]'")
    assert "something that is not QMP" in failure(root, "exec head -c 1000000 /dev/urandom")


@pytest.mark.parametrize("script", ["exec tr '\\0' x </dev/zero", "exec yes '{\"event\": 1}'"])
def test_huge_output(root: Path, script: str) -> None:
    message = failure(root, script, seconds=2.0)
    assert "writes more than 32 MiB" in message or "did not answer in time" in message


def test_huge_error_output(root: Path) -> None:
    message = failure(root, "head -c 50000000 /dev/zero | tr '\\0' x >&2; exit 1")
    assert "exit status 1" in message
    assert len(message) < 500


def test_refusal_to_talk(root: Path) -> None:
    reply = '{"error": {"class": "CommandNotFound", "desc": "no"}}'
    assert "refuses to negotiate QMP" in failure(root, f"echo '{reply}'")


def test_no_time_left(root: Path) -> None:
    assert "no time was left" in failure(root, "exit 0", seconds=0.0)


def test_missing_interpreter(root: Path) -> None:
    (root / "qemu").write_text("#!/nonexistent/interpreter\n")
    (root / "qemu").chmod(0o755)
    with pytest.raises(EmulatorError, match=r"/qemu: cannot be started.*: No such file"):
        ask(root)


def test_foreign_binary(root: Path) -> None:
    (root / "qemu").write_bytes(b"\x7fELF nonsense")
    (root / "qemu").chmod(0o755)
    with pytest.raises(EmulatorError, match=r"/qemu: cannot be started.*: Exec format error"):
        ask(root)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, which runs it as somebody else")
def test_binary_that_its_user_may_not_run(root: Path) -> None:
    make_emulator(root, "exit 0")
    (root / "qemu").chmod(0o700)
    with pytest.raises(EmulatorError, match=r"/qemu: cannot be started.*: Permission denied"):
        ask(root)


def test_environment_of_the_emulator(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("SECRET", "1")
    user = unprivileged_user()
    name = user.name if user else "."
    script = (
        "exec >&2; echo $(id -un) $(id -Gn | wc -w) ${SECRET-clean} ${LD_PRELOAD-clean} $LC_ALL"
        " $PWD $(($(cut -d' ' -f5 /proc/$$/stat) - $$)) $(ls /proc/$$/fd | wc -w) $(ulimit -c);"
        " exit 1"
    )
    message = failure(root, script)
    groups = r"1" if user else r"\d+"
    assert re.search(f"stderr: {name}.* {groups} clean clean C / 0 [56] 0\\);", message), message


def test_a_script_is_asked_every_time(root: Path, tmp_path: Path) -> None:
    make_qemu(root, OLD_QEMU)
    ask(root, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


FACTS = EmulatorFacts(
    path="/qemu",
    version="10.0.2",
    package="",
    machines={
        "a": MachineType("a", "b", True, False, (("vfio-pci", "x", "on"), ("pci-device", "y", ""))),
        "c": MachineType("c", None, False, True, (("vfio-pci", "x", "on"),)),
    },
    properties={"vfio-pci": {"x": Property("uint32", 4294967295), "y": Property("str", None)}},
    lineage={"vfio-pci": ("vfio-pci", "pci-device")},
    compat_props_known=True,
    target="aarch64",
)


@pytest.fixture
def asked(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Counts how often the emulator is asked; it is a binary, so that it may be cached."""
    (root / "qemu").write_bytes(b"\x7fELF")
    (root / "qemu").chmod(0o755)
    calls: list[str] = []

    def answer(executable: Executable, deadline: float) -> emulator.Answer:
        calls.append(executable.path)
        return emulator.Answer(FACTS, emulator.to_json(FACTS))

    monkeypatch.setattr(emulator, "_ask", answer)
    return calls


def test_cache_round_trip(root: Path, tmp_path: Path, asked: list[str]) -> None:
    assert ask(root, cache_dir=tmp_path) == FACTS
    assert ask(root, cache_dir=tmp_path) == FACTS
    assert len(asked) == 1


def test_cache_of_another_binary(root: Path, tmp_path: Path, asked: list[str]) -> None:
    ask(root, cache_dir=tmp_path)
    (root / "qemu").write_bytes(b"\x7fELF")  # same size, other times
    ask(root, cache_dir=tmp_path)
    assert len(asked) == 2
    assert len([*tmp_path.glob("*.json")]) == 1


def test_cache_of_another_schema(
    root: Path, tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(root, cache_dir=tmp_path)
    monkeypatch.setattr(emulator, "_SCHEMA", emulator._SCHEMA + 1)
    ask(root, cache_dir=tmp_path)
    assert len(asked) == 2


@pytest.mark.parametrize("key", ["machines", "properties", "lineage", "compat-entries", "target"])
def test_cache_with_a_damaged_entry(root: Path, tmp_path: Path, asked: list[str], key: str) -> None:
    ask(root, cache_dir=tmp_path)
    [entry] = tmp_path.glob("*.json")
    packed = json.loads(entry.read_text())
    del packed[key]
    entry.write_text(json.dumps(packed))
    assert ask(root, cache_dir=tmp_path) == FACTS
    assert ask(root, cache_dir=tmp_path) == FACTS
    assert len(asked) == 2


def test_cache_that_cannot_be_used(root: Path, tmp_path: Path, asked: list[str]) -> None:
    (tmp_path / "file").touch()
    assert ask(root, cache_dir=tmp_path / "file") == FACTS
    assert ask(root) == FACTS
    assert len(asked) == 2


def test_one_asks_and_the_others_wait(
    root: Path, tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = emulator._ask

    def slow(executable: Executable, deadline: float) -> emulator.Answer:
        time.sleep(0.1)
        return answer(executable, deadline)

    monkeypatch.setattr(emulator, "_ask", slow)
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda _: ask(root, cache_dir=tmp_path), range(20))]
    assert found == [FACTS] * 20
    assert len(asked) == 1


def test_one_that_fails_leaves_it_to_the_next(
    root: Path, tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = emulator._ask

    def first_fails(executable: Executable, deadline: float) -> emulator.Answer:
        facts = answer(executable, deadline)
        if len(asked) == 1:
            raise EmulatorError("was killed")
        return facts

    def attempt(_: int) -> EmulatorFacts | None:
        try:
            return ask(root, cache_dir=tmp_path)
        except EmulatorError:
            return None

    monkeypatch.setattr(emulator, "_ask", first_fails)
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(attempt, range(8))]
    assert sorted(found, key=bool) == [None, *[FACTS] * 7]
    assert len(asked) == 2


@pytest.mark.parametrize(("seconds", "waits"), [(0.6, 0.3), (3.5, 1.7)])
def test_one_that_was_stopped_is_not_waited_for(
    root: Path, tmp_path: Path, asked: list[str], seconds: float, waits: float
) -> None:
    """Its lock stays; there is time left to ask oneself."""
    name = emulator._cache_name(trusted_executable("/qemu", str(root)))
    held = lock_file(str(tmp_path), f".{name}.lock")
    assert is_taken(held)
    begun = time.monotonic()
    assert ask(root, seconds, tmp_path) == FACTS
    assert time.monotonic() - begun >= waits
    os.close(held)
    assert len(asked) == 1

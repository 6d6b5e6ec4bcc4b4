"""The hook is killed at any instant: nobody is harmed, and nothing half-done is believed."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab import Host, guest_xml, hostdev_pci
from vfio_preflight.guest.xml import parse_domain
from vfio_preflight.hook import attempt, expected
from vfio_preflight.host import history
from vfio_preflight.host.captures import captured
from vfio_preflight.host.processes import Process, find_process
from vfio_preflight.osutil import jsondir

from . import kill_hook
from .pair import CONFIG, MIGRATED, OLD, OTHER_VSC, VF, Pair
from .service import wait

KILLS = int(os.environ.get("KILLS", "30"))
SEED = int(os.environ.get("KILLS_SEED", random.randrange(1 << 32)))
SCRIPT = Path(kill_hook.__file__)
RUNTIME, HISTORY = "/run/vfio-preflight", "/var/lib/vfio-preflight/history"
# For what the killed leave behind: it goes with the host.
SCRATCH = "/run/kills"
STARTED_BEGIN, RELEASE = "started begin -", "release end failed"
# In a host, no kernel gives a device through VFIO: its bytes come from sysfs.
STARTED = "/usr/lib/vfio-preflight/vfio_preflight/gather/started.py"
FAKED = """

def read_in_use(name: str, pid: int, *, migration: bool = True) -> object:
    from ..host.vfio_api import VfioDevice
    from ..pci.state import ConfigState

    with open(f"/sys/bus/pci/devices/{name}/config", "rb") as file:
        state = ConfigState(file.read(), (), "vfio", "made up")
    return VfioDevice(state, ("stop-copy",) if migration else None, asked=migration)
"""


@pytest.fixture(autouse=True)
def readable(pair: Pair) -> Iterator[None]:
    """Both hosts' hooks can read devices in use; they have learned nothing afterwards."""
    paths = [host.path(STARTED) for host in (pair.a, pair.b)]
    sound = paths[0].read_text()
    for path in paths:
        path.write_text(sound + FAKED)
    yield
    for host, path in zip((pair.a, pair.b), paths):
        path.write_text(sound)
        shutil.rmtree(host.path(HISTORY), ignore_errors=True)
        host.run(["vfio-preflight", "catalogue", "forget", "--all"])


class Hook:
    """The hook of a host, called for a guest that runs there, and killed at random instants."""

    def __init__(self, host: Host, guest: str) -> None:
        self.host, self.guest = host, guest
        self.runtime = str(host.path(RUNTIME))
        host.path(SCRATCH).mkdir(exist_ok=True)
        self.rng = random.Random(SEED)
        self.xml = host.virsh("dumpxml", guest).stdout
        self.hits = 0

    def file(self, directory: str, name: str = "") -> Path:
        return Path(self.runtime, directory, f"{name or self.guest}.json")

    def process(self) -> Process:
        """The guest's QEMU, as the hook sees it."""
        uuid = parse_domain(self.xml.encode()).findtext("uuid") or ""
        found = find_process(self.guest, uuid, str(self.host.path("/")))
        assert found is not None
        return found

    def call(self, words: str, victim: str = "", at: float = 0.0) -> dict[str, Any]:
        call = kill_hook.Call([self.guest, *words.split()], self.xml, victim, at, directory=SCRATCH)
        stdin = json.dumps(call._asdict())
        done = self.host.run(["/usr/bin/python3", SCRIPT], stdin, timeout=120)
        assert done.returncode == 0, f"KILLS_SEED={SEED}: {done.stderr}"
        result: dict[str, Any] = json.loads(done.stdout)
        self.hits += bool(result["hit"])
        return result

    def span(self, words: str, what: str, prepare: Callable[[], object]) -> float:
        """Seconds within which all is over (``gone``), or libvirt has its answer (``answered``)."""
        spans = []
        for _ in range(3):
            prepare()
            spans.append(float(self.call(words)[what]))
        return min(spans)

    def killed(self, words: str, victims: Sequence[str], span: float) -> dict[str, Any]:
        """Killed at a random instant of ``span`` seconds."""
        return self.call(words, self.rng.choice(victims), self.rng.uniform(0, span))

    def assert_nothing_half(self) -> None:
        """What lies in the runtime directory is whole, or is what a killed writer left aside."""
        for path in Path(self.runtime).rglob("*"):
            if path.suffix == ".json":
                json.loads(path.read_text())
        assert len([*Path(self.runtime).rglob("*.tmp")]) <= 3 * 17

    def capture(self) -> list[bytes]:
        found = captured(self.runtime, self.guest, self.process().instance)
        return [capture.state.config for capture in found.values()]


def start(pair: Pair, guest: str) -> str:
    """A guest that runs on a, recorded from what was captured at its start."""
    pair.a.start_guest(guest_xml(guest, OLD, [hostdev_pci(VF)]))
    wait(lambda: Hook(pair.a, guest).capture())
    pair.record(guest).check_returncode()
    return guest


def assert_starts_again(pair: Pair, guest: str) -> None:
    """The next start is as if nothing had been."""
    pair.a.virsh("destroy", guest).check_returncode()
    assert not Hook(pair.a, guest).file("started").exists()
    pair.a.virsh("start", guest).check_returncode()
    wait(lambda: Hook(pair.a, guest).capture() == [CONFIG])


def test_capture_is_killed(pair: Pair) -> None:
    """libvirt has its answer already; the capture is there as a whole or not at all."""
    guest = start(pair, "kill-a")
    hook = Hook(pair.a, guest)

    def forget() -> None:
        hook.file("started").unlink(missing_ok=True)

    span = hook.span(STARTED_BEGIN, "gone", forget)
    for _ in range(KILLS):
        forget()
        result = hook.killed(STARTED_BEGIN, ("python", "child"), span)
        assert (result["status"], result["out"], result["err"]) == (0, "", ""), SEED
        assert hook.capture() in ([], [CONFIG]), SEED
        hook.assert_nothing_half()
    assert hook.hits >= KILLS // 8
    assert_starts_again(pair, guest)


@contextmanager
def arrived(pair: Pair, guest: str) -> Iterator[Hook]:
    """The hook of b, for a guest that has migrated there."""
    start(pair, guest)
    assert pair.migrate(guest).returncode == 0
    assert pair.where(guest) == MIGRATED
    yield Hook(pair.b, guest)
    # The next one is not harmed by what was left.
    pair.present(pair.b, VF, CONFIG)
    pair.b.virsh("destroy", guest).check_returncode()
    pair.a.virsh("start", guest).check_returncode()
    pair.record(guest).check_returncode()
    assert pair.migrate(guest).returncode == 0


class SecondGate:
    """The second gate of a guest whose device differs: it refuses, unless it is killed."""

    def __init__(self, hook: Hook, begun: float) -> None:
        self.hook, self.begun = hook, begun
        self.waiting = hook.file("second-gate")
        self.uuid = parse_domain(hook.xml.encode()).findtext("uuid") or ""
        self.leave()
        whole = hook.call(STARTED_BEGIN)
        assert whole["status"] == 1
        self.refusal = (1, whole["err"])

    def leave(self) -> None:
        """As if migrate begin had just been, which is longer ago by now."""
        left = max(self.begun, time.clock_gettime(time.CLOCK_BOOTTIME) - attempt.SOON / 2)
        value = {"uuid": self.uuid, "time": left}
        assert jsondir.store(str(self.waiting.parent), self.waiting.stem, value)

    def is_whole(self) -> bool:
        """Whether the attempt was used up, or waits as before."""
        age = self.hook.process().age
        taken = attempt.take(self.hook.runtime, self.hook.guest, self.hook.xml.encode(), age)
        return taken or not self.waiting.exists()

    def check(self, span: float) -> None:
        self.leave()
        result = self.hook.killed(STARTED_BEGIN, ("python", "child"), span)
        answer = result["status"], result["err"]
        # Of a Python that was killed, libvirt may have the words already, but not the status.
        # A child may have answered, and go on with what nobody waits for.
        words = result["err"] if result["hit"] == "python" else ""
        answered = () if result["hit"] == "python" else (self.refusal,)
        assert answer in (((0, words), *answered) if result["hit"] else (self.refusal,)), SEED
        assert result["out"] == ""
        assert self.is_whole(), SEED
        self.hook.assert_nothing_half()


def test_second_gate_is_killed(pair: Pair) -> None:
    """A refusal that is killed is none; libvirt sees an exit status of 0."""
    begun = time.clock_gettime(time.CLOCK_BOOTTIME)
    # On a busy machine too, the gate comes to its end.
    pair.configure("[hook]\nsecond-gate-deadline = 30\n")
    with arrived(pair, "kill-b") as hook:
        pair.present(pair.b, VF, OTHER_VSC)
        gate = SecondGate(hook, begun)
        span = hook.span(STARTED_BEGIN, "answered", gate.leave)
        for _ in range(KILLS):
            gate.check(span)
        assert hook.hits >= KILLS // 8
        pair.b.run(["vfio-preflight", "catalogue", "list"]).check_returncode()


class Release:
    """The end of a guest that is expected, with all that could be left of it."""

    def __init__(self, pair: Pair, hook: Hook) -> None:
        self.hook = hook
        self.history = str(pair.b.path(HISTORY))
        value = expected.waiting(hook.runtime, hook.guest)
        assert value is not None
        self.value = value

    def leave(self) -> None:
        assert expected.leave(self.hook.runtime, self.hook.guest, self.value)
        for directory in ("started", "second-gate"):
            path = self.hook.file(directory)
            assert jsondir.store(str(path.parent), path.stem, {"schema": 1})

    def check(self, span: float) -> None:
        self.leave()
        self.hook.killed(RELEASE, ("shell", "shell", "child"), span)
        assert self.hook.capture() == []
        self.hook.assert_nothing_half()
        left = expected.waiting(self.hook.runtime, self.hook.guest)
        assert left in (None, self.value), SEED
        names = [name for name, _ in history.entries(self.history)]
        assert names == history.all_names(self.history), SEED


def test_release_is_killed(pair: Pair) -> None:
    """The shell, and the Python that it becomes; what is left concerns nobody."""
    with arrived(pair, "kill-c") as hook:
        release = Release(pair, hook)
        span = hook.span(RELEASE, "answered", release.leave)
        for _ in range(KILLS):
            release.check(span)
        assert hook.hits >= KILLS // 8
        assert history.entries(release.history), "some came to the end"

"""Whoever writes is killed at any instant of it: nothing half-done is believed, or stays for good.

``KILL_POINTS=1000`` kills so often, over all that write; the figures are printed. Half of the kills
follow something that has just happened to a file, by none to three milliseconds, the others are
anywhere in the operation. Installation, which has ways of its own: ``test_install.py``.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from lxml import etree

from lab import Host, guest_xml, hostdev_mdev, hostdev_pci
from vfio_preflight.guest.metadata import read_record
from vfio_preflight.guest.xml import parse_domain
from vfio_preflight.hook import attempt, expected, refusals
from vfio_preflight.hook.annotation import token_of
from vfio_preflight.host import history
from vfio_preflight.osutil import jsondir

from . import kill_hook
from .pair import CONFIG, MDEV, MIGRATED, OLD, OTHER_VSC, PCI, VF, Pair
from .test_herd import document

POINTS = int(os.environ.get("KILL_POINTS", "45"))
SEED = int(os.environ.get("KILLS_SEED", random.randrange(1 << 32)))
SCRIPT = Path(kill_hook.__file__)
HOUR = 3600
RUNTIME, KEPT = "/run/vfio-preflight", "/var/lib/vfio-preflight"
CACHE, CATALOGUE, HISTORY = "/var/cache/vfio-preflight", f"{KEPT}/catalogue", f"{KEPT}/history"
REFUSED, LOGS = f"{RUNTIME}/refused/g-points", "/var/log/vfio-preflight"
SCRATCH = "/run/kill-points"
LOG = "/var/log/kill-points"
CONFIGURED = f"[hook]\nlog = {LOG}\nsecond-gate-deadline = 30\ndeadline = 30\n"
# Devices in use are read from where the Lab keeps what they present; no attempt becomes too old.
PACKAGE = "/usr/lib/vfio-preflight/vfio_preflight"
PATCHES = {
    "gather/started.py": (
        "ORIGIN =",
        """
def read_in_use(name: str, pid: int, *, migration: bool = True) -> object:
    from ..host.vfio_api import VfioDevice
    from ..pci.state import ConfigState

    with open(f"/run/fakevfio/{name}/config", "rb") as file:
        state = ConfigState(file.read(), (), "vfio", "made up")
    return VfioDevice(state, ("stop-copy",) if migration else None, asked=migration)


ORIGIN =""",
    ),
    "hook/attempt.py": ("SOON = 300.0", "SOON = 3e6"),
}


class Seen(NamedTuple):
    """What libvirt sees: exit status, the verdict in the XML, the first line of errors."""

    status: int
    verdict: str
    line: str


class Operation(NamedTuple):
    """Something that writes.

    ``again`` removes what it has written, so that it writes once more; ``before`` brings about what
    a call needs. ``after`` is what must come of a call that nobody disturbs. ``killed`` are those
    who may be killed.
    """

    words: str
    xml: str
    watched: tuple[str, ...]
    killed: tuple[str, ...] = ("all", "python", "child")
    again: Callable[[], object] = lambda: None
    before: Callable[[], object] = lambda: None
    after: Callable[[dict[str, Any]], object] = lambda _: None
    commands: tuple[tuple[str, ...], ...] = ()


class Scene:
    """Host b, with a guest that has migrated there and one that was started there."""

    def __init__(self, pair: Pair) -> None:
        self.host = pair.b
        self.begun = time.clock_gettime(time.CLOCK_BOOTTIME)
        devices = [hostdev_pci(VF), hostdev_mdev(MDEV)]
        guest = pair.start(guest_xml("arrived", OLD, devices))
        moved = pair.migrate(guest)
        assert moved.returncode == 0 and pair.where(guest) == MIGRATED, moved.stderr
        value = expected.waiting(str(self.path(RUNTIME)), guest)
        assert value is not None
        self.expected = value
        self.arrived = self.host.virsh("dumpxml", guest).stdout
        pair.present(pair.b, VF, OTHER_VSC)
        self.host.start_guest(guest_xml("here", OLD, [hostdev_pci(PCI)]))
        self.here = self.host.virsh("dumpxml", "here").stdout
        self.good = document("points", hostdev_pci(VF), OTHER_VSC)
        self.bad = document("points", hostdev_pci(VF), CONFIG)

    def path(self, inside: str) -> Path:
        return self.host.path(inside)

    def call(self, operation: Operation, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
        name = etree.fromstring(operation.xml or "<none/>").findtext("name") or ""
        call = kill_hook.Call(
            [name, *operation.words.split()],
            operation.xml,
            watched=[*operation.watched],
            directory=SCRATCH,
        )
        if operation.commands:
            command, *arguments = operation.commands[0]
            call = call._replace(command=command, arguments=arguments)
        stdin = json.dumps(call._replace(**changes)._asdict())
        done = self.host.run(["/usr/bin/python3", SCRIPT], stdin, timeout=180)
        assert done.returncode == 0, f"KILLS_SEED={SEED}: {done.stderr}"
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    # --- what a call needs, and what it leaves -------------------------------------------------

    def forget(self, *patterns: str) -> None:
        for pattern in patterns:
            for path in self.path("/").glob(pattern.lstrip("/")):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def await_second_gate(self) -> None:
        """As if migrate begin had just let the guest pass."""
        uuid = parse_domain(self.arrived.encode()).findtext("uuid")
        value = {"uuid": uuid, "time": self.begun}
        assert jsondir.store(str(self.path(f"{RUNTIME}/{attempt.KIND}")), "arrived", value)

    def expect(self) -> None:
        assert expected.leave(str(self.path(RUNTIME)), "arrived", self.expected)

    def refuse(self, token: str, message: str) -> None:
        """As if restore begin had just refused the guest."""
        self.path(REFUSED).mkdir(parents=True, exist_ok=True)
        now = int(time.clock_gettime(time.CLOCK_BOOTTIME))
        (self.path(REFUSED) / f"{now}.{token}").write_text(message)

    def take(self, result: dict[str, Any]) -> str:
        """The refusal at prepare begin that a restore was left."""
        taken = self.call(Operation("prepare begin -", result["out"], ()))
        assert taken["status"] == 1
        return str(taken["err"])

    def unrecord(self) -> None:
        self.host.virsh("metadata", "here", "urn:vfio-preflight:1", "--remove", "--live")

    def record(self) -> object:
        """The record of the guest that was started here, None without one."""
        root = parse_domain(self.host.virsh("dumpxml", "here").stdout.encode())
        ours = root.find("metadata/{urn:vfio-preflight:1}preflight")
        found = None if ours is None else read_record(ours)
        return None if found is None else found.entries

    def history(self) -> int:
        directory = str(self.path(HISTORY))
        names = [name for name, _ in history.entries(directory)]
        assert names == history.all_names(directory)
        return len(names)

    # --- what must hold -------------------------------------------------------------------------

    def files(self) -> Iterator[Path]:
        for top in (RUNTIME, KEPT, CACHE, LOGS):
            yield from (path for path in self.path(top).rglob("*") if path.is_file())

    def left(self) -> list[Path]:
        """What writers that were killed have left."""
        partial = [path for path in self.files() if path.suffix == ".tmp"]
        return [*partial, *self.path(SCRATCH).iterdir()]

    def assert_whole(self, message: str) -> None:
        """Every file is what it should be, or is aside and believed by nobody."""
        for path in self.files():
            if path.suffix == ".json":
                assert isinstance(json.loads(path.read_text()), (dict, list)), path
            elif path.suffix == ".jsonl":
                assert all("event" in json.loads(line) for line in path.open()), path
            elif path.parent.parent.name == "refused" and path.suffix != ".tmp":
                assert path.read_text() == message, path
            elif path.suffix == ".lock" or path.parent.name == "turns":
                assert path.stat().st_size == 0
            else:
                assert path.suffix == ".tmp" or path.parent.name == "states", path

    def age(self) -> None:
        """Two hours go by."""
        for path in self.left():
            os.utime(path, (time.time() - 2 * HOUR,) * 2)
        for path in self.path(f"{RUNTIME}/refused").glob("*/*"):
            left, _, token = path.name.partition(".")
            path.rename(path.with_name(f"{max(0, int(left) - 2 * HOUR)}.{token}"))

    def sweep(self) -> None:
        """What any other guest's hook does."""
        refusals.sweep(str(self.path(RUNTIME)))

    def assert_starts(self, operation: Operation) -> None:
        """No cold start of the guest is refused, nor of the one that was refused a restore."""
        for xml in {self.bad, operation.xml and self.unmarked(operation.xml)} - {""}:
            name = etree.fromstring(xml).findtext("name") or ""
            cold = self.host.run([kill_hook.HOOK, name, "prepare", "begin", "-"], xml)
            assert (cold.returncode, cold.stdout, cold.stderr) == (0, "", ""), SEED

    def unmarked(self, xml: str) -> str:
        """The guest's persistent XML: without what one attempt was given."""
        root = parse_domain(xml.encode())
        for metadata in root.iterfind("metadata"):
            for ours in metadata.iterfind("{urn:vfio-preflight:1}preflight"):
                metadata.remove(ours)
        return etree.tostring(root).decode()


def seen(result: dict[str, Any]) -> Seen:
    verdict = ""
    if result["out"].startswith("<domain"):
        report = etree.fromstring(result["out"]).find(".//{*}report")
        verdict = "" if report is None else str(report.get("verdict"))
    return Seen(result["status"], verdict, result["err"].partition("\n")[0])


def operations(scene: Scene, refused: str, message: str) -> dict[str, Operation]:
    """By what they write. ``refused`` is the XML of a restore that is refused with ``message``."""
    token = token_of(refused.encode())
    assert token
    running, started = f"{RUNTIME}/started", "started begin -"

    def captured(_result: object) -> None:
        assert scene.path(f"{running}/here.json").exists()

    def recorded(_result: object) -> None:
        assert scene.record()

    def learned(_result: object) -> None:
        # More, if the one that was killed had come that far, and another followed.
        assert scene.history() in (1, 2, 3)

    def catalogued(_result: object) -> None:
        assert [*scene.path(CATALOGUE).glob("*.json")] != []

    def cached(_result: object) -> None:
        assert [*scene.path(CACHE).glob("*.json")] != []

    return {
        "record": Operation(
            "",
            "",
            (),
            ("shell",),
            again=scene.unrecord,
            after=recorded,
            commands=(("/usr/bin/vfio-preflight", "record", "here"),
                      ("/usr/bin/vfio-preflight", "watch")),
        ),
        "capture": Operation(
            started,
            scene.here,
            (running,),
            again=lambda: scene.forget(f"{running}/here.json"),
            after=captured,
        ),
        "cache": Operation(
            "migrate begin -",
            scene.bad,
            (CACHE,),
            again=lambda: scene.forget(f"{CACHE}/*.json"),
            after=cached,
        ),
        "attempt": Operation(
            "migrate begin -", scene.good, (f"{RUNTIME}/{attempt.KIND}", f"{RUNTIME}/expected")
        ),
        "second gate": Operation(
            started,
            scene.arrived,
            (f"{RUNTIME}/{attempt.KIND}",),
            before=scene.await_second_gate,
        ),
        "catalogue": Operation(
            started,
            scene.arrived,
            (CATALOGUE,),
            again=lambda: scene.forget(f"{CATALOGUE}/*.json"),
            before=scene.await_second_gate,
            after=catalogued,
        ),
        "refusal left": Operation(
            "restore begin -", scene.bad, (f"{RUNTIME}/refused",), after=scene.take
        ),
        "refusal taken": Operation(
            "prepare begin -",
            refused,
            (f"{RUNTIME}/refused", REFUSED),
            before=lambda: scene.refuse(token, message),
        ),
        "history": Operation(
            "release end failed",
            scene.arrived,
            (f"{HISTORY}/others", f"{RUNTIME}/expected"),
            again=lambda: scene.forget(f"{HISTORY}/*/*.json"),
            before=scene.expect,
            after=learned,
        ),
    }  # fmt: skip


class Figures(NamedTuple):
    """Kills that took effect; those of them that followed an event; that left something behind."""

    hits: int = 0
    events: int = 0
    left: int = 0


class Killer:
    """Kills one operation at random instants, and looks at what comes of it."""

    def __init__(self, scene: Scene, name: str, operation: Operation, message: str) -> None:
        self.scene, self.operation, self.message = scene, operation, message
        self.rng = random.Random(f"{SEED} {name}")
        self.figures = Figures()
        spans = []
        for _ in range(2):
            operation.again()
            whole = self.whole()
            spans.append(whole["gone"])
        self.reference, self.events = seen(whole), int(whole["events"])
        self.span = min(spans)

    def call(self, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
        self.operation.before()
        return self.scene.call(self.operation, **changes)

    def whole(self) -> dict[str, Any]:
        """A call that nobody disturbs."""
        result = self.call()
        self.operation.after(result)
        return result

    def instant(self, span: float) -> dict[str, Any]:
        """When to kill, and whom, in an operation of that many seconds."""
        when: dict[str, Any] = {"victim": self.rng.choice(self.operation.killed)}
        if self.operation.commands:
            command, *arguments = self.rng.choice(self.operation.commands)
            when.update(command=command, arguments=arguments)
            return {**when, "at": self.rng.uniform(0, 1.5 * span)}
        if self.events and self.rng.random() < 0.5:
            when["event"] = self.rng.randint(1, self.events)
            return {**when, "at": self.rng.choice((0.0, self.rng.uniform(0, 0.003)))}
        return {**when, "at": self.rng.uniform(0, span)}

    def kill(self) -> None:
        """Kill it until that takes effect."""
        span = self.span
        for _ in range(20):
            self.operation.again()
            when = self.instant(span)
            result = self.call(**when)
            if result["hit"]:
                break
            # A machine that was loaded when the span was measured may have become faster.
            span = min(span, result["gone"])
        else:
            raise AssertionError(f"never hit, KILLS_SEED={SEED}")
        self.assert_answer(result)
        self.scene.assert_whole(self.message)
        left = bool(self.scene.left())
        figures = self.figures
        self.figures = Figures(
            figures.hits + 1, figures.events + ("event" in when), figures.left + left
        )
        self.scene.assert_starts(self.operation)
        assert seen(self.whole()) == self.reference, SEED
        if left:
            # By now there may be nothing to write any more where it lies.
            self.scene.age()
            assert seen(self.whole()) == self.reference, SEED
        assert self.scene.left() == [], SEED
        self.assert_no_refusal(aged=left)

    def assert_no_refusal(self, *, aged: bool) -> None:
        """None is left; or, as nobody came for it, one that is swept later."""
        if not aged:
            self.scene.age()
            self.scene.sweep()
        assert [*self.scene.path(f"{RUNTIME}/refused").iterdir()] == [], SEED

    def assert_answer(self, result: dict[str, Any]) -> None:
        """Of whom was killed, libvirt sees the whole answer or none; or that the shell is gone."""
        answer = seen(result)
        if result["hit"] in ("all", "shell") and answer.status == -9:
            return
        if self.operation.commands:
            # The guest's metadata are libvirt's: none of ours, or all that can be read.
            self.scene.record()
            return
        # Of a Python that was killed, libvirt may have the words already, but not the status.
        line = answer.line if result["hit"] == "python" else ""
        assert answer in (self.reference, Seen(0, "", line)), SEED


@pytest.fixture
def scene(pair: Pair) -> Iterator[Scene]:
    host = pair.b
    sound = {name: host.path(f"{PACKAGE}/{name}").read_text() for name in PATCHES}
    for name, (old, new) in PATCHES.items():
        assert sound[name].count(old) == 1
        host.path(f"{PACKAGE}/{name}").write_text(sound[name].replace(old, new))
    pair.configure(CONFIGURED)
    for place in (pair.b.path(HISTORY), pair.b.path(f"{RUNTIME}/refused")):
        shutil.rmtree(place, ignore_errors=True)
    host.path(SCRATCH).mkdir(exist_ok=True)
    try:
        yield Scene(pair)
    finally:
        for name, text in sound.items():
            host.path(f"{PACKAGE}/{name}").write_text(text)
        forget_all(host)


def forget_all(host: Host) -> None:
    shutil.rmtree(host.path(HISTORY), ignore_errors=True)
    host.run(["vfio-preflight", "catalogue", "forget", "--all"])
    for guest in ("points", "arrived", "here"):
        for kind in ("started", attempt.KIND, "expected"):
            host.path(f"{RUNTIME}/{kind}/{guest}.json").unlink(missing_ok=True)


def test_whoever_writes_is_killed(scene: Scene) -> None:
    refused = scene.call(Operation("restore begin -", scene.bad, ()))
    message = scene.take(refused).rstrip("\n")
    every = operations(scene, refused["out"], message)
    figures = {}
    for name, operation in every.items():
        killer = Killer(scene, name, operation, message)
        for _ in range(-(-POINTS // len(every))):
            killer.kill()
        figures[name] = killer.figures
        print(f"{name}: {killer.figures}, events of a call: {killer.events}, {killer.span:.2f} s")
    assert sum(each.hits for each in figures.values()) >= POINTS
    assert sum(each.left for each in figures.values()) >= POINTS // 10

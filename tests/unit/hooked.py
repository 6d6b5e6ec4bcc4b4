"""The hook as libvirt runs it: a process of its own, XML on standard input.

Configuration, states and run-time directory are those of a made-up host; there is no emulator.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from unit.domains import KEY, make_domain
from unit.makers import HOST, differing, make_state
from vfio_preflight.configuration import Configuration
from vfio_preflight.hook import journal
from vfio_preflight.hook.supervise import Outcome
from vfio_preflight.pci.formats import to_json

PLUGIN = Path(__file__).parents[2] / "plugin"
NO_EMULATOR = "/nonexistent/qemu-system-x86_64"
RECORD = {KEY: make_state()}

PROGRAM = """
import sys
from vfio_preflight import configuration
from vfio_preflight.hook import entry, native, turns
directory, *arguments = sys.argv[1:]
load = configuration.load
# Whatever comes of the configuration: this machine's own logs are none of a test's.
native.SOCKET = f"{directory}/journal"
configuration.ConfigurationError.audit_log = f"{directory}/audit.jsonl"
configuration.load = lambda: load(f"{directory}/x.conf")._replace(runtime=f"{directory}/run")
turns.DIRECTORY = f"{directory}/run/turns"
PATCH
status = entry.main(arguments)
with open(f"{directory}/modules", "w") as file:
    file.write(" ".join(sys.modules))
sys.exit(status)
"""
HANG = """
def hang(*_args, **_options):
    import time
    time.sleep(60)
from vfio_preflight.gather import here
here.emulator_facts = hang
"""


# A broken configuration names no log; syslog is this machine's.
QUIET = """
from vfio_preflight.hook import journal
journal._syslog = lambda *_: None
"""


class Result(NamedTuple):
    """What libvirt would see, and what the hook loaded."""

    status: int
    out: bytes
    err: str
    seconds: float
    modules: set[str]


class Host(NamedTuple):
    """A host's configuration and states."""

    directory: Path

    def configure(
        self,
        on_error: str = "allow",
        unknown: str = "annotate",
        deadline: float = 2.0,
        typo: str = "",
        log: str = "",
    ) -> None:
        """Write the configuration; ``typo`` is a line that does not belong there."""
        log, audit_log = log or f"{self.directory}/log", f"{self.directory}/audit.jsonl"
        (self.directory / "x.conf").write_text(
            f"[policy]\nunknown = {unknown}\n{typo}\n"
            f"[hook]\non-error = {on_error}\ndeadline = {deadline}\nlog = {log}\n"
            f"[paths]\nstates = {self.directory}/states\naudit-log = {audit_log}\n"
        )

    def run(
        self,
        xml: bytes,
        operation: str = "migrate",
        patch: str = "",
        guest: str = "g1",
        sub: str = "begin",
        extra: str = "-",
    ) -> Result:
        """Run the hook for ``operation`` ``begin``, or another ``sub``-operation."""
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.replace("PATCH", patch), str(self.directory), guest,
             operation, sub, extra],
            input=xml,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(PLUGIN)},
        )  # fmt: skip
        seconds = time.monotonic() - started
        modules = self.directory / "modules"
        loaded = set(modules.read_text().split()) if modules.exists() else set()
        err = done.stderr.decode()
        assert "Traceback" not in err, err
        return Result(done.returncode, done.stdout, err, seconds, loaded)

    @property
    def audit(self) -> list[dict[str, Any]]:
        """The events in the audit log."""
        path = self.directory / "audit.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    @property
    def log(self) -> str:
        """What the hook logged."""
        path = self.directory / "log"
        return path.read_text() if path.exists() else ""


def answered(outcome: Outcome, settings: Configuration) -> Outcome:
    """``outcome`` as libvirt sees it, after what the hook does with the rest of it."""
    if outcome.after is not None:
        outcome.after()
    if outcome.log:
        journal.write(settings.log, outcome.log, warning=outcome.warning)
    return outcome._replace(after=None, log="", warning=False, event="")


def domain(**changes: object) -> bytes:
    """Guest g1 with one recorded device, for an emulator that is not there."""
    return make_domain(RECORD, emulator=NO_EMULATOR, **changes)  # type: ignore[arg-type]


def present(host: Host, config_offset: int | None = None) -> None:
    """Have the device present the usual state, or one that differs at an offset."""
    (host.directory / "states").mkdir(exist_ok=True)
    state = make_state() if config_offset is None else differing(config_offset)
    (host.directory / "states" / f"{HOST}.json").write_text(to_json(state))


def assert_let_pass(result: Result) -> None:
    """Exit 0 and silence."""
    assert (result.status, result.out, result.err) == (0, b"", "")


def assert_blocked(result: Result, part: str) -> None:
    """Exit 1, nothing for libvirt to parse, and a first line that holds ``part``."""
    assert (result.status, result.out) == (1, b"")
    first = result.err.splitlines()[0]
    assert first.startswith("vfio-preflight: migration blocked: ")
    assert part in first
    assert len(first.encode()) <= 200

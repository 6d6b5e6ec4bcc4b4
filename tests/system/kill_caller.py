"""Kills who has started an emulator, and looks for what is left; run by a Lab host's Python.

Standard input: JSON of a :class:`Plan`'s fields; standard output: JSON of how many kills found an
emulator running, and of the processes that were left in the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CACHE = Path("/var/cache/vfio-preflight")
LEFT = 2.0  # seconds within which all must be gone


class Plan(NamedTuple):
    """What to start, with which input; how often to kill it, with which signal."""

    command: list[str]
    stdin: str
    number: int
    times: int
    seed: int
    directory: str


def processes() -> dict[int, str]:
    """PID and executable of what runs in this host; zombies are gone."""
    found = {}
    for home in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (home / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                found[int(home.name)] = os.readlink(home / "exe")
    return found


def new(before: dict[int, str]) -> dict[int, str]:
    return {pid: path for pid, path in processes().items() if pid not in before}


def started(plan: Plan) -> subprocess.Popen[bytes]:
    for path in CACHE.glob("*.json"):
        path.unlink()
    with open(plan.stdin, "rb") as stdin:
        return subprocess.Popen(
            plan.command,
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": plan.directory},
        )


def kill(before: dict[int, str], number: int) -> bool:
    """Kill all that is new but emulators; whether there was one."""
    found = new(before)
    callers = [pid for pid, path in found.items() if "qemu-system" not in path]
    # Stopped first, so that none of them acts on the end of another.
    for each in (signal.SIGSTOP, number, signal.SIGCONT):
        for pid in callers:
            with contextlib.suppress(OSError):
                os.kill(pid, each)
    return any("qemu-system" in path for path in found.values())


def seconds(plan: Plan) -> float:
    """How long it takes to its end."""
    begun = time.monotonic()
    started(plan).wait()
    return time.monotonic() - begun


def carry_out(plan: Plan) -> dict[str, object]:
    rng = random.Random(plan.seed)
    before = processes()
    span = min(seconds(plan) for _ in range(3))
    hits, left = 0, set()
    for _ in range(plan.times):
        process = started(plan)
        time.sleep(rng.uniform(0, span))
        hits += kill(before, plan.number)
        process.wait()
        left |= {*left_over(before)}
    return {"hits": hits, "left": sorted(left)}


def left_over(before: dict[int, str]) -> Iterator[str]:
    """What is left after a while; killed, so that it is counted once."""
    end = time.monotonic() + LEFT
    while new(before) and time.monotonic() < end:
        time.sleep(0.01)
    for pid, path in new(before).items():
        yield f"{pid} {path}"
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    print(json.dumps(carry_out(Plan(**json.load(sys.stdin)))))

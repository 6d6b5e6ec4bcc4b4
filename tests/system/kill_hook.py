"""Calls the hook as libvirt does, and kills a process of it; run by the Python of a Lab's host.

Standard input: JSON of a :class:`Call`'s fields; standard output: JSON of what libvirt would see
(``status``, ``out``, ``err``), of what was hit (``python``, ``child``, ``shell``, or nothing), and
after how many seconds libvirt had its answer and nothing of the hook was left.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HOOK = "/etc/libvirt/hooks/qemu.d/50-vfio-preflight"
# What the launcher's Python has among its arguments.
PROGRAM = b"vfio_preflight.hook.entry"
# Seconds that the hook may go on after one of its processes was killed.
LEFT = 10.0


class Call(NamedTuple):
    """The hook's arguments and input; whom to kill, and when (seconds after the start)."""

    arguments: list[str]
    xml: str
    victim: str = ""
    at: float = 0.0


def processes() -> Iterator[tuple[int, int, str]]:
    """The hook's processes: PID, parent's PID, and whether it is a shell or Python."""
    for home in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (home / "cmdline").read_bytes()
            kind = "python" if PROGRAM in command else "shell" if HOOK.encode() in command else ""
            if kind:
                yield int(home.name), int(status_of(home)[1]), kind


def status_of(home: Path) -> list[str]:
    """State, parent, ... of /proc/PID/stat."""
    return (home / "stat").read_text().rpartition(")")[2].split()


def find(victim: str, shell: int) -> int:
    """The PID of the victim; 0 if there is none now."""
    if victim == "shell":
        return shell
    pythons = {pid: parent for pid, parent, kind in processes() if kind == "python"}
    first = [pid for pid, parent in pythons.items() if parent not in pythons]
    second = [pid for pid, parent in pythons.items() if parent in first]
    return next(iter(first if victim == "python" else second), 0)


def kill(pid: int) -> bool:
    """Kill a process; whether it had not ended by itself before."""
    try:
        # A process that has stopped cannot have ended.
        os.kill(pid, signal.SIGSTOP)
        home = Path("/proc", str(pid))
        while status_of(home)[0] not in "TtZX":
            pass
        stopped = status_of(home)[0] in "Tt"
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return False
    return stopped


def await_end(begun: float) -> float:
    """Seconds until no process of the hook is left; fails if that takes too long."""
    end = time.monotonic() + LEFT
    while any(processes()):
        assert time.monotonic() < end, f"left: {[*processes()]}"
        time.sleep(0.01)
    return time.monotonic() - begun


def carry_out(call: Call) -> dict[str, object]:
    """Call the hook, and kill the victim if it is there by then."""
    begun = time.monotonic()
    pipe = subprocess.PIPE
    with subprocess.Popen([HOOK, *call.arguments], stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        # The XML is less than a pipe holds.
        process.stdin.write(call.xml.encode())
        process.stdin.close()
        process.stdin = None
        hit = False
        if call.victim:
            time.sleep(call.at)
            pid = find(call.victim, process.pid)
            hit = bool(pid) and kill(pid)
        out, err = process.communicate()
        answered = time.monotonic() - begun
    return {
        "status": process.returncode,
        "out": out.decode(),
        "err": err.decode(),
        "hit": call.victim if hit else "",
        "answered": answered,
        "gone": await_end(begun),
    }


if __name__ == "__main__":
    print(json.dumps(carry_out(Call(**json.load(sys.stdin)))))

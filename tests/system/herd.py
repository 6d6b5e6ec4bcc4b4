"""Calls many hooks at once, as libvirt does when a host is drained; run by a Lab host's Python.

Standard input: JSON of a :class:`Herd`'s fields; standard output: JSON of what libvirt would see of
each call, and after how many seconds; of the most memory that all of them took at one time, and of
the emulators that they started.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HOOK = "/etc/libvirt/hooks/qemu.d/50-vfio-preflight"
# Waits for the end of a pipe, and becomes the hook.
GATE = 'read -r _ <"/proc/self/fd/$1"; shift; exec "$@"'
EMULATOR = "/usr/bin/qemu-system-x86_64"
EVERY = 0.3  # seconds between two looks at memory, which take the kernel a while
PATIENCE = 300.0
# Of linux/fanotify.h and fcntl.h.
FAN_NONBLOCK, FAN_MARK_ADD, FAN_OPEN_EXEC, AT_FDCWD = 0x02, 0x01, 0x1000, -100
FAN_EVENT = struct.Struct("IBBHQii")


class Herd(NamedTuple):
    """The guests' names, and each one's XML."""

    guests: list[str]
    documents: list[str]
    operation: str = "migrate"


class Seen(NamedTuple):
    """What libvirt sees of a call."""

    status: int
    out: str
    err: str
    seconds: float


class Starts:
    """Counts how often a binary is executed, as the kernel tells it (fanotify(7))."""

    def __init__(self, path: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._events = libc.fanotify_init(FAN_NONBLOCK, os.O_RDONLY)
        mark = (ctypes.c_uint(FAN_MARK_ADD), ctypes.c_uint64(FAN_OPEN_EXEC), AT_FDCWD)
        if libc.fanotify_mark(self._events, *mark, path.encode()) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def count(self) -> int:
        """How often it was since the last call."""
        number = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                for event in FAN_EVENT.iter_unpack(os.read(self._events, 100 * FAN_EVENT.size)):
                    os.close(event[5])
                    number += 1
        return number


class Memory:
    """What all processes take that there are in this host beyond those of now."""

    def __init__(self) -> None:
        self._before = {*self._processes()}
        self.most = 0

    def _processes(self) -> Iterator[int]:
        return (int(path.name) for path in Path("/proc").glob("[0-9]*"))

    def look(self) -> None:
        ours = {*self._processes()} - self._before
        self.most = max(self.most, sum(map(proportional, ours)))


def proportional(pid: int) -> int:
    """Bytes of memory of a process; of what it shares with others, its share (proc(5), Pss)."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0


def let_go(herd: Herd, directory: Path) -> dict[str, object]:
    """Start all, let them go at once, and wait for their ends."""
    starts, memory = Starts(EMULATOR), Memory()
    gate, held = os.pipe()
    calls: dict[int, tuple[int, subprocess.Popen[bytes]]] = {}
    poll = select.poll()
    for number, (guest, document) in enumerate(zip(herd.guests, herd.documents)):
        (directory / f"{number}.xml").write_text(document)
        command = ["/bin/sh", "-c", GATE, "gate", str(gate)]
        with contextlib.ExitStack() as files:
            streams = [
                files.enter_context((directory / f"{number}.{name}").open(mode))
                for name, mode in (("xml", "rb"), ("out", "wb"), ("err", "wb"))
            ]
            process = subprocess.Popen(
                [*command, HOOK, guest, herd.operation, "begin", "-"],
                stdin=streams[0],
                stdout=streams[1],
                stderr=streams[2],
                pass_fds=[gate],
            )
        ended = os.pidfd_open(process.pid)
        poll.register(ended, select.POLLIN)
        calls[ended] = number, process
    time.sleep(0.5)
    begun = time.monotonic()
    os.close(held)
    os.close(gate)
    seconds = dict.fromkeys(range(len(herd.guests)), PATIENCE)
    look_at = 0.0
    while calls and time.monotonic() < begun + PATIENCE:
        for ended, _ in poll.poll(EVERY * 1000):
            number, process = calls.pop(ended)
            seconds[number] = time.monotonic() - begun
            process.wait()
            poll.unregister(ended)
            os.close(ended)
            (directory / f"{number}.status").write_text(str(process.returncode))
        if time.monotonic() >= look_at:
            memory.look()
            look_at = time.monotonic() + EVERY
    return {
        "seen": [seen(directory, number, value) for number, value in seconds.items()],
        "memory": memory.most,
        "emulators": starts.count(),
    }


def seen(directory: Path, number: int, seconds: float) -> Seen:
    status, out, err = ((directory / f"{number}.{name}") for name in ("status", "out", "err"))
    return Seen(
        int(status.read_text()) if status.exists() else -1,
        out.read_text(),
        err.read_text(),
        seconds,
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        print(json.dumps(let_go(Herd(**json.load(sys.stdin)), Path(work))))

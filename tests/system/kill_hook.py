"""Calls the hook as libvirt does, and kills it or a process of it; run by a Lab host's Python.

Standard input: JSON of a :class:`Call`'s fields; standard output: JSON of what libvirt would see
(``status``, ``out``, ``err``), of what was hit (``python``, ``child``, ``shell``, ``all`` of them,
or nothing), how many events there were in the directories that were watched, and after how many
seconds libvirt had its answer and nothing of the hook was left.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import struct
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
# Seconds without an event, after which there will be none; the same when the hook has answered.
SILENCE, AFTERWARDS = 3.0, 0.05
# Of sys/inotify.h: IN_MODIFY, IN_CLOSE_WRITE, IN_MOVED_TO, IN_CREATE, IN_DELETE; IN_ISDIR.
CHANGES = 0x2 | 0x8 | 0x80 | 0x100 | 0x200
CREATED_DIRECTORY = 0x40000000 | 0x100
EVENT = struct.Struct("iIII")


class Call(NamedTuple):
    """The hook's arguments and input; whom to kill, and when.

    That is ``at`` seconds after the start; or, if ``event`` is given, after that many events in the
    directories ``watched``: something was made, written, closed, renamed or removed there.
    ``command`` is run in place of the hook, in ``directory`` for temporary files.
    """

    arguments: list[str]
    xml: str
    victim: str = ""
    at: float = 0.0
    event: int = 0
    watched: list[str] = []  # noqa: RUF012 - never changed
    command: str = HOOK
    directory: str = ""


class Events:
    """Tells what happens in directories, and in what is made in them (inotify(7))."""

    def __init__(self, watched: list[str]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._events = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._paths: dict[int, str] = {}
        self.count = 0
        for path in watched:
            os.makedirs(path, mode=0o700, exist_ok=True)
            self._add(path)

    def _add(self, path: str) -> None:
        number = self._libc.inotify_add_watch(self._events, path.encode(), CHANGES)
        if number >= 0:
            self._paths[number] = path

    def wait(self, process: int, until: int) -> None:
        """Until there were so many, or nothing more comes."""
        ended = os.pidfd_open(process)
        waiting, seconds = [self._events, ended], SILENCE
        while self.count < until:
            ready = select.select(waiting, [], [], seconds)[0]
            if not ready:
                break
            if ended in ready:
                # What it started may go on for a moment.
                waiting, seconds = [self._events], AFTERWARDS
            self.take()
        os.close(ended)

    def take(self) -> None:
        """Count what there is."""
        with contextlib.suppress(BlockingIOError):
            # One at a time: whatever is larger than one event's name fits.
            data = os.read(self._events, 1 << 16)
            at = 0
            while at < len(data):
                number, mask, _, length = EVENT.unpack_from(data, at)
                name = data[at + EVENT.size : at + EVENT.size + length].rstrip(b"\0").decode()
                at += EVENT.size + length
                self.count += 1
                if mask & CREATED_DIRECTORY == CREATED_DIRECTORY:
                    self._add(f"{self._paths[number]}/{name}")


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


def find(victim: str, shell: int) -> list[int]:
    """The PIDs of the victim, or of ``all``; none if there is none now."""
    if victim == "shell":
        return [shell]
    pythons = {pid: parent for pid, parent, kind in processes() if kind == "python"}
    first = [pid for pid, parent in pythons.items() if parent not in pythons]
    if victim == "all":
        return [shell, *pythons]
    second = [pid for pid, parent in pythons.items() if parent in first]
    return (first if victim == "python" else second)[:1]


def kill(pids: list[int]) -> bool:
    """Kill processes at one instant; whether one of them had not ended by itself before."""
    # A process that has stopped cannot have ended, nor does one act on the end of another.
    stopped = [pid for pid in pids if stop(pid)]
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return bool(stopped)


def stop(pid: int) -> bool:
    """Stop a process; whether it had not ended."""
    try:
        os.kill(pid, signal.SIGSTOP)
        home = Path("/proc", str(pid))
        # It needs the processor for that, which may be this one.
        while status_of(home)[0] not in "TtZX":
            time.sleep(0.0001)
        return status_of(home)[0] in "Tt"
    except OSError:
        return False


def await_end(begun: float, before: set[str]) -> float:
    """Seconds until all that was started here has ended; fails if that takes too long."""
    end = time.monotonic() + LEFT
    while left := sorted(alive() - before):
        assert time.monotonic() < end, f"left: {left}"
        time.sleep(0.01)
    return time.monotonic() - begun


def alive() -> set[str]:
    """The PIDs of what runs in this host, with their programs; zombies are gone."""
    found = set()
    for home in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if status_of(home)[0] not in "ZX":
                found.add(f"{home.name} {os.readlink(home / 'exe')}")
    return found


def go_first() -> None:
    """Have an event stop whoever caused it: both on one processor, and this process first.

    What it starts has that processor, and no more right to it than others.
    """
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with contextlib.suppress(OSError):
        policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(1))


def carry_out(call: Call) -> dict[str, object]:
    """Call the hook, and kill the victim if it is there by then."""
    events = Events(call.watched)
    before = alive()
    if call.watched:
        go_first()
    begun = time.monotonic()
    pipe = subprocess.PIPE
    environment = {**os.environ, **({"TMPDIR": call.directory} if call.directory else {})}
    with subprocess.Popen(
        [call.command, *call.arguments], stdin=pipe, stdout=pipe, stderr=pipe, env=environment
    ) as process:
        assert process.stdin is not None
        # The XML is less than a pipe holds; who needs none does not wait for it.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(call.xml.encode())
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdin = None
        hit = False
        # All events, where none is waited for and nobody is killed.
        if call.event or (call.watched and not call.victim):
            events.wait(process.pid, call.event or 1 << 30)
        if call.victim:
            time.sleep(call.at)
            hit = kill(find(call.victim, process.pid))
        out, err = process.communicate()
        answered = time.monotonic() - begun
    gone = await_end(begun, before)
    events.take()
    return {
        "status": process.returncode,
        "out": out.decode(),
        "err": err.decode(),
        "hit": call.victim if hit else "",
        "events": events.count,
        "answered": answered,
        "gone": gone,
    }


if __name__ == "__main__":
    print(json.dumps(carry_out(Call(**json.load(sys.stdin)))))

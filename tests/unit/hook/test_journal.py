"""The log, and that nothing it may be set to stops or delays who writes to it."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
import syslog
import time
from pathlib import Path

import pytest

from unit.hooked import PLUGIN
from vfio_preflight.hook import journal, native


class Syslog:
    """What went to syslog, as level and line; another process writes there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, level: int, line: str) -> None:
        with self.path.open("a") as file:
            file.write(f"{level} {line}\n")

    def lines(self) -> list[tuple[int, str]]:
        """All lines so far."""
        text = self.path.read_text() if self.path.exists() else ""
        split = (line.split(" ", 1) for line in text.splitlines())
        return [(int(level), line) for level, line in split]


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Syslog:
    made = Syslog(tmp_path / "syslog")
    monkeypatch.setattr(native, "SOCKET", str(tmp_path / "no-journal"))
    monkeypatch.setattr(syslog, "openlog", lambda *_: None)
    monkeypatch.setattr(syslog, "syslog", made.write)
    return made


def write(log: str | Path, line: str, *, warning: bool = False) -> None:
    """Wait for longer than the hook would, on a machine that may be busy."""
    journal.write(str(log), line, warning=warning, patience=10.0)


def test_syslog(daemon: Syslog) -> None:
    write("syslog", "all is well")
    write("syslog", "all is not", warning=True)
    assert daemon.lines() == [
        (syslog.LOG_INFO, "all is well"),
        (syslog.LOG_WARNING, "all is not"),
    ]


def test_none(daemon: Syslog) -> None:
    write("none", "x", warning=True)
    assert daemon.lines() == []


def test_file(tmp_path: Path, daemon: Syslog) -> None:
    path = tmp_path / "x.log"
    write(path, "one")
    write(path, "two", warning=True)
    assert [line.split(": ", 1)[1] for line in path.read_text().splitlines()] == ["one", "two"]
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ vfio-preflight\[\d+\]: one"
    assert re.fullmatch(stamp, path.read_text().splitlines()[0])
    assert stat.S_IMODE(path.stat().st_mode) & 0o027 == 0
    assert daemon.lines() == []


def test_file_that_cannot_be_opened(tmp_path: Path, daemon: Syslog) -> None:
    write(tmp_path / "none" / "x.log", "one")
    assert daemon.lines() == [(syslog.LOG_WARNING, "one")]


def test_file_that_cannot_be_written(daemon: Syslog) -> None:
    write("/dev/full", "one")
    assert daemon.lines() == [(syslog.LOG_WARNING, "one")]


def test_fifo_without_reader(tmp_path: Path, daemon: Syslog) -> None:
    os.mkfifo(tmp_path / "fifo")
    write(tmp_path / "fifo", "one")
    assert daemon.lines() == [(syslog.LOG_WARNING, "one")]


def test_fifo_that_is_full(tmp_path: Path, daemon: Syslog) -> None:
    os.mkfifo(tmp_path / "fifo")
    descriptor = os.open(tmp_path / "fifo", os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(descriptor, b"x" * (1 << 20))
        write(tmp_path / "fifo", "one")
    finally:
        os.close(descriptor)
    assert daemon.lines() == [(syslog.LOG_WARNING, "one")]


def test_one_line_whatever_it_holds(tmp_path: Path, daemon: Syslog) -> None:
    path = tmp_path / "x.log"
    write(path, "a\nb\x1b[31m\u2028c\ud800d")
    assert path.read_text().splitlines()[0].endswith(": a?b?[31m?c?d")
    assert len(path.read_text().splitlines()) == 1


# --- what blocks ---------------------------------------------------------------------------------

STUCK = """
import os, sys, syslog, time
from vfio_preflight.hook import journal, native
native.SOCKET = "/nonexistent"
def stuck(*_):
    with open(sys.argv[1], "w") as file:
        file.write(str(os.getpid()))
    time.sleep(60)
syslog.syslog = stuck
journal.LIFETIME = 1
time.sleep(0.1)
journal.write("syslog", "one", patience=0.5)
print("done")
"""


def test_syslog_that_blocks_holds_nobody_up(tmp_path: Path) -> None:
    """Neither the caller, nor who waits for the caller's pipes; nor does it stay for ever."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", STUCK, str(tmp_path / "pid")],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(PLUGIN)},
        timeout=20,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"done\n", b"")
    assert 0.5 < time.monotonic() - started < 5.0
    process = Path("/proc") / (tmp_path / "pid").read_text()
    end = time.monotonic() + 5.0
    while process.exists() and "\nState:\tZ" not in (process / "status").read_text():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_socket_that_nobody_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hung syslog daemon's, with its queue full: send() blocks, as it does in syslog(3)."""
    path = str(tmp_path / "log")

    def connected() -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        client.connect(path)
        return client

    monkeypatch.setattr(native, "SOCKET", str(tmp_path / "no-journal"))
    monkeypatch.setattr(syslog, "syslog", lambda _level, line: connected().send(line.encode()))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hung:
        hung.bind(path)
        with connected() as client, pytest.raises(BlockingIOError):
            client.setblocking(False)
            while True:
                client.send(b"x")
        started = time.monotonic()
        journal.write("syslog", "one", patience=0.2)
        assert 0.2 <= time.monotonic() - started < 1.5


@pytest.mark.parametrize("log", ["syslog", "file"])
def test_no_process_can_be_started(
    log: str, tmp_path: Path, daemon: Syslog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fork() -> int:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(os, "fork", fork)
    before = os.listdir("/proc/self/fd")
    journal.write(log if log == "syslog" else str(tmp_path / "x.log"), "one")
    assert (tmp_path / "x.log").exists() is (log == "file")
    assert daemon.lines() == []
    assert len(os.listdir("/proc/self/fd")) == len(before)

"""Programs end with whoever started them, and with all that they started themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unit.patience import ends, is_alive
from vfio_preflight.osutil import program
from vfio_preflight.osutil.executable import unprivileged_user
from vfio_preflight.osutil.program import Limits, ProgramError, start

# The program's process id, and that of one which it has started; both would run for a minute.
FAMILY = ("/bin/sh", "-c", "sleep 60 & echo $$ $!; exec sleep 60")

CALLER = """
import sys, time
from vfio_preflight.osutil import program
from vfio_preflight.osutil.executable import unprivileged_user
started = program.start(sys.argv[1:], unprivileged_user(), program.Limits())
print(started.process.stdout.readline().decode(), flush=True)
time.sleep(60)
"""


def end_of(pids: list[int]) -> None:
    with ends():
        while any(map(is_alive, pids)):
            time.sleep(0.005)


def test_end_reaches_what_it_has_started() -> None:
    started = start(FAMILY, unprivileged_user(), Limits())
    assert started.process.stdout is not None
    pids = [*map(int, started.process.stdout.readline().split())]
    assert len(pids) == 2 and all(map(is_alive, pids))
    program.end(started)
    assert started.process.returncode == -signal.SIGKILL
    end_of(pids)


def test_end_reaches_what_is_left_of_one_that_has_ended() -> None:
    started = start(("/bin/sh", "-c", "sleep 60 & echo $!"), unprivileged_user(), Limits())
    assert started.process.stdout is not None
    pid = int(started.process.stdout.readline())
    assert program.wait(started, 10) == 0
    assert is_alive(pid)
    program.end(started)
    end_of([pid])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_caller_that_is_killed_takes_all_along(number: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", CALLER, *FAMILY]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdout=pipe, stderr=null, env=environment) as caller:
        assert caller.stdout is not None
        pids = [*map(int, caller.stdout.readline().split())]
        assert len(pids) == 2 and all(map(is_alive, pids))
        caller.send_signal(number)
        caller.wait()
        end_of(pids)


def test_caller_that_is_killed_at_any_moment_leaves_nothing(tmp_path: Path) -> None:
    """In the moment of the start above all: the program writes its number as soon as it runs."""
    script = f"echo x >{tmp_path}/$$; exec sleep 60"
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", MANY, "/bin/sh", "-c", script]
    for attempt in range(8):
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as caller:
            assert caller.stdout is not None
            caller.stdout.readline()
            time.sleep(attempt * 0.0007)
            caller.kill()
    time.sleep(0.1)
    end_of([int(path.name) for path in tmp_path.iterdir()])


MANY = """
import sys
from vfio_preflight.osutil import program
print(flush=True)
started = [program.start(sys.argv[1:], None, program.Limits()) for _ in range(50)]
"""


def test_limits() -> None:
    limits = Limits(cpu=7, memory=1 << 30, file_size=4096)
    script = "ulimit -c; ulimit -t; ulimit -v; ulimit -f"
    started = start(("/bin/sh", "-c", script), None, limits)
    assert started.process.stdout is not None
    assert started.process.stdout.read().split() == [b"0", b"7", b"1048576", b"8"]
    program.end(started)


def test_what_cannot_be_started_leaves_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ProgramError, match=r"cannot be started.*: No such file or directory"):
        start(("/nonexistent",), unprivileged_user(), Limits())
    program.end(start(("/bin/true",), unprivileged_user(), Limits()))
    assert len(os.listdir("/proc/self/fd")) == len(before)

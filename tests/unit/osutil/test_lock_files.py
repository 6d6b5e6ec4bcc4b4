"""Locks, and who may have others wait."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vfio_preflight.osutil.locks import is_taken, lock_file


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first, second = (lock_file(str(tmp_path / "locks"), "a") for _ in range(2))
    other = lock_file(str(tmp_path / "locks"), "b")
    assert is_taken(first) and is_taken(first) and is_taken(other)
    assert not is_taken(second)
    os.close(first)
    assert is_taken(second)
    os.close(second)
    os.close(other)


def test_lock_of_a_holder_that_was_killed_is_free(tmp_path: Path) -> None:
    program = (
        "import os, sys; from vfio_preflight.osutil import locks;"
        " locks.is_taken(locks.lock_file(sys.argv[1], 'a')); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=environment)
    assert done.returncode == -9
    lock = lock_file(str(tmp_path), "a")
    assert is_taken(lock)
    os.close(lock)


def test_files_are_private(tmp_path: Path) -> None:
    os.close(lock_file(str(tmp_path / "locks"), "a"))
    assert (tmp_path / "locks").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "locks" / "a").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_directory_of_others_has_no_lock(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(OSError, match="writable by other users"):
        lock_file(str(tmp_path), "a")


def test_file_that_others_can_open_is_no_lock(tmp_path: Path) -> None:
    """Whoever can open it can hold it for ever."""
    (tmp_path / "a").touch(0o644)
    (tmp_path / "a").chmod(0o644)
    with pytest.raises(OSError, match="no lock of ours"):
        lock_file(str(tmp_path), "a")


def test_what_is_no_file_is_no_lock(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    os.symlink("/dev/null", tmp_path / "link")
    for name in ("fifo", "link"):
        with pytest.raises(OSError):
            lock_file(str(tmp_path), name)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "a").touch(0o644)
    (tmp_path / "a").chmod(0o644)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):
        lock_file(str(tmp_path), "a")
    assert len(os.listdir("/proc/self/fd")) == before

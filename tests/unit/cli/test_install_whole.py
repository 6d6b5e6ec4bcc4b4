"""An installation is made as a whole or not at all, whatever ends it."""

from __future__ import annotations

import compileall
import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from unit.cli.installed import (
    HOOK,
    LIBRARY,
    RULES,
    files,
    hook_modules,
    leftovers,
    make_flat,
    run,
    small_package,
    versions,
)
from vfio_preflight.cli.installation import payload
from vfio_preflight.cli.installation.transaction import alone

OLDER = "# older\n"


@pytest.fixture(params=["fresh", "upgrade", "flat"])
def older(
    request: pytest.FixtureRequest, empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An older version, as it is installed now and as it was once, or nothing.

    What is installed from now on is a newer one.
    """
    if request.param != "fresh":
        small_package(tmp_path / "older", OLDER, monkeypatch)
        assert run("install", empty) == 0
    small_package(tmp_path / "newer", "", monkeypatch)
    if request.param == "flat":
        make_flat(empty)
    return empty


def tree(root: Path) -> dict[str, object]:
    """All of it, with inodes: what was put back is the file that was there."""
    found: dict[str, object] = {}
    for path in root.rglob("*"):
        info = path.lstat()
        target = os.readlink(path) if path.is_symlink() else ""
        inode = 0 if target else info.st_ino
        found[str(path)] = (inode, info.st_mode, info.st_size * (not path.is_dir()), target)
    return found


STEPS = ("rename", "replace", "link", "symlink", "mkdir", "fsync", "chmod")


def run_with(root: Path, at: int, happens: Callable[[str], None]) -> tuple[int, int]:
    """Install, with what ``happens`` before one of the changes of files; status and changes."""
    done = [0]

    def counted(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(*arguments: object, **options: object) -> object:
            # Not of makedirs() for what is there already, which takes any error for that.
            done[0] += name != "mkdir" or not os.path.isdir(str(arguments[0]))
            if done[0] == at + 1:
                done[0] += 1
                happens(str(arguments[0]))
            # Nobody pulls the plug here, and a busy disk takes its time.
            return None if name == "fsync" else real(*arguments, **options)

        return call

    patch = pytest.MonkeyPatch()
    for name in STEPS:
        patch.setattr(os, name, counted(name))
    try:
        return run("install", root), done[0]
    finally:
        patch.undo()


def instants(root: Path) -> list[int]:
    """Some of the changes while files are staged, and all of those that others can see."""
    copy = root.parent / "counted"
    shutil.copytree(root, copy, symlinks=True)
    status, changes = run_with(copy, 1 << 30, lambda _path: None)
    assert status == 0
    return [*range(changes)] if changes < 120 else [0, 1, 100, *range(changes - 32, changes)]


def test_failure_leaves_what_was_there(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The disk is full at any of the changes."""

    def full(path: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    was = tree(older)
    for step in instants(older):
        capsys.readouterr()
        status, _ = run_with(older, step, full)
        err = capsys.readouterr().err
        assert (status, err.count("\n")) == (2, 1), step
        assert "No space left on device; make room there; nothing was changed" in err
        assert tree(older) == was, step


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_leaves_what_was_there(
    number: signal.Signals,
    older: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    was, handler = tree(older), signal.getsignal(number)
    rename = os.rename

    def interrupted(source: str, target: str) -> None:
        rename(source, target)
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", interrupted)
        assert run("install", older) == 2
    err = capsys.readouterr().err
    assert err == f"vfio-preflight: interrupted by {number.name}; nothing was changed\n"
    assert tree(older) == was
    assert signal.getsignal(number) is handler


def test_compiler_that_fails_for_lack_of_room(
    older: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    was = tree(older)
    monkeypatch.setattr(compileall, "compile_dir", lambda *_args, **_options: False)
    assert run("install", older) == 2
    assert "not all of it can be compiled" in capsys.readouterr().err
    assert tree(older) == was


def test_two_at_once(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with alone(str(root)):
        for command in ("install", "uninstall"):
            assert run(command, root) == 2
            assert "another installation" in capsys.readouterr().err
    assert run("install", root) == 0


DEAD = 4194304  # beyond the largest process number that Linux gives


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_what_a_killed_one_left_is_swept(command: str, root: Path) -> None:
    left = [
        root / LIBRARY / ".0.1.0-12345678/vfio_preflight/x.py",
        root / HOOK / f"../../.50-vfio-preflight.{DEAD}",
        root / HOOK / f"../.50-vfio-preflight.{DEAD}",
        root / f"usr/bin/.vfio-preflight.{DEAD}.old",
        root / f"etc/.vfio-preflight.conf.{DEAD}",
        root / RULES / f".nvidia.ini.{DEAD}",
        root / LIBRARY / f".current.{DEAD}",
    ]
    theirs = root / f"usr/bin/.other.{DEAD}"
    for path in (*left, theirs):
        target = Path(os.path.normpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("left")
    assert run(command, root) == 0
    assert leftovers(root) == [str(theirs.relative_to(root))]


def test_what_another_one_is_writing_is_not_swept(root: Path, tmp_path: Path) -> None:
    """An older version's install takes no lock."""
    (tmp_path / "install").write_text("#!/bin/sh\nread line\n")
    with subprocess.Popen(["sh", str(tmp_path / "install")], stdin=subprocess.PIPE) as other:
        name = f"usr/bin/.vfio-preflight.{other.pid}"
        (root / name).write_text("half")
        assert run("install", root) == 0
        assert leftovers(root) == [name]
        other.communicate(b"\n")
    assert run("install", root) == 0
    assert leftovers(root) == []


def killed(root: Path, at: int) -> bool:
    """Install, killed before that change of files; whether it came so far."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        run_with(root, at, lambda _path: os.kill(os.getpid(), signal.SIGKILL))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_killed_at_any_change(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """libvirt runs a whole version, the old one or the new; the next installation is as any."""
    was = hook_modules(older)
    copy = older.parent / "copy"
    seen = set()
    for step in instants(older):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(older, copy, symlinks=True)
        assert killed(copy, step)
        now = hook_modules(copy)
        assert now in (was, (True, {False})), step
        seen.add(now == was)
        assert run("install", copy) == 0, capsys.readouterr().err
        assert hook_modules(copy) == (True, {False})
        assert leftovers(copy) == [], step
        assert len(versions(copy)) <= 2
    assert seen == ({True} if was == (False, set()) else {True, False})


@pytest.mark.parametrize("older", ["upgrade", "flat"], indirect=True)
def test_killed_upgrade_can_be_rolled_back(
    older: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By an installation of the version that was there older, or by none."""
    copy, newer = older.parent / "copy", payload.PACKAGE
    for step in instants(older):
        for command, wanted in (("install", (True, {True})), ("uninstall", (False, set()))):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(older, copy, symlinks=True)
            monkeypatch.setattr(payload, "PACKAGE", newer)
            assert killed(copy, step)
            monkeypatch.setattr(payload, "PACKAGE", newer.replace("newer", "older"))
            status = run(command, copy)
            err = capsys.readouterr().err
            if command == "uninstall" and "nothing to remove" in err:
                assert not (copy / HOOK).exists()
                continue
            assert status == 0, err
            assert hook_modules(copy) == wanted
            assert leftovers(copy) == []
            assert command == "install" or files(copy) == {}

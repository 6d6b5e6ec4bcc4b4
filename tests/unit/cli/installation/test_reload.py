"""Whether libvirt has to be reloaded; tests/system/test_install.py has libvirt itself."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vfio_preflight.cli.installation import reload
from vfio_preflight.cli.installation.reload import NEEDED, NOT_NEEDED, UNLESS_DONE, advice, hooks

TICKS = os.sysconf("SC_CLK_TCK")


def make_hook(root: Path, name: str, mode: int = 0o755) -> Path:
    path = root / "etc/libvirt/hooks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def make_daemon(root: Path, age: float, name: str = "libvirtd", pid: int = 77) -> Path:
    """A process that started ``age`` seconds ago; below 0, one that will start."""
    (root / "etc").mkdir(exist_ok=True)
    home = root / "proc" / str(pid)
    home.mkdir(parents=True)
    (home / "root").symlink_to(root)
    ticks = int((time.clock_gettime(time.CLOCK_BOOTTIME) - age) * TICKS)
    fields = ["S", *["0"] * 18, str(ticks), "0"]
    (home / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
    return home


def decided(root: Path) -> str:
    return advice(str(root), hooks(str(root)), staged=False).reload


@pytest.mark.parametrize("name", ["qemu", "qemu.d/10-other", "qemu.d/.hidden", "qemu.d/README"])
def test_executable_regular_file_is_a_hook(name: str, tmp_path: Path) -> None:
    path = make_hook(tmp_path, name, 0o710)
    assert [hook.path for hook in hooks(str(tmp_path))] == [str(path)]


@pytest.mark.parametrize("name", ["qemu", "qemu.d/10-other"])
@pytest.mark.parametrize("kind", ["plain", "directory", "dangling", "fifo", "link to a directory"])
def test_nothing_else_is(name: str, kind: str, tmp_path: Path) -> None:
    path = make_hook(tmp_path, name, 0o644)
    if kind != "plain":
        path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "dangling":
        path.symlink_to("/nonexistent")
    elif kind == "fifo":
        os.mkfifo(path, 0o777)
    elif kind == "link to a directory":
        path.symlink_to(tmp_path)
    assert hooks(str(tmp_path)) == []


@pytest.mark.parametrize("name", ["lxc", "daemon", "qemu.d.old/10-other", "qemu.d/sub/10-other"])
def test_nor_is_a_hook_of_something_else(name: str, tmp_path: Path) -> None:
    make_hook(tmp_path, name)
    assert hooks(str(tmp_path)) == []


def test_link_to_a_hook_is_one(tmp_path: Path) -> None:
    target = make_hook(tmp_path, "elsewhere")
    (tmp_path / "etc/libvirt/hooks/qemu.d").mkdir()
    (tmp_path / "etc/libvirt/hooks/qemu.d/1").symlink_to(target)
    assert len(hooks(str(tmp_path))) == 1


def test_no_daemon_runs(tmp_path: Path) -> None:
    make_daemon(tmp_path, 100, name="virtnetworkd")
    assert decided(tmp_path) == NOT_NEEDED


@pytest.mark.parametrize("daemon", ["libvirtd", "virtqemud"])
def test_no_hook_when_it_started(daemon: str, tmp_path: Path) -> None:
    make_daemon(tmp_path, 100, daemon)
    make_hook(tmp_path, "qemu", 0o644)
    assert decided(tmp_path) == NEEDED


def test_hook_is_older_than_the_daemon(tmp_path: Path) -> None:
    make_hook(tmp_path, "qemu")
    # A file's ctime cannot be set back.
    make_daemon(tmp_path, -60)
    assert decided(tmp_path) == NOT_NEEDED


def test_hook_is_younger_than_the_daemon(tmp_path: Path) -> None:
    make_hook(tmp_path, "qemu")
    make_daemon(tmp_path, 100)
    assert decided(tmp_path) == UNLESS_DONE


def test_daemon_of_a_container_does_not_count(tmp_path: Path) -> None:
    home = make_daemon(tmp_path, 100)
    (home / "root").unlink()
    (tmp_path / "other/etc").mkdir(parents=True)
    (home / "root").symlink_to(tmp_path / "other")
    assert decided(tmp_path) == NOT_NEEDED


def test_daemon_of_a_user_does_not_count(tmp_path: Path) -> None:
    home = make_daemon(tmp_path, 100)
    if os.geteuid() != 0:
        pytest.skip("lacks root's rights")
    os.chown(home, 1000, 1000)
    assert decided(tmp_path) == NOT_NEEDED


@pytest.mark.parametrize(("mode", "expected"), [(0o755, UNLESS_DONE), (0o644, NEEDED)])
def test_staged(mode: int, expected: str, tmp_path: Path) -> None:
    make_hook(tmp_path, "qemu.d/1", mode)
    found = advice(str(tmp_path), hooks(str(tmp_path)), staged=True)
    assert found.reload == expected and reload.RELOAD in found.text

"""What is swept, and what is not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vfio_preflight.osutil import leftovers
from vfio_preflight.osutil.leftovers import AGE, sweep

OLD = time.time() - AGE - 60


def make(path: Path, content: str = "", when: float = OLD) -> Path:
    """A directory with a file in it, or a file if there is ``content``; last touched ``when``."""
    if content:
        path.write_text(content)
    else:
        (path / "source" / "0000:01:00.0").mkdir(parents=True)
        (path / "source" / "0000:01:00.0" / "config").write_text("x")
    os.utime(path, (when, when))
    return path


def test_old_ones_are_removed(tmp_path: Path) -> None:
    make(tmp_path / "vfio-preflight-0123")
    make(tmp_path / "vfio-preflight-file", "x")
    sweep(str(tmp_path))
    assert [*tmp_path.iterdir()] == []


def test_what_may_be_in_use_stays(tmp_path: Path) -> None:
    young = make(tmp_path / "vfio-preflight-0123", when=time.time() - AGE / 2)
    # After the clock was put back.
    future = make(tmp_path / "vfio-preflight-4567", when=time.time() + 10 * AGE)
    sweep(str(tmp_path))
    assert {*tmp_path.iterdir()} == {young, future}


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    other = make(tmp_path / "somebody's")
    target = make(tmp_path / "target")
    link = tmp_path / "vfio-preflight-link"
    link.symlink_to(target)
    os.utime(link, (OLD, OLD), follow_symlinks=False)
    sweep(str(tmp_path))
    assert {*tmp_path.iterdir()} == {other, target, link}
    assert (target / "source").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a directory away")
def test_another_users_stays(tmp_path: Path) -> None:
    theirs = make(tmp_path / "vfio-preflight-0123")
    os.chown(theirs, 65534, 65534)
    sweep(str(tmp_path))
    assert theirs.exists()


def test_links_within_are_not_followed(tmp_path: Path) -> None:
    kept = make(tmp_path / "kept")
    scratch = make(tmp_path / "vfio-preflight-0123")
    (scratch / "link").symlink_to(kept)
    os.utime(scratch, (OLD, OLD))
    sweep(str(tmp_path))
    assert not scratch.exists() and (kept / "source").exists()


def test_no_directory_is_no_error(tmp_path: Path) -> None:
    sweep(str(tmp_path / "none"))


def test_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the hook's child it is where its own directory lies."""
    monkeypatch.delenv("TMPDIR", raising=False)
    assert leftovers.place() == "/tmp"
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert leftovers.place() == str(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "vfio-preflight-0123"))
    assert leftovers.place() == str(tmp_path)
    make(tmp_path / "vfio-preflight-old")
    sweep()
    assert [*tmp_path.iterdir()] == []

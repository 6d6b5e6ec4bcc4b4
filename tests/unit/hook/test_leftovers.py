"""What killed hooks leave is swept by the next run, by age."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from unit.hooked import Host, domain, present
from unit.patience import PATIENCE
from vfio_preflight.hook.leftovers import AGE, sweep

OURS = "vfio-preflight-0123456789abcdef"


def make(path: Path, age: float) -> Path:
    path.mkdir()
    (path / "config").touch()
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.mark.parametrize(
    ("name", "age", "stays"),
    [
        (OURS, AGE + 60, False),
        (OURS, -AGE - 60, False),
        (OURS, AGE - 60, True),
        (OURS, 0, True),
        ("vfio-preflight-x", AGE + 60, True),
        (f"{OURS}0", AGE + 60, True),
    ],
)
def test_sweep(name: str, age: float, stays: bool, tmp_path: Path) -> None:
    path = make(tmp_path / name, age)
    sweep(str(tmp_path))
    assert path.exists() is stays


def test_nothing_of_others_is_swept(tmp_path: Path) -> None:
    theirs = make(tmp_path / OURS, AGE + 60)
    os.chown(theirs, 4242, 4242)
    elsewhere = make(tmp_path / "elsewhere", AGE + 60)
    (tmp_path / f"{OURS[:-1]}0").symlink_to(elsewhere)
    sweep(str(tmp_path))
    assert theirs.exists() and (elsewhere / "config").exists()
    sweep(str(tmp_path / "none"))


@pytest.mark.parametrize("operation", ["migrate", "restore"])
def test_next_run_sweeps(operation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    path = make(place / OURS, AGE + 60)
    host = Host(tmp_path)
    host.configure()
    present(host)
    assert host.run(domain(), operation).status == 0
    # libvirt has its answer before.
    end = time.monotonic() + PATIENCE
    while list(place.iterdir()) and time.monotonic() < end:
        time.sleep(0.01)
    assert list(place.iterdir()) == [] and not path.exists()

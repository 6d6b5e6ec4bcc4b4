"""What killed processes have left in our directories goes, whether or not anything is written."""

from __future__ import annotations

import os
import time
from pathlib import Path

from unit.hooked import Host, domain, present
from vfio_preflight.configuration import Configuration
from vfio_preflight.hook.sweeping import sweep

HOUR = 3600
PLACES = (
    "cache",
    "catalogue",
    "history/refused",
    "history/others",
    *(f"run/{kind}" for kind in ("second-gate", "expected", "started")),
)


def leave(path: Path, seconds: float = HOUR) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{")
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_every_place_is_swept(tmp_path: Path) -> None:
    old = [leave(tmp_path / place / ".0123.tmp") for place in PLACES]
    young = [leave(tmp_path / place / ".4567.tmp", 0) for place in PLACES]
    entries = [leave(tmp_path / place / "entry.json") for place in PLACES]
    (tmp_path / "run/refused/g-g1").mkdir(parents=True)
    runtime, catalogue, history, cache = (
        str(tmp_path / name) for name in ("run", "catalogue", "history", "cache")
    )
    sweep(Configuration(runtime=runtime, catalogue=catalogue, history=history, cache=cache))
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in (*young, *entries))
    assert not (tmp_path / "run/refused/g-g1").exists()


def test_directories_that_are_not_there(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "none")
    sweep(Configuration(runtime=nowhere, catalogue=nowhere, history=nowhere, cache=nowhere))
    assert [*tmp_path.iterdir()] == []


def test_hook_that_has_nothing_to_write_there_sweeps(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.configure()
    present(host)
    left = leave(tmp_path / "run/started/.0123.tmp")
    assert host.run(domain()).status == 0
    end = time.monotonic() + 10
    # Nobody waits for it.
    while left.exists():
        assert time.monotonic() < end
        time.sleep(0.01)

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vfio_preflight.osutil import jsondir


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "var" / "cache"


def test_store_load_round_trip(directory: Path) -> None:
    jsondir.store(str(directory), "a", {"x": [1, None, "ü"]})
    assert jsondir.load(str(directory), "a") == {"x": [1, None, "ü"]}
    assert (directory / "a.json").stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    assert os.listdir(directory) == ["a.json"]


def test_load_missing(directory: Path) -> None:
    assert jsondir.load(str(directory), "a") is None
    directory.mkdir(parents=True)
    assert jsondir.load(str(directory), "a") is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 200_000, b"0" * (2 << 20)])
def test_load_damaged(directory: Path, content: bytes) -> None:
    jsondir.store(str(directory), "a", 1)
    (directory / "a.json").write_bytes(content)
    assert jsondir.load(str(directory), "a") is None
    jsondir.store(str(directory), "a", 2)
    assert jsondir.load(str(directory), "a") == 2


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_load_refuses_what_others_can_write(directory: Path, mode: int) -> None:
    jsondir.store(str(directory), "a", 1)
    (directory / "a.json").chmod(mode)
    assert jsondir.load(str(directory), "a") is None


def test_directory_that_others_can_write_is_not_used(directory: Path) -> None:
    jsondir.store(str(directory), "a", 1)
    directory.chmod(0o777)
    assert jsondir.load(str(directory), "a") is None
    jsondir.store(str(directory), "b", 1)
    assert os.listdir(directory) == ["a.json"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")
def test_load_refuses_what_belongs_to_others(directory: Path) -> None:
    jsondir.store(str(directory), "a", 1)
    os.chown(directory / "a.json", 65534, 65534)
    assert jsondir.load(str(directory), "a") is None


def test_load_refuses_links_and_pipes(directory: Path) -> None:
    jsondir.store(str(directory), "a", 1)
    (directory / "link.json").symlink_to("a.json")
    os.mkfifo(directory / "pipe.json", 0o600)
    assert jsondir.load(str(directory), "link") is None
    assert jsondir.load(str(directory), "pipe") is None


def test_store_where_nothing_can_be_stored(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not jsondir.store(str(tmp_path / "file"), "a", 1)
    assert jsondir.names(str(tmp_path / "file")) == []
    jsondir.store(str(tmp_path / "file"), "a", 1)
    jsondir.store(str(tmp_path / "file" / "below"), "a", 1)
    jsondir.store(str(tmp_path), "a" * 300, 1)
    assert os.listdir(tmp_path) == ["file"]


def test_store_is_bounded(directory: Path) -> None:
    for number in range(40):
        jsondir.store(str(directory), f"{number:02}", number)
        os.utime(directory / f"{number:02}.json", (number, number))
    assert len(os.listdir(directory)) <= 17
    assert jsondir.load(str(directory), "39") == 39
    assert jsondir.load(str(directory), "00") is None


@pytest.mark.parametrize("age", [-3600, 3600], ids=["the clock was set back", "old"])
def test_what_a_killed_writer_left_goes_with_the_next_one(age: int, directory: Path) -> None:
    jsondir.store(str(directory), "a", 1)
    for name, seconds in (("old", age), ("new", 0)):
        (directory / f".{name}.tmp").touch()
        os.utime(directory / f".{name}.tmp", (time.time() - seconds,) * 2)
    jsondir.store(str(directory), "b", 1)
    assert sorted(os.listdir(directory)) == [".new.tmp", "a.json", "b.json"]


def test_what_killed_writers_left_is_swept_without_a_next_one(directory: Path) -> None:
    jsondir.sweep(str(directory))
    jsondir.store(str(directory), "a", 1)
    for name, seconds in (("old", 3600), ("new", 0)):
        (directory / f".{name}.tmp").touch()
        os.utime(directory / f".{name}.tmp", (time.time() - seconds,) * 2)
    os.utime(directory / "a.json", (0, 0))
    jsondir.sweep(str(directory))
    assert sorted(os.listdir(directory)) == [".new.tmp", "a.json"]
    os.utime(directory / ".new.tmp", (0, 0))
    directory.chmod(0o777)
    jsondir.sweep(str(directory))
    assert ".new.tmp" in os.listdir(directory), "somebody else's, perhaps"


def test_latest_entry_stays_though_the_clock_was_set_back(directory: Path) -> None:
    for number in range(3):
        assert jsondir.store(str(directory), f"{number}", number)
        os.utime(directory / f"{number}.json", (time.time() + 86400 + number,) * 2)
    for name in ("3", "4"):
        assert jsondir.store(str(directory), name, name, limit=3)
        assert jsondir.load(str(directory), name) == name
    assert jsondir.names(str(directory)) == ["1", "2", "4"]


def test_entries_in_use_outlive_others(directory: Path) -> None:
    for number in range(3):
        assert jsondir.store(str(directory), f"{number}", number)
        os.utime(directory / f"{number}.json", (number, number))
    jsondir.used(str(directory), "0")
    jsondir.used(str(directory), "none")
    assert jsondir.store(str(directory), "3", 3, limit=3)
    assert jsondir.names(str(directory)) == ["0", "2", "3"]


def test_remove(directory: Path) -> None:
    assert not jsondir.remove(str(directory), "a")
    jsondir.store(str(directory), "a", 1)
    assert jsondir.remove(str(directory), "a")
    assert jsondir.names(str(directory)) == []


def test_concurrent_readers_see_whole_entries(directory: Path) -> None:
    values = [[number] * 2000 for number in range(8)]
    jsondir.store(str(directory), "a", values[0])

    def work(number: int) -> bool:
        jsondir.store(str(directory), "a", values[number % 8])
        return jsondir.load(str(directory), "a") in values

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))
    assert os.listdir(directory) == ["a.json"]

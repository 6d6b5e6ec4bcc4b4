from __future__ import annotations

import os
from pathlib import Path

import pytest

from vfio_preflight.host.guestlog import LOGS, MAX_TEXT, Mark, mark, since


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The log of guest g1, which has seen an attempt."""
    path = tmp_path / LOGS / "g1.log"
    path.parent.mkdir(parents=True)
    path.write_text("earlier\n")
    return path


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_what_stands_behind_the_mark(log: Path, tmp_path: Path) -> None:
    before = mark("g1", str(tmp_path))
    append(log, "now\n")
    assert since("g1", before, str(tmp_path)) == ("now\n", True, "")


def test_nothing_was_written(log: Path, tmp_path: Path) -> None:
    assert since("g1", mark("g1", str(tmp_path)), str(tmp_path)) == ("", True, "")


def test_log_that_did_not_exist_yet(log: Path, tmp_path: Path) -> None:
    log.unlink()
    before = mark("g1", str(tmp_path))
    assert before == Mark()
    append(log, "now\n")
    assert since("g1", before, str(tmp_path)) == ("now\n", True, "")


@pytest.mark.parametrize("suffix", [".0", ".1"])
def test_renamed_meanwhile(suffix: str, log: Path, tmp_path: Path) -> None:
    before = mark("g1", str(tmp_path))
    append(log, "one\n")
    log.rename(f"{log}{suffix}")
    log.write_text("two\n")
    assert since("g1", before, str(tmp_path)) == ("one\ntwo\n", True, "")


def test_renamed_beyond_what_is_looked_at(log: Path, tmp_path: Path) -> None:
    before = mark("g1", str(tmp_path))
    log.rename(f"{log}.2")
    log.write_text("two\n")
    Path(f"{log}.0").write_text("another's\n")
    assert since("g1", before, str(tmp_path)) == ("two\n", False, "")


def test_truncated_meanwhile(log: Path, tmp_path: Path) -> None:
    before = mark("g1", str(tmp_path))
    os.truncate(log, 0)
    append(log, "now\n")
    assert since("g1", before, str(tmp_path)) == ("now\n", False, "")


def test_truncated_and_grown_beyond_its_size(log: Path, tmp_path: Path) -> None:
    before = mark("g1", str(tmp_path))
    os.truncate(log, 0)
    append(log, "longer than it was\n")
    assert since("g1", before, str(tmp_path)) == ("longer than it was\n", False, "")


def test_of_much_the_end(log: Path, tmp_path: Path) -> None:
    before = mark("g1", str(tmp_path))
    append(log, "x" * MAX_TEXT + "end")
    text, whole, _ = since("g1", before, str(tmp_path))
    assert (len(text), text[-4:], whole) == (MAX_TEXT, "xend", False)


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo"])
def test_unreadable(kind: str, log: Path, tmp_path: Path) -> None:
    before = mark("g1", str(tmp_path))
    log.unlink()
    if kind == "directory":
        log.mkdir()
    if kind == "fifo":
        os.mkfifo(log)
    written = since("g1", before, str(tmp_path))
    assert (written.text, written.whole) == ("", False)
    assert written.problem.startswith(f"{log} cannot be read: ")


def test_any_bytes(log: Path, tmp_path: Path) -> None:
    log.write_bytes(b"\xff\xfe\n")
    assert since("g1", Mark(), str(tmp_path)).text == "\ufffd\ufffd\n"


def test_name_never_leads_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "secret.log").write_text("secret")
    written = since("../../../../secret", Mark(), str(tmp_path))
    assert written.text == "" and ".._" in written.problem

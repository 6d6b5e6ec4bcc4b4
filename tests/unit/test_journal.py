from __future__ import annotations

import re
import stat
import syslog
from pathlib import Path

import pytest

from vfio_preflight import journal


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """What went to syslog."""
    written: list[tuple[int, str]] = []
    monkeypatch.setattr(syslog, "openlog", lambda *_: None)
    monkeypatch.setattr(syslog, "syslog", lambda level, line: written.append((level, line)))
    return written


def test_syslog(lines: list[tuple[int, str]]) -> None:
    journal.write("syslog", "all is well")
    journal.write("syslog", "all is not", grave=True)
    assert lines == [(syslog.LOG_INFO, "all is well"), (syslog.LOG_WARNING, "all is not")]


def test_none(lines: list[tuple[int, str]]) -> None:
    journal.write("none", "x", grave=True)
    assert lines == []


def test_file(tmp_path: Path, lines: list[tuple[int, str]]) -> None:
    path = tmp_path / "x.log"
    journal.write(str(path), "one")
    journal.write(str(path), "two", grave=True)
    assert [line.split(": ", 1)[1] for line in path.read_text().splitlines()] == ["one", "two"]
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ vfio-preflight\[\d+\]: one"
    assert re.fullmatch(stamp, path.read_text().splitlines()[0])
    assert stat.S_IMODE(path.stat().st_mode) & 0o027 == 0
    assert lines == []


def test_file_that_cannot_be_written(tmp_path: Path, lines: list[tuple[int, str]]) -> None:
    journal.write(str(tmp_path / "none" / "x.log"), "one")
    assert lines == [(syslog.LOG_WARNING, "one")]


def test_one_line_whatever_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    journal.write(str(path), "a\nb\x1b[31m\u2028c\ud800d")
    assert path.read_text().splitlines()[0].endswith(": a?b?[31m?c?d")
    assert len(path.read_text().splitlines()) == 1

"""The audit log turned into metrics: every line once, whatever becomes of the files."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from unit.cli.command import complaint
from vfio_preflight.cli import export, metrics
from vfio_preflight.cli.export import ExportError
from vfio_preflight.cli.main import main
from vfio_preflight.cli.metering import Metering
from vfio_preflight.configuration import Configuration
from vfio_preflight.hook import audit
from vfio_preflight.report import events, totals
from vfio_preflight.report.totals import sample

PASSES = sample(totals.VERDICTS_TOTAL, operation="migrate", verdict="pass")


@pytest.fixture
def settings(tmp_path: Path) -> Configuration:
    (tmp_path / "textfiles").mkdir()
    return Configuration(
        audit_log=str(tmp_path / "log/audit.jsonl"),
        metrics=str(tmp_path / "textfiles"),
        runtime=str(tmp_path / "run"),
        totals=str(tmp_path / "totals"),
    )


def decide(settings: Configuration, number: int = 1) -> None:
    for _ in range(number):
        event = events.not_checked("migrate", "g", "annotate", "")
        line = audit.stamped(json.dumps({**event, "verdict": "pass"}), (0.04, 0.0))
        audit.append(settings.audit_log, line, settings.runtime, 1.0)


def passes(settings: Configuration) -> float:
    """What the file says after another export."""
    export.export(settings)
    text = (Path(settings.metrics) / export.FILE).read_text()
    (line,) = (line for line in text.splitlines() if line.startswith(PASSES))
    return float(line.rpartition(" ")[2])


def test_every_line_counts_once(settings: Configuration) -> None:
    assert passes(settings) == 0
    decide(settings, 3)
    assert export.export(settings).lines == 3
    assert export.export(settings).lines == 0
    decide(settings)
    assert passes(settings) == 4


def test_file_is_for_everybody_and_alone(settings: Configuration) -> None:
    umask = os.umask(0o077)
    try:
        path = Path(export.export(settings).path)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [each.name for each in path.parent.iterdir()] == ["vfio-preflight.prom"]


def test_what_a_killed_process_left_is_removed(settings: Configuration) -> None:
    left = Path(settings.metrics) / ".vfio-preflight-metrics-0123"
    left.write_text("")
    os.utime(left, (time.time() - 1000,) * 2)
    export.export(settings)
    assert not left.exists()


def test_files_that_are_renamed_meanwhile(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MAX_BYTES", 2000)
    for number in range(1, 60):
        decide(settings, number % 7)
        if number % 3 == 0:
            export.export(settings)
    assert Path(f"{settings.audit_log}.9").exists()
    assert passes(settings) == sum(number % 7 for number in range(1, 60))


def test_line_that_is_being_written(settings: Configuration) -> None:
    decide(settings)
    log = Path(settings.audit_log)
    whole = log.read_text()
    with log.open("a") as file:
        file.write(whole[:50])
    assert passes(settings) == 1
    with log.open("a") as file:
        file.write(whole[50:])
    assert passes(settings) == 2


def test_current_file_that_is_removed(settings: Configuration) -> None:
    """What was counted of the others is not counted again."""
    decide(settings, 2)
    Path(settings.audit_log).rename(f"{settings.audit_log}.1")
    decide(settings, 2)
    assert passes(settings) == 4
    Path(settings.audit_log).unlink()
    decide(settings)
    assert passes(settings) == 5


def test_file_that_is_copied_and_truncated(settings: Configuration) -> None:
    decide(settings, 2)
    assert passes(settings) == 2
    Path(settings.audit_log).write_text("")
    decide(settings)
    assert passes(settings) == 3


def test_lines_of_another_kind_are_told_of(settings: Configuration) -> None:
    decide(settings)
    with Path(settings.audit_log).open("ab") as file:
        file.write(b"no JSON\n\xff\xfe\n" + b"[" * 100_000 + b"\n")
    decide(settings)
    assert passes(settings) == 2
    text = (Path(settings.metrics) / export.FILE).read_text()
    assert f"\n{totals.UNREAD_TOTAL} 3\n" in text


def test_totals_that_are_damaged_begin_anew(settings: Configuration) -> None:
    decide(settings)
    assert passes(settings) == 1
    (Path(settings.totals) / "totals.json").write_text("{")
    assert passes(settings) == 1


def test_nothing_is_shown_that_cannot_be_kept(settings: Configuration) -> None:
    decide(settings)
    assert passes(settings) == 1
    decide(settings)
    Path(settings.totals, "totals.json").unlink()
    os.rmdir(settings.totals)
    Path(settings.totals).write_text("in the way")
    with pytest.raises(ExportError, match="cannot be written"):
        export.export(settings)
    assert f"\n{PASSES} 1\n" in (Path(settings.metrics) / export.FILE).read_text()


@pytest.mark.parametrize("which", ["metrics", "runtime"])
def test_directory_that_takes_no_file(which: str, settings: Configuration, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match=str(tmp_path / "file")):
        place = str(tmp_path / "file")
        changed = {
            "metrics": settings._replace(metrics=place),
            "runtime": settings._replace(runtime=place),
        }
        export.export(changed[which])


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def configured(settings: Configuration, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    monkeypatch.setattr(metrics, "load", lambda: settings)
    return settings


def test_command(configured: Configuration, capsys: pytest.CaptureFixture[str]) -> None:
    decide(configured, 2)
    assert main(["metrics"]) == 0
    told = f"{configured.metrics}/vfio-preflight.prom: written; new lines of the audit log: 2\n"
    assert capsys.readouterr().out == told
    assert main(["metrics", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["lines"] == 0


def test_command_where_none_are_wanted(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metrics, "load", lambda: settings._replace(metrics="none"))
    assert "[paths] metrics = none" in complaint(["metrics"], capsys)
    monkeypatch.setattr(metrics, "load", lambda: settings._replace(metrics="/nonexistent"))
    assert "/nonexistent: no such directory; to do: " in complaint(["metrics"], capsys)


# --- watch ---------------------------------------------------------------------------------------


class Loop:
    def __init__(self, settings: Configuration) -> None:
        self.connected, self.told = True, list[str]()
        libvirt = SimpleNamespace(
            virEventAddTimeout=lambda *_: 1, virEventUpdateTimeout=self._again
        )
        self.waits: list[int] = []
        self.metering = Metering(libvirt, settings, lambda: self.connected, self.told.append)

    def _again(self, _timer: int, milliseconds: int) -> None:
        self.waits.append(milliseconds)

    def turn(self) -> None:
        self.metering.look(1)


def last_pass(settings: Configuration) -> float | None:
    text = (Path(settings.metrics) / export.FILE).read_text()
    found = [line for line in text.splitlines() if line.startswith(f"{totals.LAST_PASS} ")]
    return float(found[0].split()[1]) if found else None


def test_watch_shows_that_it_is_at_work(settings: Configuration) -> None:
    loop = Loop(settings)
    loop.connected = False
    loop.turn()
    assert last_pass(settings) is None
    loop.connected = True
    loop.turn()
    first = last_pass(settings)
    assert first is not None and abs(first - time.time()) < 60
    loop.connected = False
    loop.turn()
    assert last_pass(settings) == first
    assert (loop.told, loop.waits) == ([], [15_000] * 3)


def test_watch_tells_of_a_problem_once(settings: Configuration) -> None:
    loop = Loop(settings)
    Path(settings.totals).write_text("in the way")
    for _ in range(3):
        loop.turn()
    (line,) = loop.told
    assert line.startswith("no metrics are written: ")
    Path(settings.totals).unlink()
    loop.turn()
    Path(settings.totals, "totals.json").unlink()
    Path(settings.totals, "watch.json").unlink()
    os.rmdir(settings.totals)
    Path(settings.totals).write_text("in the way")
    loop.turn()
    assert len(loop.told) == 2 and len(loop.waits) == 5


def test_watch_is_silent_where_there_is_no_collector(settings: Configuration) -> None:
    for place in ("none", "/nonexistent"):
        loop = Loop(settings._replace(metrics=place))
        loop.turn()
        assert loop.told == []
    assert not Path(settings.totals).exists()

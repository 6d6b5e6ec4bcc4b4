from __future__ import annotations

from pathlib import Path

import pytest

from unit.cli.command import Out, complaint, printed_json
from unit.expectations import LINE, TIME, make_expected, make_expected_device
from unit.makers import KEY
from vfio_preflight.cli import history as command
from vfio_preflight.cli.main import main
from vfio_preflight.configuration import Configuration
from vfio_preflight.host import history
from vfio_preflight.host.history import COMPLETED, REFUSED, Entry

WRONG = Entry(make_expected(token="w" * 16), REFUSED, False, KEY, LINE, "a note", TIME, "b")
RIGHT = Entry(make_expected(token="r" * 16), COMPLETED, True, time=TIME, host="b")


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A history with two entries; their names, and its directory."""
    path = str(tmp_path / "history")
    monkeypatch.setattr(command, "load", lambda: Configuration(history=path))
    entries = {"right": history.add(path, RIGHT), "wrong": history.add(path, WRONG)}
    return {**entries, "directory": path}


def test_list(names: dict[str, str], capsys: Out) -> None:
    assert main(["history"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert names["right"] in lines and names["wrong"] in lines
    assert f"  predicted at {TIME}: pass, annotate" in lines
    assert f"  happened on b at {TIME}: completed" in lines
    assert f'  happened on b at {TIME}: refused alias of {KEY} (0000:06:00.4): "{LINE}"' in lines
    assert "  note: a note" in lines
    assert [line for line in lines if "agrees" in line] == ["  agrees: yes", "  agrees: NO"]


def test_json(names: dict[str, str], capsys: Out) -> None:
    assert main(["history", "--format", "json"]) == 0
    entries = printed_json(capsys)["entries"]
    assert [entry["name"] for entry in entries] == [names["right"], names["wrong"]]
    assert [entry["agrees"] for entry in entries] == [True, False]


def test_disagreements_are_cases(names: dict[str, str], capsys: Out) -> None:
    assert main(["history", "--disagreements"]) == 0
    told = capsys.readouterr().out
    assert names["wrong"] in told and names["right"] not in told
    for part in ("QEMU 10.0.2", "machine pc-q35-9.0", LINE, "skip-vsc-check is off", "535.1"):
        assert part in told
    assert 'case (python -m conformance --case FILE): {"machine":"9.0"}' in told
    main(["history", "--disagreements", "--format", "json"])
    assert [entry["name"] for entry in printed_json(capsys)["entries"]] == [names["wrong"]]


def test_accepted_against_the_prediction(names: dict[str, str], capsys: Out) -> None:
    devices = make_expected_device("fail", LINE), make_expected_device(key="other")
    value = make_expected(*devices, verdict="fail", action="allow", token="c" * 16)
    history.add(names["directory"], Entry(value, COMPLETED, False, time=TIME, host="b"))
    main(["history", "--disagreements"])
    told = capsys.readouterr().out
    assert f"alias of {KEY} (0000:06:00.4): fail" in told and "alias of other" not in told


def test_overtaken(names: dict[str, str], capsys: Out) -> None:
    later = RIGHT._replace(expected=make_expected(token="l" * 16))
    history.add(names["directory"], later)
    main(["history"])
    assert f"  overtaken: QEMU accepted the same at {TIME}" in capsys.readouterr().out


def test_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out) -> None:
    monkeypatch.setattr(command, "load", lambda: Configuration(history=str(tmp_path / "none")))
    main(["history"])
    main(["history", "--disagreements"])
    where = f"{tmp_path}/none has no"
    assert capsys.readouterr().out == f"{where} entries\n{where} disagreements\n"


def test_forget(names: dict[str, str], capsys: Out) -> None:
    assert main(["history", "forget", names["wrong"]]) == 0
    assert capsys.readouterr().out == f"forgotten: {names['wrong']}\n"
    main(["history", "forget", names["right"], "--format", "json"])
    assert printed_json(capsys)["forgotten"] == [names["right"]]
    assert "there are: none" in complaint(["history", "forget", names["wrong"]], capsys)

"""``python -m conformance``: what it takes for success, and for an entry among the verified."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vfio_preflight.qemu.emulator.machines import EmulatorFacts
from vfio_preflight.qemu.trial.trial import CRASH, ERROR, FAIL, HANG, PASS, Result

from . import __main__ as command
from .cases import Case
from .engine import Judged
from .kit import build
from .layouts import LAYOUTS
from .record import record, row

DEVICE = build(LAYOUTS["virtual_function"](1))
CASE = Case(DEVICE, DEVICE, "9.0", "root-port")
EVERY = (PASS, FAIL, ERROR, CRASH, HANG)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--record"],
        ["--record", "--masks", "--n", "4999"],
        ["--record", "--n", "5000"],
        ["--record", "--masks", "--n", "5000", "--case", "x.json"],
    ],
)
def test_record_demands_much(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command._options(arguments)
    assert "--record needs --masks and --n 5000" in capsys.readouterr().err


@pytest.mark.parametrize(("target", "listed"), [("x86_64", True), ("aarch64", False)])
def test_one_entry_a_release(
    target: str, listed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entered: list[EmulatorFacts] = []
    monkeypatch.setattr(command, "record", lambda facts, *_: entered.append(facts))
    facts = EmulatorFacts("", "10.0.2", "", {}, {}, {}, True, target)
    engine: Any = SimpleNamespace(name="QEMU", facts=facts)
    command._record(engine, command._options(["--n", "5000"]))
    assert bool(entered) is listed
    assert ("not listed" in capsys.readouterr().out) is not listed


def test_record_of_enough() -> None:
    assert command._options(["--record", "--masks", "--n", "5000"]).record


@pytest.mark.parametrize(
    ("number", "outcomes", "failed"),
    [
        *((1000, EVERY, 0), (1000, EVERY[1:], 1), (1000, EVERY[:-1], 1)),
        *((999, EVERY[:-1], 0), (999, (PASS,), 0)),
    ],
)
def test_every_outcome_must_occur(
    number: int, outcomes: tuple[str, ...], failed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [Result(outcome, line="the line") for outcome in outcomes]
    judged = [Judged(CASE, result, result) for result in results]
    monkeypatch.setattr(command, "draw_cases", lambda *_: [])
    monkeypatch.setattr(command, "_timed", lambda *_: (judged, 1.0))

    class Engine:
        name = "QEMU"

    engine: Any = Engine()
    assert command._drawn(engine, number, 1) == failed


def test_verified_are_kept_in_order(tmp_path: Path) -> None:
    path, readme = tmp_path / "verified.json", tmp_path / "README.md"
    readme.write_text(f"before\n{row(path)}\nafter\n")
    for version in ("10.0.13", "11.1.3", "10.0.2", "9.2.1", "10.0.2"):
        record(EmulatorFacts("", version, "", {}, {}, {}, True), 5000, 1, path, readme)
    versions = [entry["version"] for entry in json.loads(path.read_text())["verified"]]
    assert versions == ["9.2.1", "10.0.2", "10.0.13", "11.1.3"]
    before, between, after = readme.read_text().splitlines()
    assert (before, between, after) == ("before", row(path), "after")
    told = between.split("|")[2].split("; ")
    assert [entry.split()[1] for entry in told] == versions

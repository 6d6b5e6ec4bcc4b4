from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from unit.expectations import LINE, THERE, TIME, make_expected, make_expected_device
from unit.host.hosts import MDEV, VF
from unit.makers import KEY
from vfio_preflight.guest.traits import Traits
from vfio_preflight.host import history
from vfio_preflight.host.history import COMPLETED, FAILED, REFUSED, Entry, Pair

PAIR = Pair("pc-q35-9.0", THERE, MDEV)


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "history")


def make_entry(
    outcome: str = REFUSED, expected: dict[str, Any] | None = None, time: str = TIME
) -> Entry:
    device = KEY if outcome == REFUSED else ""
    agrees = {COMPLETED: True, REFUSED: False, FAILED: None}[outcome]
    line = LINE if outcome == REFUSED else ""
    return Entry(expected or make_expected(), outcome, agrees, device, line, "", time, "b")


@pytest.mark.parametrize("outcome", [COMPLETED, REFUSED, FAILED])
def test_entry_comes_back_as_it_was(outcome: str, directory: str) -> None:
    entry = make_entry(outcome)
    name = history.add(directory, entry)
    assert history.entries(directory) == [(name, entry)]
    assert name.startswith("20261128T070000Z-g1-0123456789ab")


def test_refusal_is_known(directory: str) -> None:
    name = history.add(directory, make_entry())
    ((found, entry),) = history.refusals_of(directory, PAIR)
    assert (found, entry.line, history.mended(entry)) == (name, LINE, False)


@pytest.mark.parametrize(
    "pair",
    [
        PAIR._replace(machine="pc-q35-9.1"),
        PAIR._replace(source=MDEV),
        PAIR._replace(destination=VF),
        Pair("pc-q35-9.0", MDEV, THERE),
        PAIR._replace(source=THERE._replace(driver_version="")),
    ],
)
def test_other_pairs_are_not(pair: Pair, directory: str) -> None:
    history.add(directory, make_entry())
    assert history.refusals_of(directory, pair) == []


def test_traits_that_determine_nothing_are_not_learned(directory: str) -> None:
    vague = Traits("10de", "1e30")
    device = make_expected_device(there=vague)
    history.add(directory, make_entry(expected=make_expected(device)))
    assert history.refusals_of(directory, Pair("pc-q35-9.0", vague, MDEV)) == []
    assert len(history.entries(directory)) == 1


def test_only_the_refused_device_is_learned_of(directory: str) -> None:
    other = make_expected_device(key="0000:00:06.0", there=VF, here=VF)
    history.add(directory, make_entry(expected=make_expected(make_expected_device(), other)))
    assert history.refusals_of(directory, PAIR)
    assert not history.refusals_of(directory, Pair("pc-q35-9.0", VF, VF))


def test_same_checksum_is_not_the_same_pair(
    directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zlib.crc32", lambda _data: 1)
    history.add(directory, make_entry())
    assert history.refusals_of(directory, PAIR._replace(machine="pc-q35-9.1")) == []
    assert history.refusals_of(directory, PAIR)


def test_success_overtakes_a_refusal(directory: str) -> None:
    name = history.add(directory, make_entry())
    later = "2026-11-29T07:00:00Z"
    history.add(directory, make_entry(COMPLETED, make_expected(token="later"), later))
    assert history.refusals_of(directory, PAIR) == []
    assert dict(history.entries(directory))[name].overtaken == later
    again = history.add(directory, make_entry(expected=make_expected(token="again")))
    assert [found for found, _ in history.refusals_of(directory, PAIR)] == [again]


def test_mended_success_says_nothing_of_what_was_not_mended(directory: str) -> None:
    history.add(directory, make_entry())
    mended = make_expected(make_expected_device("fail", mended=True), verdict="fail", token="m")
    history.add(directory, make_entry(COMPLETED, mended))
    assert history.refusals_of(directory, PAIR)
    history.add(directory, make_entry(expected={**mended, "token": "n"}))
    assert any(history.mended(entry) for _, entry in history.refusals_of(directory, PAIR))


def test_two_attempts_in_one_second(directory: str) -> None:
    names = {
        history.add(directory, make_entry(expected=make_expected(token=token)))
        for token in ("aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb")
    }
    assert {name for name, _ in history.entries(directory)} == names
    assert len(names) == 2


def test_names_that_look_alike_are_two_entries(directory: str) -> None:
    for number, guest in enumerate(("a b", "a/b", "a-b", "../a", "\u00e4" * 200)):
        expected = make_expected(guest=guest, token=f"{number}" * 16)
        assert history.add(directory, make_entry(expected=expected))
    assert len(history.entries(directory)) == 5
    assert sorted(os.listdir(Path(directory).parent)) == ["history"]


def test_successes_push_no_refusal_out(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_ENTRIES", 3)
    device = make_expected_device(there=VF, here=VF)
    name = history.add(directory, make_entry())
    for number in range(5):
        expected = make_expected(device, token=f"{number}" * 16)
        history.add(directory, make_entry(COMPLETED, expected))
    assert len(history.entries(directory)) == 4
    assert [found for found, _ in history.refusals_of(directory, PAIR)] == [name]


def test_forget(directory: str) -> None:
    name = history.add(directory, make_entry())
    (Path(directory) / "others").mkdir()
    (Path(directory) / "others" / "broken.json").write_text("{")
    assert history.all_names(directory) == [name, "broken"]
    assert history.forget(directory, [name, "broken", "none"]) == [name, "broken"]
    assert history.refusals_of(directory, PAIR) == []


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"outcome": "odd"},
        {"agrees": "yes"},
        {"line": 1},
        {"expected": []},
        {"expected": {"schema": 1}},
        {"expected": {**make_expected(), "guest": 1}},
        {"expected": {**make_expected(), "devices": {}}},
        {"expected": {**make_expected(), "devices": [1]}},
        *({"expected": {**make_expected(), "log": log}} for log in (None, [1], ["1", 2, ""])),
        {"expected": make_expected({**make_expected_device(), "mended": "no"})},
        {"expected": make_expected({**make_expected_device(), "traits": {}})},
        {"expected": make_expected({**make_expected_device(), "key": None})},
        {
            "expected": make_expected(
                {**make_expected_device(), "traits": {"source": {"vendor": 1}, "destination": {}}}
            )
        },
    ],
)
def test_damaged_entry_counts_as_absent(change: dict[str, object], directory: str) -> None:
    name = history.add(directory, make_entry())
    path = Path(directory) / "refused" / f"{name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert history.entries(directory) == []
    assert history.refusals_of(directory, PAIR) == []
    assert history.all_names(directory) == [name]


def test_entry_without_a_member_counts_as_absent(directory: str) -> None:
    name = history.add(directory, make_entry())
    path = Path(directory) / "refused" / f"{name}.json"
    value = json.loads(path.read_text())
    del value["line"]
    path.write_text(json.dumps(value))
    assert history.entries(directory) == []


def test_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert history.add(str(tmp_path / "file"), make_entry()) == ""
    assert history.entries(str(tmp_path / "file")) == []

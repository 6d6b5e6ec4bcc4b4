"""The fuzzer's rules, on its seeds and some mutations: they hold, and they can fail."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fuzz import judged
from fuzz.mutate import mutate
from fuzz.seeds import seeds
from unit.domains import KEY, make_domain
from unit.makers import make_state
from vfio_preflight.configuration import Configuration
from vfio_preflight.gather import here
from vfio_preflight.hook.gate import Gate
from vfio_preflight.hook.supervise import Outcome


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    # As it was, afterwards: make_settings() replaces it.
    monkeypatch.setitem(here.__dict__, "emulator_facts", None)
    return judged.make_settings(tmp_path)


def test_rules_hold(settings: Configuration) -> None:
    chance = random.Random(1)
    outcomes = [judged.judge(settings, seed) for seed in seeds()]
    assert {outcome.status for outcome in outcomes if outcome} == {0, 1}
    assert any(outcome.out for outcome in outcomes if outcome)
    for seed in seeds():
        judged.judge(settings, seed[:1] + mutate(seed[1:], chance))


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(2),
        Outcome(1),
        Outcome(1, out=b"<domain/>", err=b"x"),
        Outcome(1, err="\u202e".encode()),
        Outcome(1, err=b"x" * 300),
        Outcome(0, out=make_domain(machine="pc-q35-9.1")),
    ],
    ids=["status", "no word", "output", "bidirectional", "long", "changed"],
)
def test_rules_can_fail(
    outcome: Outcome, settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gate, "judge", lambda *_: outcome)
    with pytest.raises(judged.Broken):
        judged.judge(settings, b"\0" + make_domain({KEY: make_state()}))


def test_failing_restore_is_broken(
    settings: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gate, "judge", lambda *_: Outcome(1, err=b"x"))
    with pytest.raises(judged.Broken, match="restore"):
        judged.judge(settings, b"\1" + make_domain({KEY: make_state()}))


def test_mutation_is_xml_and_reproducible() -> None:
    xml = make_domain({KEY: make_state()})
    changed = {mutate(xml, random.Random(number)) for number in range(20)}
    assert len(changed) > 15
    assert mutate(xml, random.Random(3)) == mutate(xml, random.Random(3))

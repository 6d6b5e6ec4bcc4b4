"""Events counted, and shown as Prometheus reads them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from vfio_preflight.report import events, totals
from vfio_preflight.report.totals import exposition, initial, sample

DOCUMENT = (Path(__file__).parents[3] / "docs/LOGS.md").read_text()


def decision(**changes: object) -> dict[str, Any]:
    event = events.not_checked("migrate", "g", "annotate", "a reason")
    return {**event, "seconds": 0.3, "waited": 0.5, **changes}


def counted(*found: object) -> dict[str, float]:
    """What is not 0 after these events."""
    counts = initial()
    for event in found:
        totals.count(counts, event)
    return {text: number for text, number in counts.items() if number}


def test_decision() -> None:
    device = {"codes": ["source-unknown", "config-identical", "not-checked"]}
    found = counted(decision(devices=[device, device]))
    buckets = {
        sample(f"{totals.DURATION}_bucket", operation="migrate", le=bound): 1
        for bound in ("0.5", "1", "2.5", "5", "10", "+Inf")
    }
    assert found == {
        sample(totals.VERDICTS_TOTAL, operation="migrate", verdict="unknown"): 1,
        sample(totals.ACTIONS_TOTAL, operation="migrate", action="annotate"): 1,
        sample(totals.FINDINGS_TOTAL, code="not-checked", verdict="unknown"): 1,
        sample(totals.FINDINGS_TOTAL, code="source-unknown", verdict="unknown"): 1,
        **buckets,
        sample(f"{totals.DURATION}_sum", operation="migrate"): 0.3,
        sample(f"{totals.DURATION}_count", operation="migrate"): 1,
        sample(f"{totals.WAIT}_sum", operation="migrate"): 0.5,
        sample(f"{totals.WAIT}_count", operation="migrate"): 1,
    }


def test_outcome() -> None:
    event = {"schema": 1, "event": "outcome", "outcome": "refused", "prediction": "wrong"}
    text = sample(totals.OUTCOMES_TOTAL, outcome="refused", prediction="wrong")
    assert counted(event, event) == {text: 2}


def test_refused_restore_was_counted_when_it_was_decided() -> None:
    assert counted(events.refusal("g")) == {}


@pytest.mark.parametrize(
    "odd",
    [
        None,
        [],
        "text",
        {},
        {"schema": 2, "event": "decision"},
        {"schema": 1, "event": "another"},
        {"schema": 1, "event": ["decision"]},
        decision(operation="reconnect"),
        decision(verdict="perhaps"),
        decision(action=["block"]),
        decision(codes=None),
        decision(codes=[["x"]]),
        decision(devices=[1]),
        decision(devices={"codes": 1}),
        decision(seconds="1"),
        decision(seconds=-1.0),
        decision(seconds=True),
        decision(seconds=float("nan")),
        decision(waited=None),
        decision(waited=float("inf")),
        {"schema": 1, "event": "outcome", "outcome": "refused"},
        {"schema": 1, "event": "outcome", "outcome": 'x"}', "prediction": "right"},
    ],
)
def test_line_of_another_kind_is_counted_as_such(odd: object) -> None:
    assert counted(odd) == {totals.UNREAD_TOTAL: 1}


def test_counts_of_another_version() -> None:
    text = sample(totals.VERDICTS_TOTAL, operation="migrate", verdict="pass")
    odd = {text: 3, "gone_total": 4, totals.UNREAD_TOTAL: "5", sample(totals.ACTIONS_TOTAL): -1}
    assert {t: n for t, n in totals.kept(odd).items() if n} == {text: 3}
    assert totals.kept(None) == totals.kept("x") == initial()


def test_exposition_follows_the_format() -> None:
    counts = initial()
    totals.count(counts, decision(seconds=0.1234567))
    text = exposition(counts, "1.2.3", 1795870000.5)
    lines = text.splitlines()
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert names == [line.split()[2] for line in lines if line.startswith("# HELP")]
    assert len(set(names)) == len(names)
    shown = [line for line in lines if not line.startswith("#")]
    value = r"[a-z_]+(\{[a-z]+=\"[^\"\\]*\"(,[a-z]+=\"[^\"\\]*\")*\})? [0-9.]+"
    assert all(re.fullmatch(value, line) for line in shown), shown
    assert len({line.rpartition(" ")[0] for line in shown}) == len(shown)
    assert 'vfio_preflight_build_info{version="1.2.3"} 1' in shown
    assert "vfio_preflight_watch_last_pass_timestamp_seconds 1795870000.5" in shown
    assert 'vfio_preflight_check_duration_seconds_sum{operation="migrate"} 0.123457' in shown


def test_watch_that_never_was_has_no_last_pass() -> None:
    assert "last_pass" not in exposition(initial(), "1", None)


def test_every_metric_is_documented() -> None:
    names = re.findall(r"# TYPE (\S+)", exposition(initial(), "1", 1.0))
    assert len(names) == 9
    assert [name for name in names if f"`{name}`" not in DOCUMENT] == []

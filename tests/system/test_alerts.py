"""Alert rules, by promtool: each fires on its cause and on nothing else. The dashboard's file."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from vfio_preflight.cli.export import FILE
from vfio_preflight.report import totals
from vfio_preflight.report.totals import initial, sample

from .monitoring import DASHBOARD, RULES, dashboard_queries, require

DOCUMENT = RULES.parents[2] / "docs/LOGS.md"
TARGET = 'instance="h1:9100",job="node"'
# Minutes of a series, what happens at half time, and when the alerts are looked at.
LENGTH, HALF, LOOK = 80, 60, 65

HAPPENS = f"0+0x{HALF - 1} 1+0x{LENGTH - HALF}"
FOLLOWS_TIME = f"0+60x{LENGTH}"
STOPS = f"0+60x{HALF - 30} {60 * (HALF - 30)}+0x{LENGTH - HALF + 30}"
EVERY_MINUTE = f"0+1x{LENGTH}"
MTIME = sample("node_textfile_mtime_seconds", file=f"/var/lib/prometheus/node-exporter/{FILE}")
OTHER_MTIME = sample("node_textfile_mtime_seconds", file="/var/lib/other.prom")


def verdict(which: str, operation: str = "migrate") -> str:
    return sample(totals.VERDICTS_TOTAL, operation=operation, verdict=which)


def action(which: str, operation: str = "migrate") -> str:
    return sample(totals.ACTIONS_TOTAL, operation=operation, action=which)


def finding(code: str, which: str) -> str:
    return sample(totals.FINDINGS_TOTAL, code=code, verdict=which)


def outcome(which: str, prediction: str) -> str:
    return sample(totals.OUTCOMES_TOTAL, outcome=which, prediction=prediction)


def checks_of(seconds: float, series: str) -> dict[str, str]:
    """Checks that take so long."""
    buckets = {
        sample(f"{totals.DURATION}_bucket", operation="migrate", le=bound): series
        for bound in totals.BUCKETS
        if seconds <= float(bound)
    }
    return {**buckets, sample(f"{totals.DURATION}_count", operation="migrate"): series}


# A busy host on which all is well.
HEALTHY = {
    **dict.fromkeys(initial(), f"0+0x{LENGTH}"),
    **checks_of(0.04, EVERY_MINUTE),
    verdict("pass"): EVERY_MINUTE,
    action("annotate"): EVERY_MINUTE,
    outcome("completed", "right"): EVERY_MINUTE,
    outcome("failed", "none"): EVERY_MINUTE,
    totals.LAST_PASS: FOLLOWS_TIME,
    MTIME: FOLLOWS_TIME,
    OTHER_MTIME: f"0+0x{LENGTH}",
}
NO_CHECKS = dict.fromkeys(checks_of(0.0, ""), f"0+0x{LENGTH}")
WITHOUT_WATCH = {totals.LAST_PASS: ""}

# What happens beyond that, and the alerts that fire, each with its own labels.
CASES: Mapping[str, tuple[Mapping[str, str], Mapping[str, Mapping[str, str]]]] = {
    "all is well": ({}, {}),
    "all is well, without watch": (WITHOUT_WATCH, {}),
    "wrong prediction": (
        {outcome("refused", "wrong"): HAPPENS},
        {"VfioPreflightWrongPrediction": {"outcome": "refused"}},
    ),
    "right prediction of a refusal": ({outcome("refused", "right"): HAPPENS}, {}),
    "not checked": (
        {
            finding("not-checked", "unknown"): HAPPENS,
            verdict("unknown"): HAPPENS,
            action("annotate"): HAPPENS,
        },
        {"VfioPreflightNotChecked": {}},
    ),
    "blocked": (
        {
            finding("config-differs", "fail"): HAPPENS,
            verdict("fail"): HAPPENS,
            action("block"): HAPPENS,
        },
        {"VfioPreflightBlocked": {"operation": "migrate"}},
    ),
    "restore blocked": (
        {action("block", "restore"): HAPPENS},
        {"VfioPreflightBlocked": {"operation": "restore"}},
    ),
    "mended": ({verdict("fail"): HAPPENS, action("mend"): HAPPENS}, {}),
    "unknown": (
        {finding("source-unknown", "unknown"): HAPPENS, verdict("unknown"): HAPPENS},
        {"VfioPreflightUnknown": {"code": "source-unknown"}},
    ),
    "slow": ({**NO_CHECKS, **checks_of(4.0, EVERY_MINUTE)}, {"VfioPreflightSlow": {}}),
    "slow once among many": (checks_of(4.0, f"0+1x{HALF - 1} {HALF + 1}+1x{LENGTH - HALF}"), {}),
    "watch is gone": ({totals.LAST_PASS: STOPS}, {"VfioPreflightWatchGone": {}}),
    "timer is gone": (
        {**WITHOUT_WATCH, MTIME: STOPS},
        {"VfioPreflightMetricsStale": {"file": f"/var/lib/prometheus/node-exporter/{FILE}"}},
    ),
    "lines that are no events": (
        {totals.UNREAD_TOTAL: HAPPENS},
        {"VfioPreflightAuditUnread": {}},
    ),
    "all counters begin anew": (
        dict.fromkeys((verdict("pass"), outcome("completed", "right")), "90+0x62 0+1x17"),
        {},
    ),
}


@pytest.fixture(autouse=True)
def promtool() -> None:
    require("promtool")


def rules() -> str:
    return RULES.read_text()


def series(changes: Mapping[str, str]) -> list[dict[str, str]]:
    """All of a host's series, those without values left out, as its node exporter's target."""
    every = {**HEALTHY, **changes}
    return [
        {
            "series": f"{name[:-1]},{TARGET}}}" if name.endswith("}") else f"{name}{{{TARGET}}}",
            "values": values,
        }
        for name, values in every.items()
        if values
    ]


def firing(case: str) -> list[dict[str, Any]]:
    severities = dict(re.findall(r"alert: (\w+)[^§]*?severity: (\w+)", rules()))
    found = []
    for alert, labels in CASES[case][1].items():
        every = {
            "alertname": alert,
            "alertstate": "firing",
            "severity": severities[alert],
            "instance": "h1:9100",
            "job": "node",
            **labels,
        }
        shown = ",".join(f'{name}="{value}"' for name, value in sorted(every.items()))
        found.append({"labels": f"ALERTS{{{shown}}}", "value": 1})
    return found


def test_rules_are_sound() -> None:
    command = ["promtool", "check", "rules", "--lint-fatal", str(RULES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_on_its_cause_alone(tmp_path: Path) -> None:
    tests = [
        {
            "name": case,
            "interval": "1m",
            "input_series": series(changes),
            "promql_expr_test": [
                {
                    "expr": 'ALERTS{alertstate="firing"}',
                    "eval_time": f"{LOOK}m",
                    "exp_samples": firing(case),
                }
            ],
        }
        for case, (changes, _) in CASES.items()
    ]
    file = tmp_path / "alerts.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "tests": tests}))
    command = ["promtool", "test", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_cause_here_and_is_documented() -> None:
    alerts = set(re.findall(r"- alert: (\w+)", rules()))
    assert alerts == {alert for _, fires in CASES.values() for alert in fires}
    documented = set(re.findall(r"\| `(VfioPreflight\w+)` \|", DOCUMENT.read_text()))
    assert documented == alerts


def test_rules_and_dashboard_ask_for_metrics_that_there_are() -> None:
    asked = set(re.findall(r"vfio_preflight_\w+", rules() + " ".join(dashboard_queries())))
    there = {name.partition("{")[0] for name in initial()}
    assert asked <= there | {totals.LAST_PASS, totals.BUILD_INFO}


def test_dashboard_is_one() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids)) and dashboard["uid"] and dashboard["schemaVersion"] >= 36
    for panel in dashboard["panels"]:
        assert panel["title"] and panel["description"] and panel["targets"]
        # Whoever imports it names the data source; none of ours is in it.
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    places = [
        (x, y)
        for grid in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(places) == len(set(places)) and max(x for x, _ in places) < 24

"""What is written of real decisions, read back by what operators read it with.

One scene on two hosts: guests with a VNC password that pass, are blocked, are refused by QEMU as
predicted and against the prediction, are not known, and one that cannot be checked; watched by a
real journald, node exporter and Prometheus.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import stat
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lab import Host, guest_xml, hostdev_pci
from vfio_preflight.cli.export import FILE
from vfio_preflight.report.events import MESSAGE_IDS

from .herd import HOOK
from .monitoring import (
    JOURNALD,
    TEXTFILES,
    Journal,
    Prometheus,
    dashboard_queries,
    prometheus,
    require,
)
from .pair import CHECKOUT, CONFIG, NEW, OLD, OTHER_PM, OTHER_VSC, VF, Pair
from .service import Service, wait
from .test_herd import document

HOOKS = int(os.environ.get("AUDIT_HOOKS", "40"))
SECRET = "Vnc5ecr3"
VNC = f"<graphics type='vnc' passwd='{SECRET}'><listen type='socket'/></graphics>"
ALLOW = "[policy]\nfail = allow\n"
AUDIT = "/var/log/vfio-preflight/audit.jsonl"
AUDIT_MODULE = "/usr/lib/vfio-preflight/vfio_preflight/hook/audit.py"
SPY = "/var/lib/spy"
# Everything that the project writes to, beside a guest's metadata.
OURS = (
    *(f"{place}/vfio-preflight" for place in ("/run", "/var/lib", "/var/cache", "/var/log")),
    TEXTFILES,
    "/run/log/journal",
)


class Scene(NamedTuple):
    """What became of it, on host b."""

    host: Host
    journal: Journal
    prometheus: Prometheus
    watch: Service

    def metrics(self) -> None:
        self.host.run(["vfio-preflight", "metrics"]).check_returncode()

    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.host.path(AUDIT).read_text().splitlines()]


def clear(hosts: Pair) -> None:
    """As freshly installed: nothing written yet, equal devices, no guests."""
    for host in hosts.a, hosts.b:
        for guest in host.virsh("list", "--all", "--name").stdout.split():
            host.virsh("destroy", guest)
            host.virsh("undefine", guest)
        for place in OURS[:5]:
            shutil.rmtree(host.path(place), ignore_errors=True)
        hosts.configure((CHECKOUT / "etc/vfio-preflight.conf").read_text(), host)
        host.path("/var/lib/vfio-preflight/states").mkdir(parents=True, exist_ok=True)
        host.path(TEXTFILES).mkdir(parents=True)
        hosts.present(host, VF, CONFIG)


def guest_of(name: str, machine: str) -> str:
    return guest_xml(name, machine, [hostdev_pci(VF), VNC])


def end_guest(hosts: Pair, guest: str) -> None:
    for host in hosts.a, hosts.b:
        host.virsh("destroy", guest)
    hosts.a.virsh("undefine", guest)


def play(hosts: Pair, watch: Service) -> None:
    """The migrations; a guest's name says what becomes of it."""
    state = hosts.b.path(f"/var/lib/vfio-preflight/states/{VF}.json")
    good = hosts.start(guest_of("good", NEW))
    assert hosts.migrate(good).returncode == 0
    wait(lambda: "migration completed, as predicted" in watch.log())
    end_guest(hosts, good)

    hosts.present(hosts.b, VF, OTHER_VSC)
    bad = hosts.start(guest_of("bad", OLD))
    assert "vfio-preflight: migration blocked" in hosts.migrate(bad).stderr
    hosts.configure(ALLOW)
    assert hosts.migrate(bad).returncode != 0
    wait(lambda: "refused" in outcomes(hosts.b))
    end_guest(hosts, bad)

    # What was learned of the last one would make the next one unknown, and not wrongly predicted.
    shutil.rmtree(hosts.b.path("/var/lib/vfio-preflight/history"))
    hosts.present(hosts.b, VF, OTHER_PM)
    state.write_text(json.dumps({"schema": 1, "config": CONFIG.hex()}))
    odd = hosts.start(guest_of("odd", OLD))
    assert hosts.migrate(odd).returncode != 0
    wait(lambda: outcomes(hosts.b)["refused"] == 2)
    end_guest(hosts, odd)
    state.unlink()

    hosts.present(hosts.b, VF, CONFIG)
    unrecorded = hosts.a.start_guest(guest_of("unrecorded", NEW))
    assert hosts.migrate(unrecorded).returncode == 0
    end_guest(hosts, unrecorded)

    cut_short = guest_of("half", NEW).partition("</graphics>")[0]
    assert hosts.b.run([HOOK, "half", "migrate", "begin", "-"], stdin=cut_short).returncode == 0
    wait(lambda: '"guest":"half"' in hosts.b.path(AUDIT).read_text())


def outcomes(host: Host) -> Counter[str]:
    log = host.path(AUDIT)
    events = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return Counter(event["outcome"] for event in events if event["event"] == "outcome")


@pytest.fixture(scope="module")
def scene(hosts: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    require(JOURNALD, "journalctl", "prometheus", "prometheus-node-exporter")
    clear(hosts)
    spy = hosts.b.hooks / "qemu.d/00-spy"
    spy.write_text(f'#!/bin/sh\n[ "$2" != migrate ] || cat >>{SPY}\n')
    spy.chmod(0o755)
    hosts.b.reload()
    watch, journal = Service(hosts.b), Journal(hosts.b)
    with ExitStack() as ends:
        ends.callback(hosts.b.reload)
        ends.callback(spy.unlink)
        ends.callback(clear, hosts)
        ends.callback(journal.end)
        ends.callback(watch.end)
        # The counters are seen at 0 before anything happens, as on a host that is set up.
        watch.start()
        wait(lambda: (hosts.b.path(TEXTFILES) / FILE).exists())
        work = tmp_path_factory.mktemp("prometheus")
        server = ends.enter_context(prometheus(hosts.b.path(TEXTFILES), work))
        wait(lambda: server.value("vfio_preflight_verdicts_total") == 0, 60, 0.2)
        play(hosts, watch)
        made = Scene(hosts.b, journal, server, watch)
        made.metrics()
        wait(lambda: server.value("vfio_preflight_verdicts_total") >= 6, 60, 0.2)
        # Two scrapes at least lie in every range, with what happened between them.
        time.sleep(3)
        yield made


# --- the journal ---------------------------------------------------------------------------------


def test_journal_has_the_fields(scene: Scene) -> None:
    (entry,) = scene.journal.entries("VFIO_PREFLIGHT_GUEST=bad", "VFIO_PREFLIGHT_ACTION=block")
    assert entry["MESSAGE"].startswith("migrate guest 'bad': fail, blocked [")
    assert entry["_TRANSPORT"] == "journal" and entry["PRIORITY"] == "4"
    assert entry["MESSAGE_ID"] == MESSAGE_IDS["decision"]
    found = {
        name.removeprefix("VFIO_PREFLIGHT_"): value
        for name, value in entry.items()
        if name.startswith("VFIO_PREFLIGHT_")
    }
    assert "vsc-body-differs" in found.pop("CODE")
    assert 0 < int(found.pop("DURATION_USEC")) < 30_000_000
    assert int(found.pop("WAITED_USEC")) >= 0
    assert len(found.pop("GUEST_UUID")) == 36
    assert found == {
        "EVENT": "decision",
        "GUEST": "bad",
        "OPERATION": "migrate",
        "VERDICT": "fail",
        "ACTION": "block",
        "DEVICE": VF,
        "SOURCE_EVIDENCE": "sysfs",
        "DESTINATION_EVIDENCE": "sysfs",
    }


def test_journal_is_searched_by_field(scene: Scene) -> None:
    def guests(*matches: str) -> set[str]:
        return {each["VFIO_PREFLIGHT_GUEST"] for each in scene.journal.entries(*matches)}

    assert guests("VFIO_PREFLIGHT_CODE=source-unknown") == {"unrecorded"}
    assert guests("VFIO_PREFLIGHT_CODE=not-checked") == {"half"}
    assert guests("VFIO_PREFLIGHT_PREDICTION=wrong", "PRIORITY=4") == {"odd"}
    assert guests(f"VFIO_PREFLIGHT_DEVICE={VF}") == {"good", "bad", "odd", "unrecorded"}
    outcome = MESSAGE_IDS["outcome"]
    assert guests(f"MESSAGE_ID={outcome}", "VFIO_PREFLIGHT_OUTCOME=refused") == {"bad", "odd"}


# --- the audit log -------------------------------------------------------------------------------


def test_audit_log_has_every_decision_and_every_end(scene: Scene) -> None:
    events = scene.audit()
    decisions = [
        (event["guest"], event["verdict"], event["action"] == "block")
        for event in events
        if event["event"] == "decision" and event["operation"] == "migrate"
    ]
    assert decisions == [
        ("good", "pass", False),
        ("bad", "fail", True),
        ("bad", "fail", False),
        ("odd", "pass", False),
        ("unrecorded", "unknown", False),
        ("half", "unknown", False),
    ]
    ends = [
        (event["guest"], event["outcome"], event["prediction"])
        for event in events
        if event["event"] == "outcome"
    ]
    assert ends[:3] == [
        ("good", "completed", "right"),
        ("bad", "refused", "right"),
        ("odd", "refused", "wrong"),
    ]
    mode = scene.host.path(AUDIT).stat().st_mode
    assert stat.S_IMODE(mode) & 0o137 == 0


# --- Prometheus ----------------------------------------------------------------------------------


def test_every_query_of_the_dashboard_gives_data(scene: Scene) -> None:
    for query in dashboard_queries():
        found = scene.prometheus.query(query)
        values = [float(sample["value"][1]) for sample in found]
        assert values and not any(math.isnan(value) for value in values), query


def test_every_rule_works_and_its_query_gives_data(scene: Scene) -> None:
    rules = scene.prometheus.rules()
    assert len(rules) == 8
    for rule in rules:
        assert (rule["health"], rule.get("lastError", "")) == ("ok", "")
        # Without the threshold, which is not always passed.
        query, _, threshold = rule["query"].rpartition(" > ")
        assert float(threshold) >= 0
        assert scene.prometheus.query(query), query


def test_what_happened_is_counted_and_alerted_of(scene: Scene) -> None:
    wait(lambda: "VfioPreflightWrongPrediction" in firing(scene.prometheus), 20, 0.5)
    assert set(firing(scene.prometheus)) == {
        "VfioPreflightBlocked",
        "VfioPreflightNotChecked",
        "VfioPreflightUnknown",
        "VfioPreflightWrongPrediction",
    }
    for texts in firing(scene.prometheus).values():
        assert all("<" not in text and "127.0.0.1:" in text for text in texts)
    value = scene.prometheus.value
    assert value('vfio_preflight_verdicts_total{operation="migrate",verdict="fail"}') == 2
    assert value('vfio_preflight_actions_total{operation="migrate",action="block"}') == 1
    assert value('vfio_preflight_outcomes_total{outcome="refused",prediction="wrong"}') == 1
    assert value('vfio_preflight_check_duration_seconds_count{operation="migrate"}') == 6
    assert value("vfio_preflight_audit_lines_unread_total") == 0
    assert 0 <= value("time() - vfio_preflight_watch_last_pass_timestamp_seconds") < 120
    assert value("node_textfile_scrape_error") == 0


def firing(server: Prometheus) -> dict[str, list[str]]:
    """The alerts that fire, with their texts."""
    return {
        rule["name"]: [*alert["annotations"].values()]
        for rule in server.rules()
        for alert in rule["alerts"]
        if alert["state"] == "firing"
    }


# --- secrets -------------------------------------------------------------------------------------


def test_nothing_that_was_written_has_the_password(scene: Scene) -> None:
    # The hook was given it, in every guest's XML.
    assert scene.host.path(SPY).read_text().count(SECRET) >= 5
    files = [file for place in OURS for file in scene.host.path(place).rglob("*") if file.is_file()]
    names = {file.name for file in files}
    assert names >= {"audit.jsonl", FILE, "totals.json", "watch.json", "system.journal"}
    assert any("-odd-" in name for name in names)  # the history
    written = {str(file): file.read_bytes() for file in files}
    written["journalctl"] = json.dumps(scene.journal.entries()).encode()
    written["watch"] = scene.watch.log().encode()
    assert b"unrecorded" in written["journalctl"]
    assert [name for name, content in written.items() if SECRET.encode() in content] == []


# --- what is stuck, and load ---------------------------------------------------------------------

FILL = """
import socket
client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
client.connect("/run/systemd/journal/socket")
try:
    while True:
        client.send(b"MESSAGE=x\\n")
except BlockingIOError:
    pass
"""


def test_journal_that_stands_still_holds_no_hook(scene: Scene) -> None:
    xml = document("stuck", hostdev_pci(VF), OTHER_VSC)
    scene.journal.signal("STOP")
    try:
        scene.host.run(["/usr/bin/python3", "-c", FILL]).check_returncode()
        begun = time.monotonic()
        done = scene.host.run([HOOK, "stuck", "migrate", "begin", "-"], stdin=xml)
        assert time.monotonic() - begun < 10
    finally:
        scene.journal.signal("CONT")
    assert done.returncode == 0 and done.stdout.startswith("<domain")
    # Later than the hook's end, and not lost: in the journal, and in the audit log.
    wait(lambda: scene.journal.entries("VFIO_PREFLIGHT_GUEST=stuck"))
    wait(lambda: [event for event in scene.audit() if event["guest"] == "stuck"])


def many(count: int) -> str:
    """A script that calls so many hooks at once, each for a guest of its own, and waits for all."""
    return (
        f"for n in $(seq {count}); do sed s/load-0/load-$n/ /var/tmp/load.xml |"
        f" {HOOK} load-$n migrate begin - >/dev/null 2>&1 & done; wait"
    )


def test_no_line_is_lost_under_load(scene: Scene) -> None:
    """While the audit log is renamed again and again, and counted at the same time."""
    host = scene.host
    module = host.path(AUDIT_MODULE)
    shipped = module.read_text()
    assert shipped.count("MAX_BYTES = 10 * 1024 * 1024\n") == 1
    before = len(scene.audit())
    counted = total(host)
    host.path("/var/tmp/load.xml").write_text(document("load-0", hostdev_pci(VF), OTHER_VSC))
    module.write_text(shipped.replace("10 * 1024 * 1024\n", f"{HOOKS * 900 // 6}\n"))
    try:
        load = host.popen(["/bin/sh", "-c", many(HOOKS)])
        while load.poll() is None:
            scene.metrics()
            time.sleep(0.2)
        # What the last hooks left to processes of their own.
        wait(lambda: len(events(host)) >= before + HOOKS)
    finally:
        module.write_text(shipped)
    assert host.path(f"{AUDIT}.2").exists()
    guests = Counter(event["guest"] for event in events(host))
    assert {name: guests[name] for name in guests if name.startswith("load-")} == {
        f"load-{n}": 1 for n in range(1, HOOKS + 1)
    }
    scene.metrics()
    assert total(host) == counted + HOOKS


def events(host: Host) -> list[dict[str, Any]]:
    """Those in all files of the audit log."""
    files = Path(host.path(AUDIT)).parent.glob("audit.jsonl*")
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def total(host: Host) -> float:
    """The decisions of ``migrate begin`` that are counted."""
    host.run(["vfio-preflight", "metrics"]).check_returncode()
    shown = (host.path(TEXTFILES) / FILE).read_text().splitlines()
    name = 'vfio_preflight_verdicts_total{operation="migrate"'
    return sum(float(line.split()[-1]) for line in shown if line.startswith(name))

"""What a data centre watches its hosts with: journald, the node exporter, Prometheus; real ones."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lab import Host

from .pair import CHECKOUT
from .service import wait

RULES = CHECKOUT / "etc/prometheus/vfio-preflight.rules.yml"
DASHBOARD = CHECKOUT / "etc/grafana/vfio-preflight.json"
JOURNALD = "/lib/systemd/systemd-journald"
TEXTFILES = "/var/lib/prometheus/node-exporter"
_JOURNALD_CONF = "[Journal]\nStorage=volatile\nReadKMsg=no\nRateLimitBurst=0\n"
_JOB = "hosts"


def require(*programs: str) -> None:
    """Skip without them by a developer's leave; fail in CI."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    absent = [name for name in programs if shutil.which(name, path=path) is None]
    if absent and os.environ.get("CI") == "true":
        pytest.fail(f"lacks {', '.join(absent)}")
    if absent:
        pytest.skip(f"lacks {', '.join(absent)}")


# --- the journal ---------------------------------------------------------------------------------


class Journal:
    """A journald in a host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        host.path("/etc/systemd").mkdir(exist_ok=True)
        host.path("/etc/systemd/journald.conf").write_text(_JOURNALD_CONF)
        host.path("/run/systemd/journal").mkdir(parents=True, exist_ok=True)
        # It wants to see control groups, and a Lab's host has none. What it mounts goes with it.
        begin = f"mount -t cgroup2 none /sys/fs/cgroup && exec {JOURNALD}"
        script = f"setsid unshare --mount sh -c '{begin}' >/dev/null 2>&1 </dev/null & echo $!"
        self.pid = int(host.run(["/bin/sh", "-c", script]).stdout)
        wait(lambda: host.path("/run/systemd/journal/socket").exists())

    def signal(self, name: str) -> None:
        self._host.run(["/bin/sh", "-c", f"kill -{name} {self.pid}"]).check_returncode()

    def entries(self, *matches: str) -> list[dict[str, Any]]:
        """Our entries that match, as journalctl reads them from the journal's files."""
        command = ["journalctl", "--directory=/run/log/journal", "--output=json", "--no-pager"]
        done = self._host.run([*command, "SYSLOG_IDENTIFIER=vfio-preflight", *matches])
        return [json.loads(line) for line in done.stdout.splitlines()]

    def end(self) -> None:
        self.signal("KILL")
        shutil.rmtree(self._host.path("/run/systemd/journal"))
        shutil.rmtree(self._host.path("/run/log/journal"))


# --- Prometheus ----------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str) -> Any:  # noqa: ANN401 - it is JSON
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


class Prometheus(NamedTuple):
    """A server with our rules, that scrapes a node exporter every second."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression now."""
        asked = urllib.parse.urlencode({"query": expression})
        answer = get(f"{self.url}/api/v1/query?{asked}")
        assert answer["status"] == "success" and answer["data"]["resultType"] == "vector", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def value(self, expression: str) -> float:
        """The sum of its samples; -1 while there are none."""
        found = self.query(f"sum({expression})")
        return float(found[0]["value"][1]) if found else -1.0

    def rules(self) -> list[dict[str, Any]]:
        groups = get(f"{self.url}/api/v1/rules")["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


def _is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


@contextmanager
def _running(command: list[str], log: Path, url: str) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    try:
        wait(lambda: process.poll() is not None or _is_up(url), seconds=60, every=0.1)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def prometheus(textfiles: Path, work: Path) -> Iterator[Prometheus]:
    """A node exporter of the directory ``textfiles``, and a server; both on loopback."""
    exporter, server = (f"127.0.0.1:{_free_port()}" for _ in range(2))
    config = work / "prometheus.yml"
    # JSON is YAML.
    config.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(RULES)],
                "scrape_configs": [
                    {"job_name": _JOB, "static_configs": [{"targets": [exporter]}]},
                ],
            }
        )
    )
    exporting = [
        "prometheus-node-exporter",
        "--collector.disable-defaults",
        "--collector.textfile",
        f"--collector.textfile.directory={textfiles}",
        f"--web.listen-address={exporter}",
    ]
    serving = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={work / 'tsdb'}",
        f"--web.listen-address={server}",
    ]
    with (
        _running(exporting, work / "exporter.log", f"http://{exporter}/metrics"),
        _running(serving, work / "prometheus.log", f"http://{server}/-/ready"),
    ):
        yield Prometheus(f"http://{server}")


def dashboard_queries() -> list[str]:
    """Every query of the dashboard, with what Grafana would put in place of its variables."""
    values = {
        "$__rate_interval": "1m",
        "$__range": "10m",
        "$job": ".*",
        "$instance": ".*",
    }
    panels = json.loads(DASHBOARD.read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel["targets"]]
    for variable, value in values.items():
        found = [query.replace(variable, value) for query in found]
    assert not any("$" in query for query in found), found
    return found

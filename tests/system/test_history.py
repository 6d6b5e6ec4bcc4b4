"""The hook learns from real QEMUs: what one refused is in the history, and known from then on."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from lab import guest_xml, hostdev_pci
from lab.host import Host

from .pair import MIGRATED, NEW, OLD, OTHER_PM, OTHER_VSC, QEMU_LINE, STAYED, VF, Pair
from .service import Service, wait

ALLOW = "[policy]\nfail = allow\n"
ANNOTATE = "[policy]\nfail = annotate\n"
HISTORY = "/var/lib/vfio-preflight/history"


@pytest.fixture(autouse=True)
def without_history(pair: Pair) -> Iterator[None]:
    yield
    for host in pair.a, pair.b:
        shutil.rmtree(host.path(HISTORY), ignore_errors=True)


def history(host: Host) -> list[dict[str, Any]]:
    """The entries, the oldest first."""
    done = host.run(["vfio-preflight", "history", "--format", "json"])
    assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout)["entries"]
    assert isinstance(entries, list)
    return entries


def waiting(host: Host) -> list[str]:
    directory = host.path("/run/vfio-preflight/expected")
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


@pytest.mark.parametrize("policy", [ALLOW, ANNOTATE], ids=["silent", "annotated"])
def test_refusal_is_learned_and_known_from_then_on(pair: Pair, policy: str) -> None:
    guest = pair.start(guest_xml("learn", OLD, [hostdev_pci(VF)]))
    pair.present(pair.b, VF, OTHER_VSC)
    pair.configure(policy)

    assert pair.migrate(guest).returncode != 0

    assert pair.where(guest) == STAYED
    wait(lambda: history(pair.b))
    (entry,) = history(pair.b)
    assert (entry["outcome"], entry["agrees"]) == ("refused", True)
    assert entry["line"] == QEMU_LINE
    assert (entry["expected"]["verdict"], entry["expected"]["guest"]) == ("fail", guest)
    (device,) = entry["expected"]["devices"]
    assert entry["device"] == device["key"]
    assert waiting(pair.b) == []

    asked = pair.check(guest)
    assert (asked.status, asked.report["verdict"]) == (1, "fail")
    assert "refused-before" in asked.codes()
    assert pair.migrate(guest).returncode != 0
    wait(lambda: len(history(pair.b)) == 2)
    codes = history(pair.b)[1]["expected"]["devices"][0]["codes"]
    assert "refused-before" in codes


def test_refusal_counts_where_the_bytes_say_otherwise(pair: Pair) -> None:
    """A file that is out of date: QEMU refuses, against the prediction, but only once."""
    guest = pair.start(guest_xml("once", OLD, [hostdev_pci(VF)]))
    state = pair.b.path(f"/var/lib/vfio-preflight/states/{VF}.bin")
    state.write_bytes(pair.b.path(f"/sys/bus/pci/devices/{VF}/config").read_bytes())
    try:
        pair.present(pair.b, VF, OTHER_PM)
        assert pair.check(guest).report["verdict"] in ("pass", "tolerated")
        assert pair.migrate(guest).returncode != 0
        wait(lambda: history(pair.b))
        (entry,) = history(pair.b)
        assert (entry["outcome"], entry["agrees"]) == ("refused", False)

        told = pair.b.run(["vfio-preflight", "history", "--disagreements"]).stdout
        case = re.search(r"--case FILE\): (\{.*\})$", told, re.MULTILINE)
        assert case and json.loads(case[1])["machine"] == "9.0"
        assert entry["line"] in told and "QEMU 10" in told

        pair.configure("[policy]\nunknown = block\n")
        again = pair.migrate(guest)
        assert "a device with the same model, type, driver and firmware" in again.stderr
        name = entry["name"]
        assert f"history forget {name}" in again.stderr

        pair.b.run(["vfio-preflight", "history", "forget", name]).check_returncode()
        assert pair.check(guest).report["verdict"] == "pass"
    finally:
        state.unlink()
    assert pair.where(guest) == STAYED


def test_arrival_is_noted_by_watch(pair: Pair) -> None:
    service = Service(pair.b)
    guest = pair.start(guest_xml("arrive", NEW, [hostdev_pci(VF)]))
    pair.present(pair.b, VF, OTHER_VSC)
    service.start()
    try:
        assert pair.migrate(guest).returncode == 0
        wait(lambda: history(pair.b))
        wait(lambda: "migration completed, as predicted" in service.log())
    finally:
        service.end()
    assert pair.where(guest) == MIGRATED
    (entry,) = history(pair.b)
    assert (entry["outcome"], entry["agrees"]) == ("completed", True)
    assert waiting(pair.b) == []


def test_guest_that_ends_later_is_not_guessed_about(pair: Pair) -> None:
    guest = pair.start(guest_xml("later", NEW, [hostdev_pci(VF)]))
    assert pair.migrate(guest).returncode == 0
    assert waiting(pair.b) == [f"{guest}.json"]
    pair.b.virsh("destroy", guest).check_returncode()
    wait(lambda: waiting(pair.b) == [])
    assert history(pair.b) == []

"""Hooks of many guests at the same time: every verdict is right, and the host takes no harm.

``HERD=300`` calls so many at once, half of whose guests would fail; the figures are printed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

import pytest
from lxml import etree

from lab import Host, guest_xml, hostdev_pci
from vfio_preflight.guest.domain import read_guest
from vfio_preflight.guest.metadata import Record, RecordEntry, set_record, write_record
from vfio_preflight.guest.xml import parse_domain, to_bytes
from vfio_preflight.pci.state import ConfigState

from . import herd
from .pair import CONFIG, OLD, OTHER_VSC, VF, Pair
from .service import Service, wait

HERD = int(os.environ.get("HERD", "40"))
SCRIPT = Path(herd.__file__)
CACHE, LOG = Path("/var/cache/vfio-preflight"), "/var/log/herd"
MOST = 1 << 30  # bytes of memory
QUIET = f"[hook]\nlog = {LOG}\n"
TRIED = f"{QUIET}trial = always\n"


class Result(NamedTuple):
    """What became of a herd."""

    seen: list[herd.Seen]
    memory: int
    emulators: int

    @property
    def slowest(self) -> float:
        """Seconds, of which 99 in 100 calls took no more."""
        return sorted(call.seconds for call in self.seen)[len(self.seen) * 99 // 100 - 1]


def document(guest: str, device: str, config: bytes) -> str:
    """A guest's XML as the destination gets it, with a record of its device."""
    root = parse_domain(guest_xml(guest, OLD, [device]).encode())
    state = ConfigState(config, (), "vfio", "made up")
    entries = {each.key: RecordEntry(state) for each in read_guest(root).devices}
    assert entries
    set_record(root, write_record(Record(entries, "a", "2026-01-01T00:00:00Z")))
    return to_bytes(root).decode()


def let_go(host: Host, number: int, operation: str = "migrate") -> Result:
    """Half are guests whose device differs, in turn with those whose does not."""
    guests = [f"herd-{n}" for n in range(number)]
    pairs = [(guest, CONFIG if n % 2 else OTHER_VSC) for n, guest in enumerate(guests)]
    documents = [document(guest, hostdev_pci(VF), config) for guest, config in pairs]
    stdin = json.dumps(herd.Herd(guests, documents, operation)._asdict())
    done = host.run(["/usr/bin/python3", SCRIPT], stdin, timeout=herd.PATIENCE + 60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return Result([herd.Seen(*call) for call in found["seen"]], found["memory"], found["emulators"])


def assert_right(result: Result) -> None:
    """Every other guest is blocked, with the reason, and the others pass as the same."""
    for number, call in enumerate(result.seen):
        if number % 2:
            assert (call.status, call.err) == (0, ""), call
            report = etree.fromstring(call.out).find(".//{*}report")
            assert report is not None and report.get("verdict") == "pass", call.out
        else:
            assert (call.status, call.out) == (1, ""), call
            assert "migration blocked" in call.err and "63" in call.err


def forget(host: Host) -> None:
    for path in host.path(CACHE).glob("*.json"):
        path.unlink()


def assert_harmless(host: Host, number: int, emulators: int | None) -> None:
    host.path(LOG).unlink(missing_ok=True)
    single = let_go(host, 2).slowest
    if emulators:
        forget(host)
    result = let_go(host, number)
    print(
        f"{number} at once: 99 % within {result.slowest:.2f} s, two: {single:.2f} s;"
        f" {result.memory >> 20} MiB; emulators started: {result.emulators}"
    )
    assert_right(result)
    log = host.path(LOG).read_text()
    assert "could not be made" not in log
    assert log.count(": migrate ") == number + 2
    assert result.memory < MOST
    if emulators is not None:
        assert result.emulators == emulators


@pytest.mark.parametrize("emulators", [0, 1], ids=["warm", "cold"])
def test_herd(pair: Pair, emulators: int) -> None:
    pair.configure(QUIET)
    assert_harmless(pair.b, HERD, emulators)


def test_herd_with_trials(pair: Pair) -> None:
    """Each has the emulator itself judge, with two processes; not all of them at once."""
    pair.configure(TRIED)
    assert_harmless(pair.b, max(HERD // 4, 10), None)


def test_watch_has_the_answer_at_hand(pair: Pair) -> None:
    """The first guest that comes to a host, at night, does not have its emulator asked."""
    pair.configure(QUIET)
    forget(pair.b)
    service = Service(pair.b)
    service.start()
    try:
        wait(lambda: [*pair.b.path(CACHE).glob("*.json")])
    finally:
        service.end()
    result = let_go(pair.b, 2)
    assert_right(result)
    assert result.emulators == 0


def test_cache_that_cannot_be_written(pair: Pair) -> None:
    """Nobody's answer helps the others: each asks, and every verdict is right."""
    pair.configure(f"{QUIET}[paths]\ncache = /proc/nowhere\n")
    result = let_go(pair.b, 12)
    assert_right(result)
    assert result.emulators == 12

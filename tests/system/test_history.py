"""The hook learns from real QEMUs: what one refused is in the history, and known from then on."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lab import guest_xml, hostdev_pci
from lab.configs import VSC_BODY
from lab.host import Host
from vfio_preflight.osutil.digest import sha256

from .pair import (
    CHECKOUT,
    CONFIG,
    MIGRATED,
    NEW,
    OLD,
    OTHER_PM,
    OTHER_VSC,
    PCI,
    QEMU_LINE,
    SECOND_VF,
    STAYED,
    VF,
    VSC_AT,
    Pair,
)
from .service import Service, wait

ALLOW = "[policy]\nfail = allow\n"
ANNOTATE = "[policy]\nfail = annotate\n"
HISTORY = "/var/lib/vfio-preflight/history"

MIGRATIONS = int(os.environ.get("HISTORY_MIGRATIONS", "12"))
SEED = int(os.environ.get("HISTORY_SEED", random.randrange(1 << 32)))
DEVICES = (VF, SECOND_VF, PCI)
# Bytes in which the devices of the two hosts differ; which of them, and how, is drawn.
DIFFERENCES: Mapping[str, tuple[int, ...]] = {
    "nothing": (),
    "VSC body": tuple(range(VSC_AT, VSC_AT + len(VSC_BODY))),
    "VSC length": (0x62,),
    "PM": (0x42, 0x43),
    "link status": (0x8A, 0x8B),
    "device ID": (0x02, 0x03),
}
# A fault put into the model of a host: as if QEMU compared no byte of PM.
MODEL = "/usr/lib/vfio-preflight/vfio_preflight/qemu/model/capabilities.py"
PM_LINE = "    device.allow_write(offset + PCI_PM_CTRL, 0x3, 2)\n"
PM_FAULT = "    device.cmask[offset : offset + 8] = bytes(8)\n"


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
    state = pair.b.path(f"/var/lib/vfio-preflight/states/{VF}.json")
    config = pair.b.path(f"/sys/bus/pci/devices/{VF}/config").read_bytes()
    state.write_text(json.dumps({"schema": 1, "config": config.hex()}))
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
        assert "the same model, type, driver and firmware on both hosts" in again.stderr
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


# --- many migrations -----------------------------------------------------------------------------


class Drawn(NamedTuple):
    """A guest to migrate, and what its devices present on both hosts."""

    guest: str
    machine: str
    devices: Mapping[str, tuple[bytes, bytes]]


def draw(rng: random.Random, number: int, machine: str, difference: str) -> Drawn:
    """A guest whose first device has the difference; a second one has any."""
    names = rng.sample(DEVICES, rng.choice((1, 1, 2)))
    kinds = (difference, rng.choice([*DIFFERENCES]))
    devices = {name: draw_device(rng, number, kind) for name, kind in zip(names, kinds)}
    return Drawn(f"many-{number}", machine, devices)


def draw_device(rng: random.Random, number: int, kind: str) -> tuple[bytes, bytes]:
    """A device of model ``number``: what is learned of a guest concerns no other."""
    config = bytearray(CONFIG)
    config[VSC_AT : VSC_AT + len(VSC_BODY)] = rng.randbytes(len(VSC_BODY))
    config[0x2E:0x30] = number.to_bytes(2, "little")
    other = bytearray(config)
    for at in DIFFERENCES[kind]:
        other[at] ^= rng.randrange(256)
    return bytes(config), bytes(other)


def show(pair: Pair, host: Host, name: str, config: bytes) -> None:
    """Let a device present ``config``, with its IDs in sysfs."""
    pair.present(host, name, config)
    home = host.path(f"/sys/bus/pci/devices/{name}")
    for file, at in ("device", 0x02), ("subsystem_device", 0x2E):
        number = int.from_bytes(config[at : at + 2], "little")
        (home / file).write_text(f"0x{number:04x}\n")


@pytest.fixture
def models(pair: Pair) -> Iterator[None]:
    """The devices' IDs are as before afterwards."""
    yield
    for host, name in product((pair.a, pair.b), DEVICES):
        show(pair, host, name, CONFIG)


def entries_of(host: Host, guest: str) -> list[Path]:
    return [*host.path(HISTORY).glob(f"*/*-{guest}-*.json")]


def migrate_one(pair: Pair, drawn: Drawn) -> bool:
    """Whether the guest arrives; by then its outcome is in the history."""
    for name, (here, there) in drawn.devices.items():
        show(pair, pair.a, name, here)
        show(pair, pair.b, name, there)
    devices = [hostdev_pci(name) for name in drawn.devices]
    guest = pair.start(guest_xml(drawn.guest, drawn.machine, devices))
    arrives = pair.migrate(guest).returncode == 0
    assert pair.where(guest) == (MIGRATED if arrives else STAYED), drawn
    wait(lambda: entries_of(pair.b, guest))
    (pair.b if arrives else pair.a).virsh("destroy", guest).check_returncode()
    pair.a.virsh("undefine", guest).check_returncode()
    return arrives


@pytest.mark.usefixtures("models")
def test_predictions_and_outcomes_agree(pair: Pair) -> None:
    """Whatever differs: every outcome is in the history, and was predicted."""
    rng = random.Random(SEED)
    pairs = [*product((OLD, NEW), DIFFERENCES)]
    rng.shuffle(pairs)
    drawn = [draw(rng, 0x100 + n, *each) for n, each in enumerate(islice(cycle(pairs), MIGRATIONS))]
    # It may be that none of those that were drawn arrives, or that all do.
    drawn.append(Drawn("arrives", NEW, {VF: (CONFIG, CONFIG)}))
    drawn.append(Drawn("refused", OLD, {PCI: (CONFIG, OTHER_VSC)}))
    pair.configure(ALLOW)
    service = Service(pair.b)
    service.start()
    try:
        arrived = {each.guest: migrate_one(pair, each) for each in drawn}
    finally:
        service.end()
    entries = history(pair.b)
    found = {entry["expected"]["guest"]: entry["outcome"] for entry in entries}
    wanted = {guest: "completed" if arrives else "refused" for guest, arrives in arrived.items()}
    assert (len(entries), found) == (len(drawn), wanted), f"HISTORY_SEED={SEED}"
    wrong = [entry for entry in entries if entry["agrees"] is not True]
    assert not wrong, f"HISTORY_SEED={SEED}"
    assert set(found.values()) == {"completed", "refused"}
    assert waiting(pair.b) == []


@contextmanager
def wrong_model(host: Host) -> Iterator[None]:
    """The copy that is installed there has a fault in its model."""
    path = host.path(MODEL)
    sound = path.read_text()
    assert sound.count(PM_LINE) == 1
    path.write_text(sound.replace(PM_LINE, PM_FAULT + PM_LINE))
    try:
        yield
    finally:
        path.write_text(sound)


@pytest.mark.parametrize("machine", [OLD, NEW])
def test_wrong_model_gives_a_case_of_its_own(pair: Pair, machine: str, tmp_path: Path) -> None:
    """All that the report of a fault needs, without the hosts, and with a sound model."""
    with wrong_model(pair.b):
        guest = pair.start(guest_xml("wrong", machine, [hostdev_pci(VF)]))
        pair.present(pair.b, VF, OTHER_PM)
        assert pair.check(guest).report["verdict"] == "pass"
        assert pair.migrate(guest).returncode != 0
        wait(lambda: history(pair.b))
    (entry,) = history(pair.b)
    assert (entry["outcome"], entry["agrees"]) == ("refused", False)
    told = pair.b.run(["vfio-preflight", "history", "--disagreements"]).stdout
    for part in ("predicted pass", entry["line"], machine, sha256(CONFIG), sha256(OTHER_PM)):
        assert part in told
    case = re.search(r"--case FILE\): (\{.*\})$", told, re.MULTILINE)
    assert case
    file = tmp_path / "case.json"
    file.write_text(case[1])
    judged = judge_case(file)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def judge_case(file: Path) -> subprocess.CompletedProcess[str]:
    """What the command says that the case names."""
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT / 'plugin'}:{CHECKOUT / 'tests'}"}
    command = [sys.executable, "-W", "ignore", "-m", "conformance", "--case", str(file)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

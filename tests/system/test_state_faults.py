"""Directories that take no file, and files that are not what they should be: no verdict changes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lxml import etree

from lab import Host, hostdev_pci

from .kill_hook import HOOK
from .pair import CONFIG, OTHER_VSC, VF, Pair
from .test_herd import document

RUNTIME, KEPT, CACHE = "/run/vfio-preflight", "/var/lib/vfio-preflight", "/var/cache/vfio-preflight"
LOG = "/var/log/state-faults"
CONFIGURED = f"[hook]\nlog = {LOG}\ndeadline = 30\nsecond-gate = always\n"
ENTRY = f"{CACHE}/usr!bin!qemu-system-x86_64.json"

# Each is made in a mount namespace of its own, in which the hook is then called.
TMPFS = "mkdir -p {0} && mount -t tmpfs -o mode=700,{1} state {0}"
FAULTS = {
    "full": TMPFS.format("{0}", "size=4k")
    + " && {{ head -c 1m /dev/zero >{0}/filler 2>/dev/null; true; }}",
    "no inode left": TMPFS.format("{0}", "nr_inodes=1"),
    "read-only": "mkdir -p {0} && mount --bind {0} {0} && mount -o remount,bind,ro {0}",
    "not there": "rm -rf {0}",
    "neither there nor to be made": (
        "rm -rf {0}; d=$(dirname {0}) && mount --bind $d $d && mount -o remount,bind,ro $d"
    ),
    "a file": "rm -rf {0} && touch {0}",
    "anybody's": "mkdir -p {0} && chmod 777 {0}",
}  # fmt: skip
# With these a refusal of a restore can be kept all the same: what is made below is ours alone.
KEPT_ALL_THE_SAME = {"not there", "anybody's"}


@pytest.fixture
def host(pair: Pair) -> Iterator[Host]:
    pair.configure(CONFIGURED)
    host = pair.b
    kept = host.path("/var/lib/kept")
    shutil.copytree(host.path(KEPT), kept)
    host.path(LOG).unlink(missing_ok=True)
    yield host
    for path in (RUNTIME, CACHE, KEPT):
        place = host.path(path)
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
    kept.rename(host.path(KEPT))


def call(
    host: Host, operation: str, xml: str, fault: str = "true", guest: str = "g1"
) -> subprocess.CompletedProcess[str]:
    script = f"{fault} || exit 99; exec {HOOK} {guest} {operation} begin -"
    done = host.run(["unshare", "--mount", "/bin/sh", "-c", script], xml)
    assert done.returncode != 99, done.stderr
    return done


def verdict(done: subprocess.CompletedProcess[str]) -> str | None:
    report = etree.fromstring(done.stdout).find(".//{*}report")
    return None if report is None else report.get("verdict")


def logged(host: Host) -> str:
    return re.sub(r"(?m)^\S+ \S+ ", "", host.path(LOG).read_text())


@pytest.mark.parametrize("directory", [RUNTIME, KEPT, CACHE])
@pytest.mark.parametrize("how", FAULTS)
def test_directory_that_takes_no_file(how: str, directory: str, host: Host) -> None:
    fault = FAULTS[how].format(directory)
    bad, good = (document("g1", hostdev_pci(VF), config) for config in (OTHER_VSC, CONFIG))

    blocked = call(host, "migrate", bad, fault)
    assert (blocked.returncode, blocked.stdout) == (1, "")
    assert "migration blocked" in blocked.stderr and "63" in blocked.stderr
    assert "migrate guest 'g1': fail" in logged(host)

    passed = call(host, "migrate", good, fault)
    assert (passed.returncode, passed.stderr, verdict(passed)) == (0, "", "pass")
    assert "migrate guest 'g1': pass" in logged(host)

    # Without one the restore passes, and the log says so.
    keeps = directory != RUNTIME or how in KEPT_ALL_THE_SAME
    assert ("cannot be judged again" in logged(host)) != keeps, logged(host)
    restored = call(host, "restore", bad, fault)
    assert (restored.returncode, restored.stderr) == (0, "")
    assert ("cannot be refused" in logged(host)) != keeps, logged(host)
    if keeps:
        assert verdict(restored) == "fail"
        refused = call(host, "prepare", restored.stdout, "true" if how == "not there" else fault)
        assert refused.returncode == 1 and "restore blocked" in refused.stderr
    assert "internal error" not in logged(host)
    assert "could not be made" not in logged(host)


def write(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def garble(path: Path) -> None:
    """Whole JSON, of another shape in the middle."""
    path.write_text(path.read_text().replace('"machines":[[', '"machines":[7,[', 1))


def replaced(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


DAMAGES: dict[str, Callable[[Path], object]] = {
    "random": write(os.urandom(5000)),
    "empty": write(b""),
    "cut short": cut,
    "of another shape": garble,
    "nested": write(b"[" * 500_000),
    "huge": lambda path: os.truncate(path, 1 << 33),
    "a number": write(b"9" * 100_000),
    "a directory": replaced(Path.mkdir),
    "a FIFO": replaced(os.mkfifo),
    "a link": replaced(lambda path: path.symlink_to("/dev/zero")),
    "a link to itself": replaced(lambda path: path.symlink_to(path.name)),
    "anybody's": lambda path: path.chmod(0o666),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_cache_whose_entry_is_damaged(how: str, host: Host) -> None:
    bad, good = (document("g1", hostdev_pci(VF), config) for config in (OTHER_VSC, CONFIG))
    assert call(host, "migrate", good).returncode == 0
    DAMAGES[how](host.path(ENTRY))
    begun = time.monotonic()
    assert call(host, "migrate", bad).returncode == 1
    passed = call(host, "migrate", good)
    assert (passed.returncode, verdict(passed)) == (0, "pass")
    assert time.monotonic() - begun < 20
    assert "could not be made" not in logged(host)
    # It is made anew, unless somebody has put a directory in its place.
    assert host.path(ENTRY).is_file() != (how == "a directory")


@pytest.mark.parametrize("how", ["random", "cut short", "huge", "a directory", "a FIFO", "a link"])
def test_what_waits_for_a_guest_is_damaged(how: str, host: Host) -> None:
    """What was left for a guest's second gate or end is then not there; what comes next passes."""
    good = document("g1", hostdev_pci(VF), CONFIG)
    assert call(host, "migrate", good).returncode == 0
    for kind in ("second-gate", "expected"):
        path = host.path(f"{RUNTIME}/{kind}/g1.json")
        end = time.monotonic() + 10
        while not path.exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        DAMAGES[how](path)
    for words in ("started begin", "release end"):
        operation, sub = words.split()
        done = host.run([HOOK, "g1", operation, sub, "failed"], good)
        assert (done.returncode, done.stdout) == (0, "")
    assert call(host, "migrate", good).returncode == 0

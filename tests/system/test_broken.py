"""A host in the middle of an upgrade: no guest and no saved state is lost for want of a Python."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import Host, guest_xml, hostdev_pci

from .pair import CONFIG, MIGRATED, OLD, OTHER_VSC, QEMU_LINE, VF, Pair

PYTHON = Path(os.path.realpath("/usr/bin/python3"))
LIBRARY = Path(f"/usr/lib/{PYTHON.name}")
SECONDS = 10.0


def script(text: str) -> Callable[[Host], None]:
    """What a wrapper, or another package's idea of a Python, may do."""

    def put(host: Host) -> None:
        host.path(PYTHON).unlink()
        host.path(PYTHON).write_text(f"#!/bin/sh\n{text}\n")
        host.path(PYTHON).chmod(0o755)

    return put


def truncate(host: Host) -> None:
    whole = host.path(PYTHON).read_bytes()
    host.path(PYTHON).unlink()
    host.path(PYTHON).write_bytes(whole[: len(whole) // 2])
    host.path(PYTHON).chmod(0o755)


def garble(host: Host) -> None:
    host.path("/usr/lib/vfio-preflight/vfio_preflight/hook/gate.py").write_text("def")


def lack(*patterns: str) -> Callable[[Host], None]:
    def remove(host: Host) -> None:
        for pattern in patterns:
            found = list(host.path("/").glob(pattern.lstrip("/")))
            assert found, pattern
            for path in found:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    return remove


BROKEN: dict[str, Callable[[Host], None]] = {
    "truncated": truncate,
    "exits 1": script("exit 1"),
    "exits 127": script("exit 127"),
    "exits 0, having written": script("echo '<domain'; exit 0"),
    "killed": script("echo '<domain'; kill -9 $$"),
    "not there": lack("/usr/bin/python3*"),
    "no standard library": lack(str(LIBRARY)),
    "no encodings": lack(f"{LIBRARY}/encodings"),
    "no libexpat": lack("/usr/lib/x86_64-linux-gnu/libexpat.so.1*"),
    "no lxml": lack("/usr/lib/python3/dist-packages/lxml"),
    "no package": lack("/usr/lib/vfio-preflight/current"),
    "no modules": lack("/usr/lib/vfio-preflight/current/vfio_preflight"),
    "half a package": lack("/usr/lib/vfio-preflight/vfio_preflight/judge"),
    "a broken module": garble,
}


@pytest.fixture
def syslog(pair: Pair) -> Iterator[Callable[[], str]]:
    """What host a's syslog is told until a line of ours comes."""
    place = pair.a.path("/dev/log")
    place.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(place))
        place.chmod(0o666)
        listener.settimeout(SECONDS)

        def told() -> str:
            lines: list[str] = []
            while not lines or "vfio-preflight" not in lines[-1]:
                lines.append(listener.recv(65536).decode())
            return lines[-1]

        yield told
    place.unlink()


@pytest.fixture
def broken(request: pytest.FixtureRequest, pair: Pair) -> Iterator[Callable[[str], None]]:
    """Break host a's Python, in a layer of its own over the host's /usr."""
    mounted = "/run/upper"
    # Lazily: the QEMU of a guest that was started meanwhile runs from there.
    undo = f"umount --lazy /usr && umount --lazy {mounted} && rmdir {mounted}"

    def break_it(how: str) -> None:
        layer = (
            f"mkdir {mounted} && mount -t tmpfs upper {mounted}"
            f" && mkdir {mounted}/u {mounted}/w && mount -t overlay overlay"
            f" -o lowerdir=/usr,upperdir={mounted}/u,workdir={mounted}/w /usr"
        )
        pair.a.run(["/bin/sh", "-c", layer]).check_returncode()
        BROKEN[how](pair.a)

    yield break_it
    pair.a.run(["/bin/sh", "-c", undo]).check_returncode()


def saved(pair: Pair, name: str) -> Path:
    pair.start(guest_xml(name, OLD, [hostdev_pci(VF)]))
    pair.a.virsh("managedsave", name).check_returncode()
    return pair.a.var_lib / f"qemu/save/{name}.save"


@pytest.mark.parametrize("how", BROKEN)
def test_managed_save_survives_and_syslog_is_told(
    how: str, pair: Pair, broken: Callable[[str], None], syslog: Callable[[], str]
) -> None:
    """libvirt 11.3 deletes it when "restore begin" fails, or writes what is no XML."""
    image = saved(pair, "half")
    broken(how)
    started = pair.a.virsh("start", "half")
    assert started.returncode == 0, started.stderr
    assert pair.a.state("half") == "running"
    assert any("-incoming" in each for each in pair.a.qemu_arguments("half")), "started anew"
    assert not image.exists(), "it was restored from"
    line = syslog()
    assert "nothing was checked" in line or "could not be made" in line or "nothing checked" in line


@pytest.mark.parametrize("how", ["truncated", "killed", "no standard library", "no lxml"])
def test_good_guest_migrates_to_a_host_with_half_a_python(
    how: str, pair: Pair, broken: Callable[[str], None], syslog: Callable[[], str]
) -> None:
    guest = pair.b.start_guest(guest_xml("comes", OLD, [hostdev_pci(VF)]))
    broken(how)
    done = pair.lab.migrate(guest, pair.b, pair.a)
    assert done.returncode == 0, done.stderr
    assert (pair.b.state(guest), pair.a.state(guest)) == MIGRATED
    assert "migrate begin" in syslog()


def test_bad_restore_with_half_a_python_keeps_the_save(
    pair: Pair, broken: Callable[[str], None]
) -> None:
    """QEMU itself refuses what is not checked; the image stays."""
    image = saved(pair, "bad")
    pair.present(pair.a, VF, OTHER_VSC)
    broken("truncated")
    assert pair.a.virsh("start", "bad").returncode != 0
    assert QEMU_LINE in pair.a.guest_log("bad")
    assert image.exists()


def test_two_restores_of_one_image_are_both_refused(pair: Pair) -> None:
    """20 ms apart: each attempt has its refusal, and QEMU is started for none."""
    pair.start(guest_xml("twice", OLD, [hostdev_pci(VF)]))
    image = "/var/lib/libvirt/twice.img"
    pair.a.virsh("save", "twice", image).check_returncode()
    pair.present(pair.a, VF, OTHER_VSC)
    before = pair.a.guest_log("twice").count("starting up")
    for _ in range(12):
        command = pair.a._inside(["/usr/bin/virsh", "--quiet", "restore", image])
        attempts = []
        for _ in range(2):
            attempts.append(
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )
            time.sleep(0.02)
        for attempt in attempts:
            _, error = attempt.communicate(timeout=60)
            assert attempt.returncode != 0
            # Or libvirt itself, which knows of the first attempt.
            assert "restore blocked" in error or "already active" in error, error
    assert pair.a.guest_log("twice").count("starting up") == before, "QEMU was started"
    assert list(pair.a.path("/run/vfio-preflight/refused").iterdir()) == []
    pair.present(pair.a, VF, CONFIG)
    pair.a.virsh("restore", image).check_returncode()

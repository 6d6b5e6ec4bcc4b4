"""``doctor`` on a host: healthy, then with each fault planted, and mended by what it prints."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lab import FakeDevice, Host, Lab, guest_xml, hostdev_pci
from lab.devices import pci_directory, write_config
from vfio_preflight.cli.diagnosis.faults import FAULTS

from .pair import CHECKOUT, CONFIG, MDEV, MDEV_TYPE, NEW, OTHER_PM, VF, Pair
from .plants import APT, CONFIGURATION, HOOK, HOOKS, PLANTS, STATE, Plant

# One plant for each code, or (make doctor-test) all of them.
EVERY = bool(os.environ.get("DOCTOR_EVERY"))
ONE_EACH = [*{plant.code: name for name, plant in reversed(PLANTS.items())}.values()][::-1]
# After one fault is mended, others may have to be: watch reads the configuration as it starts.
ROUNDS = 5
# Faults that no shell script plants, and where they are.
ELSEWHERE = {
    "label-wrong": "unit/cli/test_doctor.py: no kernel with SELinux is at hand",
    "reload-pending": "test_hook_that_libvirt_has_not_found",
    "record-missing": "test_guest_without_a_record",
    "record-lost": "test_guest_that_came_without_a_record",
    "prediction-wrong": "test_prediction_that_was_wrong",
    "watch-shut-out": "unit/cli/test_doctor.py: no systemd runs in here",
    "watch-disabled": "test_watch_that_the_next_boot_does_not_start",
}


class Said(NamedTuple):
    """What ``doctor`` says: its status, the problems by code, the text, and how long it took."""

    status: int
    problems: dict[str, tuple[str, str]]
    text: str
    seconds: float


def doctor(host: Host, *options: str) -> Said:
    begun = time.monotonic()
    # Also where the file may not be executed.
    done = host.run(["/usr/bin/python3", "-I", "/usr/bin/vfio-preflight", "doctor", *options])
    seconds = time.monotonic() - begun
    assert done.stderr == ""
    found = re.findall(r"^problem   (.*) \[([a-z-]+)\]\n  to mend: (.*)$", done.stdout, re.M)
    problems = {code: (text, command) for text, code, command in found}
    assert len(re.findall(r"^problem", done.stdout, re.M)) == len(found), done.stdout
    assert done.returncode == (1 if found else 3 if "not seen" in done.stdout else 0)
    return Said(done.returncode, problems, done.stdout, seconds)


def shell(host: Host, script: str) -> None:
    done = host.run(["/bin/sh", "-c", script])
    assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"


def mended(host: Host, options: tuple[str, ...] = (), gone: str = "") -> None:
    """Run what doctor prints until it prints nothing more; ``gone`` does not come back."""
    for _ in range(ROUNDS):
        said = doctor(host, *options)
        assert gone not in said.problems, said.text
        if not said.problems:
            break
        for _text, command in said.problems.values():
            shell(host, command)
        time.sleep(0.3)
    assert re.sub(r"(?m)^self-test .*\n", "", said.text) == "healthy\n"


def found_and_mended(host: Host, code: str, options: tuple[str, ...] = (), named: str = "") -> Said:
    """The fault is named, and gone after the command, literally run."""
    said = doctor(host, *options)
    # It reads the configuration as it starts, and may have started long before.
    assert said.problems.keys() - {"watch-outdated"} == {code} - {"watch-outdated"}, said.text
    text, command = said.problems[code]
    assert named in text
    shell(host, command)
    mended(host, options, gone=code)
    return said


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two hosts of which the first is healthy; nothing is installed on the second."""
    with Lab(tmp_path_factory.mktemp("doctor")) as lab:
        pair = Pair(lab)
        for host in pair.a, pair.b:
            host.add_device(FakeDevice(VF, "vf", CONFIG))
        pair.a.add_device(FakeDevice(MDEV, "mdev", CONFIG, mdev_type=MDEV_TYPE))
        pair.install(pair.a)
        mended(pair.a)
        yield pair


@pytest.fixture
def host(pair: Pair) -> Iterator[Host]:
    """The first host, as freshly installed, and again after the test."""
    host = pair.a
    yield host
    for guest in host.virsh("list", "--all", "--name").stdout.split():
        host.virsh("destroy", guest)
        host.virsh("undefine", guest)
    host.run(["/bin/sh", "-c", f"umount {HOOKS}"])
    for path in host.hooks.rglob("*"):
        if path.is_file() and str(path).partition("root")[2] != HOOK:
            path.unlink()
    shutil.rmtree(host.path(STATE), ignore_errors=True)
    host.path(f"{STATE}/states").mkdir(parents=True)
    host.path(APT).unlink(missing_ok=True)
    remove(host.path(CONFIGURATION))
    shutil.copy(CHECKOUT / "etc/vfio-preflight.conf", host.path(CONFIGURATION))
    mended(host)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def test_every_fault_is_planted() -> None:
    assert {plant.code for plant in PLANTS.values()} | ELSEWHERE.keys() == {
        fault.code for fault in FAULTS
    }
    wanted = {fault.code for fault in FAULTS if fault.self_test}
    assert {plant.code for plant in PLANTS.values() if plant.self_test} == wanted


def test_healthy_host(host: Host) -> None:
    said = doctor(host)
    assert (said.status, said.text) == (0, "healthy\n")
    print(f"doctor on a healthy host: {said.seconds:.2f} s")


@pytest.mark.parametrize("name", PLANTS if EVERY else ONE_EACH)
def test_fault_is_found_and_gone_after_the_command(name: str, host: Host) -> None:
    plant: Plant = PLANTS[name]
    if plant.back:
        host.path(APT).write_text(f"#!/bin/sh\n[ $1 = install ] && {plant.back}\n")
        host.path(APT).chmod(0o755)
    shell(host, plant.script)
    options = ("--self-test",) if plant.self_test else ()
    if plant.self_test:
        assert doctor(host).text == "healthy\n", "no other's hook is run unless asked to"
    found_and_mended(host, plant.code, options, plant.named)


def test_hook_that_libvirt_has_not_found(host: Host, pair: Pair) -> None:
    """It is not run until then, and is afterwards."""
    host.stop_libvirtd()
    host.path(HOOK).rename(host.path("/etc/libvirt/hook"))
    host.start_libvirtd()
    time.sleep(1.5)
    host.path("/etc/libvirt/hook").rename(host.path(HOOK))
    visitor = pair.b.define(guest_xml("visitor", NEW))
    calls = host.path("/run/calls")

    def arrives() -> str:
        calls.write_text("")
        entry = host.path("/usr/lib/vfio-preflight/current/hook")
        sound = entry.read_text()
        entry.write_text(f'echo "$1 $2" >>/run/calls\n{sound}')
        moved = pair.b.virsh("migrate", "--offline", "--persistent", visitor, host.uri)
        entry.write_text(sound)
        assert moved.returncode == 0, moved.stderr
        host.virsh("undefine", visitor).check_returncode()
        return calls.read_text()

    assert arrives() == ""
    found_and_mended(host, "reload-pending", named="libvirtd")
    assert arrives() == "visitor migrate\n"
    # What is known of this daemon stays known, whatever becomes of the file.
    host.path(HOOK).write_text(host.path(HOOK).read_text())
    assert doctor(host).text == "healthy\n"
    pair.b.virsh("undefine", visitor)


def test_guest_without_a_record(host: Host) -> None:
    guest = host.start_guest(guest_xml("d1", NEW, [hostdev_pci(VF)]))
    time.sleep(1)
    assert doctor(host).text == "healthy\n"
    host.virsh("metadata", guest, "urn:vfio-preflight:1", "--remove").check_returncode()
    found_and_mended(host, "record-missing", named="d1 runs without a record of hostdev0")


def test_guest_that_came_without_a_record(host: Host, pair: Pair) -> None:
    pair.b.start_guest(guest_xml("d2", NEW, [hostdev_pci(VF)]))
    moved = pair.lab.migrate("d2", pair.b, host, "--persistent")
    assert moved.returncode == 0, moved.stderr
    said = doctor(host)
    assert list(said.problems) == ["record-lost"], said.text
    mending = host.popen(["/bin/sh", "-c", said.problems["record-lost"][1]])
    time.sleep(1)
    # It has no operating system that would shut it down.
    host.virsh("destroy", "d2").check_returncode()
    assert mending.wait(timeout=20) == 0, mending.communicate()
    mended(host, gone="record-lost")
    assert host.state("d2") == "running"


def test_prediction_that_was_wrong(host: Host, pair: Pair) -> None:
    """sysfs shows other bytes than the device presents."""
    pair.b.start_guest(guest_xml("d3", NEW, [hostdev_pci(VF)]))
    pair.b.run(["env", f"PYTHONPATH={CHECKOUT / 'plugin'}", "/usr/bin/python3", "-B", "-m",
                "vfio_preflight", "record", "d3"]).check_returncode()  # fmt: skip
    host.set_config(VF, OTHER_PM)
    write_config(pci_directory(host.path("/sys"), VF) / "config", CONFIG)
    try:
        assert pair.lab.migrate("d3", pair.b, host).returncode != 0
        found_and_mended(host, "prediction-wrong", named="1 predictions were wrong")
        assert "Bad config data" in host.path("/root/vfio-preflight-disagreements.txt").read_text()
    finally:
        host.set_config(VF, CONFIG)
        pair.b.virsh("destroy", "d3")
        pair.b.virsh("undefine", "d3")


def test_watch_that_the_next_boot_does_not_start(host: Host) -> None:
    """With a stand-in for systemctl: no systemd runs in here."""
    wants = "/etc/systemd/system/multi-user.target.wants"
    unit = "vfio-preflight-watch.service"
    stand_in = host.path("/usr/local/sbin/systemctl")
    stand_in.write_text(
        f"#!/bin/sh\n[ $1 = enable ] && mkdir -p {wants} && ln -sf /x {wants}/{unit}\n"
    )
    stand_in.chmod(0o755)
    host.path("/run/systemd/system").mkdir(parents=True)
    try:
        found_and_mended(host, "watch-disabled")
    finally:
        stand_in.unlink()
        host.path("/run/systemd").rename(host.path("/run/no-systemd"))


# --- the self-test -------------------------------------------------------------------------------


def test_self_test_leaves_nothing(host: Host) -> None:
    """Neither files nor mounts: guests and what waits for them stay as they are."""
    doctor(host)
    find = "find /run/vfio-preflight /var/lib/vfio-preflight /etc -printf '%p %s %T@\\n' | sort"
    before = host.run(["/bin/sh", "-c", find]).stdout
    mounts = host.run(["cat", "/proc/self/mounts"]).stdout
    said = doctor(host, "--self-test")
    lines = said.text.splitlines()
    assert re.fullmatch(r"self-test .*: let pass \(exit status 0, \d\.\d\d s\)", lines[0])
    assert re.match(
        r"self-test .*: blocked \(exit status 1, \d\.\d\d s\): vfio-preflight: migration blocked:"
        r" hostdev0 .*Revision ID, offset 0x8: source 00, destination 01", lines[1]
    )  # fmt: skip
    assert lines[2:] == ["healthy"]
    assert host.run(["/bin/sh", "-c", find]).stdout == before
    assert host.run(["cat", "/proc/self/mounts"]).stdout == mounts


@pytest.mark.parametrize(
    ("policy", "second"),
    [("fail = allow", "let pass"), ("evidence = vfio", "let pass"), ("fail = mend", "blocked"),
     ("evidence = vfio\nunknown = block", "blocked")],
)  # fmt: skip
def test_self_test_goes_by_the_policy(policy: str, second: str, host: Host) -> None:
    host.path(CONFIGURATION).write_text(f"[policy]\n{policy}\n")
    said = doctor(host, "--self-test")
    assert second in said.text.splitlines()[1]
    assert "hook-wrong" not in said.problems, said.text


@pytest.mark.parametrize("broken", ["cli/doctor.py", "cli/diagnosis/entry.py", "pci/space.py"])
def test_json_says_the_same(broken: str, host: Host) -> None:
    """Also if it is the file that starts the command that says it."""
    shell(host, f"echo broken broken >/usr/lib/vfio-preflight/current/vfio_preflight/{broken}")
    said = doctor(host)
    done = host.run(["vfio-preflight", "doctor", "--format", "json"])
    value: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode, value["schema"], value["healthy"]) == (said.status, 1, False)
    assert value.keys() >= {"problems", "unseen", "facts"}
    told = {each["code"]: (each["text"], each["command"]) for each in value["problems"]}
    assert told == said.problems and list(told) == ["package-broken"]


def test_one_who_is_not_root(host: Host) -> None:
    done = host.run(["setpriv", "--reuid=1000", "--clear-groups", "vfio-preflight", "doctor"])
    assert (done.returncode, done.stderr) == (3, "")
    assert "run: sudo vfio-preflight doctor" in done.stdout


def test_other_commands_with_a_broken_package(host: Host) -> None:
    shell(host, "truncate -s 100 /usr/lib/vfio-preflight/current/vfio_preflight/host/history.py")
    done = host.run(["vfio-preflight", "history"])
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "host/history.py" in done.stderr and "to mend: rm -rf" in done.stderr
    command = subprocess.list2cmdline([done.stderr.strip().partition("to mend: ")[2]]).strip('"')
    shell(host, command)
    assert host.run(["vfio-preflight", "history"]).returncode == 0

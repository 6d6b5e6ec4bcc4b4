"""Guests of the sorts people run, between hosts with different releases of QEMU and libvirt.

Each is predicted by its twin and then really migrated, from the older release to the newer and
back. With GUESTS=all (make guests) every guest is started on the newer as well.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lab import Host, Lab, queues
from lab.other_qemu import NEWEST, other_qemu, other_release
from vfio_preflight.qemu.twin.told import ACCEPTED, BLOCKED, REFUSED

from .guests import EMULATOR, SORTS, Sort, nic, xml_of
from .pair import Pair

FLOPPY = 1440 << 10
STARTS = ("a", "b") if os.environ.get("GUESTS") == "all" else ("a",)
ROM = "/usr/share/nic.rom"
NO_BALLOON = "<memballoon model='none'/>"
LACKING = [
    path
    for path in ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/bin/swtpm_setup")
    if not os.path.exists(path)
]
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"lacks {', '.join(LACKING)}")


class Two(NamedTuple):
    """Hosts of two releases, ``a`` the older, and a directory of disks that both see."""

    lab: Lab
    disks: Path

    def start(self, name: str, sort: Sort, where: str) -> Host:
        xml = xml_of(name, sort, str(self.disks))
        for path in map(Path, re.findall(r"<source file='([^']*)'", xml)):
            path.write_bytes(bytes(FLOPPY if path.name.startswith("fd") else 1 << 20))
        self.lab[where].start_guest(xml)
        return self.lab[where]

    def other(self, host: Host) -> Host:
        return self.lab.b if host is self.lab.a else self.lab.a


class Twin(NamedTuple):
    """What a twin came to; QEMU's line, and what of the guest was not in it."""

    outcome: str
    line: str
    uncovered: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    newest = other_release(NEWEST)
    with Lab(tmp_path_factory.mktemp("guests"), other_release=newest) as lab:
        disks = lab.directory / "disks"
        disks.mkdir()
        for host in lab.a, lab.b:
            Pair(lab).install(host)
        yield Two(lab, disks)


@pytest.fixture
def two(hosts: Two) -> Iterator[Two]:
    """The hosts, and afterwards without guests."""
    yield hosts
    for host in hosts.lab.a, hosts.lab.b:
        for guest in host.virsh("list", "--all", "--name").stdout.split():
            host.virsh("destroy", guest)
            host.virsh("undefine", guest, "--nvram", "--tpm")


def predicted(two: Two, source: Host, guest: str) -> Twin:
    """What comes of the guest's twin, by the command on each host."""
    file = two.disks / f"{guest}.twin"
    saved = source.run(["sh", "-c", f"vfio-preflight twin save {guest} >{file}"])
    if saved.returncode != 0:
        assert saved.returncode == 1, saved.stderr
        assert "refuses to send the guest's twin" in saved.stderr
        return Twin(BLOCKED, saved.stderr.partition('"')[2].partition('"')[0])
    command = ["vfio-preflight", "twin", "load", str(file), "--format", "json"]
    loaded = two.other(source).run(command)
    told = json.loads(loaded.stdout)
    assert loaded.returncode == (told["outcome"] != ACCEPTED), loaded
    return Twin(told["outcome"], told["line"], tuple(told["uncovered"]))


def done(two: Two, source: Host, guest: str) -> tuple[str, str]:
    """Migrate for real: what became of the guest, and all that was said."""
    destination = two.other(source)
    before = len(destination.guest_log(guest))
    result = two.lab.migrate(guest, source, destination, "--unsafe")
    told = f"{result.stderr}\n{destination.guest_log(guest)[before:]}"
    if result.returncode == 0:
        assert destination.state(guest) == "running"
        return ACCEPTED, told
    assert source.state(guest) == "running"
    return (BLOCKED if "non-migratable device" in told else REFUSED), told


def hop(two: Two, source: Host, guest: str) -> str:
    """A migration that went as its twin had said, in QEMU's own words."""
    said, line, _ = predicted(two, source, guest)
    assert two.other(source).state(guest) in ("", "shut off")  # nothing has moved
    outcome, told = done(two, source, guest)
    assert said == outcome, f"{line}\n{told}"
    if outcome == REFUSED:
        # Of which queue that is: firmware has set up some of them.
        assert line and (queues.LINE if queues.LINE in line else line) in told
    elif outcome == BLOCKED:
        # libvirt quotes QEMU's reasons in words of its own.
        assert (device := line.split("'")[1]) and f"non-migratable device: {device}" in told
    return outcome


def is_virtio(source: Host, guest: str) -> bool:
    """libvirt gives guests a balloon, unless they want none."""
    return any('"virtio-' in word for word in source.qemu_arguments(guest))


def survives(two: Two, source: Host) -> bool:
    """Whether virtio devices that were started on this host do, on the way to the other."""
    paths = {two.lab.a: EMULATOR, two.lab.b: str(other_qemu(NEWEST))}
    return not queues.are_refused(paths[source], paths[two.other(source)])


@pytest.mark.parametrize(("name", "where"), [(name, where) for name in SORTS for where in STARTS])
def test_there_and_back(two: Two, name: str, where: str) -> None:
    ends = SORTS[name].ends
    source = two.start(name, SORTS[name], where)
    if ends.get(where) != BLOCKED and is_virtio(source, name) and not survives(two, source):
        ends = {where: REFUSED}
    for _ in range(2):
        assert hop(two, source, name) == ends.get(source.name, ACCEPTED)
        if source.name in ends:
            break
        source = two.other(source)


# --- differences that are provoked ---------------------------------------------------------------


def test_option_rom_of_another_size(two: Two) -> None:
    for host, size in ((two.lab.a, 60 << 10), (two.lab.b, 200 << 10)):
        host.path(ROM).write_bytes(b"\x55\xaa" + bytes(size))
    sort = Sort("pc-q35-9.0", [nic("e1000e", 1, f"<rom file='{ROM}'/>"), NO_BALLOON])
    source = two.start("rom", sort, "a")
    assert hop(two, source, "rom") == REFUSED
    two.lab.b.path(ROM).write_bytes(two.lab.a.path(ROM).read_bytes())
    assert hop(two, source, "rom") == ACCEPTED


def test_firmware_of_another_size(two: Two) -> None:
    """As of a package with an image of 2 MB where the other host's has one of 4 MB."""
    path = two.lab.b.path("/usr/share/OVMF/OVMF_CODE_4M.fd")
    own = path.read_bytes()
    sort = SORTS["uefi"]._replace(devices=[nic("e1000e", 6), NO_BALLOON])
    source = two.start("uefi", sort, "a")
    path.write_bytes(own[: len(own) // 2])
    try:
        assert hop(two, source, "uefi") == REFUSED
    finally:
        path.write_bytes(own)


def test_property_on_one_side(two: Two) -> None:
    """An emulator that is a script, as operators have them, sets a property on one host alone."""
    for host, words in ((two.lab.a, ""), (two.lab.b, "-global pcie-root-port.hotplug=off")):
        script = host.path("/usr/local/bin/qemu-site")
        script.write_text(f'#!/bin/sh\nexec /usr/bin/qemu-system-x86_64 {words} "$@"\n')
        script.chmod(0o755)
    devices = [nic("e1000e", 1), NO_BALLOON]
    sort = Sort("pc-q35-9.0", devices, emulator="/usr/local/bin/qemu-site")
    source = two.start("site", sort, "a")
    assert hop(two, source, "site") == REFUSED

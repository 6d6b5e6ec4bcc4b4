"""The whole machine's trial between two hosts with different builds of QEMU, and what libvirt and
QEMU then do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lab import FakeDevice, Lab, guest_xml, hostdev_pci, queues
from lab.guests import EMULATOR
from lab.other_qemu import NEWEST, exchange_emulator, other_qemu
from lab.ssh import SshNetwork, served

from .pair import CONFIG, MIGRATED, OLD, STAYED, VF, Pair
from .service import Service, wait

# What a device says of function-level reset.
SET = "-global virtio-rng-pci.x-pcie-flr-init=off"
SET_OF_PORTS = "-global pcie-root-port.hotplug=off"
ROM = "/usr/share/operator.rom"
SMALL, LARGE = 64 << 10, 128 << 10
# libvirt gives each a root port, and more behind it.
NETWORK = (
    "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='e1000e'/>{}</interface>"
)
DEVICES = (
    "<controller type='scsi' model='virtio-scsi'/>",
    "<controller type='usb' model='qemu-xhci'/>",
    "<input type='tablet' bus='usb'/>",
    "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    "<video><model type='virtio'/></video>",
    "<serial type='null'/>",
)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Host a with the machine's QEMU, b with the newest, c as a; sshd on b and c."""
    if not served(Path("/")):
        pytest.skip("lacks sshd")
    newest = other_qemu(NEWEST)
    with Lab(tmp_path_factory.mktemp("builds")) as lab:
        exchange_emulator(lab.b, newest)
        for host in lab.a, lab.b, lab.add_host("c"):
            host.add_device(FakeDevice(VF, "vf", CONFIG))
            Pair(lab).install(host)
            host.path(ROM).write_bytes(bytes(SMALL))
        with SshNetwork(lab.a) as network:
            network.serve(lab.b)
            network.serve(lab["c"])
            yield lab


@pytest.fixture
def pair(three: Lab) -> Iterator[Pair]:
    """Two builds; the newest is the destination, as libvirt 11.3 cannot have it send."""
    yield from _cleaned(Pair(three))


@pytest.fixture
def alike(three: Lab) -> Iterator[Pair]:
    """One build, whose file is its own: of a script, as b's is, no answer is kept."""
    pair = Pair(three)
    pair.b = three["c"]
    yield from _cleaned(pair)


def _cleaned(pair: Pair) -> Iterator[Pair]:
    yield pair
    for host in pair.a, pair.b:
        for guest in host.virsh("list", "--all", "--name").stdout.split():
            host.virsh("destroy", guest)
            host.virsh("undefine", guest)


def check(pair: Pair, guest: str, *options: str) -> tuple[int, dict[str, Any]]:
    uri = f"qemu+ssh://lab-{pair.b.name}/system"
    command = ["vfio-preflight", "check", guest, "--to", uri, "--format", "json", *options]
    result = pair.a.run(command)
    assert result.returncode != 2, result.stderr
    return result.returncode, json.loads(result.stdout)


def findings(report: dict[str, Any]) -> dict[str, str]:
    return {finding["code"]: finding["text"] for finding in report["findings"]}


def xml(name: str, rom: str = "", devices: Sequence[str] = DEVICES) -> str:
    devices = [*devices, NETWORK.format(rom), hostdev_pci(VF)]
    text = guest_xml(name, OLD, devices)
    return text.replace("<controller type='usb' model='none'/>\n", "")


def between_builds(name: str) -> str:
    """A guest that the newest QEMU takes from this machine's."""
    refused = queues.are_refused(EMULATOR, str(other_qemu(NEWEST)))
    taken = [device for device in DEVICES if "virtio" not in device or not refused]
    return xml(name, devices=taken)


def refused_line(report: dict[str, Any]) -> str:
    """QEMU's line in the finding."""
    return findings(report)["twin-refused"].partition('"')[2].rpartition('"')[0]


def log(pair: Pair, guest: str) -> str:
    """What the destination's QEMU wrote; where libvirt lets it live, its error is libvirt's."""
    return (pair.b.log / f"qemu/{guest}.log").read_text()


def test_another_build_loads_the_twin_and_then_the_guest(pair: Pair) -> None:
    guest = pair.start(between_builds("twin1"))

    status, report = check(pair, guest, "--twin")

    assert status == 0, report
    told = findings(report)
    assert " loads the guest's twin; QEMU 1" in told["twin-accepted"]
    assert "twin-uncovered" not in told
    result = pair.migrate(guest)
    assert result.returncode == 0, result.stderr
    assert pair.where(guest) == MIGRATED


def test_option_rom_of_another_size(alike: Pair) -> None:
    alike.b.path(ROM).write_bytes(bytes(LARGE))
    guest = alike.start(xml("twin2", f"<rom file='{ROM}'/>"))
    try:
        status, report = check(alike, guest)
        assert status == 1, report
        line = refused_line(report)
        assert "Size mismatch" in line
        # The hook knows, by the guest's process, its machine and the emulator's files.
        blocked = alike.migrate(guest)
        alike.configure("[policy]\nfail = allow\n")
        allowed = alike.migrate(guest)
    finally:
        alike.b.path(ROM).write_bytes(bytes(SMALL))
        alike.configure("")
    assert blocked.returncode != 0
    assert "migration blocked" in blocked.stderr
    assert line in blocked.stderr
    assert allowed.returncode != 0
    assert alike.where(guest) == STAYED
    assert line in allowed.stderr + log(alike, guest)


def test_hook_tells_what_is_known(alike: Pair) -> None:
    guest = alike.start(xml("twin6"))
    assert check(alike, guest)[0] == 0

    result = alike.migrate(guest)

    assert result.returncode == 0, result.stderr
    noted = {each.get("code"): each.text for each in alike.annotation(guest).iter("{*}finding")}
    assert ", tried at 2" in str(noted["twin-accepted"])


def test_property_that_is_set_on_one_side_only(pair: Pair) -> None:
    """By a wrapper of the destination's operator: no XML tells of it."""
    emulator = pair.b.path(EMULATOR)
    real = emulator.with_name("qemu.real")
    emulator.rename(real)
    guest = pair.start(between_builds("twin3"))
    try:
        emulator.write_text(f'#!/bin/sh\nexec /usr/bin/{real.name} "$@" {SET_OF_PORTS}\n')
        emulator.chmod(0o755)
        status, report = check(pair, guest)
        assert status == 1, report
        line = refused_line(report)
        assert line.startswith("get_pci_config_device: Bad config data: i=0x")
        result = pair.migrate(guest)
    finally:
        real.rename(emulator)
    assert result.returncode != 0
    assert pair.where(guest) == STAYED
    assert line in result.stderr + log(pair, guest)


def test_by_hand(pair: Pair) -> None:
    guest = pair.start(between_builds("twin4"))
    file = pair.a.path("/tmp/twin4.twin")
    try:
        saved = pair.a.run(["sh", "-c", f"vfio-preflight twin save {guest} > /tmp/twin4.twin"])
        assert (saved.returncode, saved.stderr) == (0, "")
        loaded = pair.b.run(["vfio-preflight", "twin", "load", "/tmp/twin4.twin"])
        assert loaded.returncode == 0, loaded.stdout + loaded.stderr
        assert loaded.stdout.startswith("PASS      the destination's QEMU loads")
    finally:
        file.unlink(missing_ok=True)


def test_guest_that_does_not_run(pair: Pair) -> None:
    pair.a.define(xml("twin5"))

    status, report = check(pair, "twin5", "--twin")

    assert status == 3
    assert "it does not run" in findings(report)["twin-not-run"]


def test_restore_after_the_emulator_was_replaced(alike: Pair) -> None:
    host = alike.b
    guest = host.start_guest(xml("twin7"))
    alike.record(guest, host).check_returncode()
    # As an upgrade does: another file of the same name.
    exchange_emulator(host, host.path(EMULATOR))
    command = f"vfio-preflight twin save {guest} | vfio-preflight twin load - --format json"

    loaded = host.run(["sh", "-c", command])

    assert loaded.returncode == 0, loaded.stdout + loaded.stderr
    told = json.loads(loaded.stdout)
    assert told["outcome"] == "accepted"
    assert "QEMU's option ROMs and modules as when the guest started" in told["uncovered"]
    host.virsh("managedsave", guest).check_returncode()
    started = host.virsh("start", guest)
    assert started.returncode == 0, started.stderr
    noted = {each.get("code"): each.text for each in alike.annotation(guest).iter("{*}finding")}
    assert ", tried at 2" in str(noted["twin-accepted"])


def test_watch_tells_what_the_new_emulator_will_refuse(alike: Pair) -> None:
    host = alike.b
    guest = host.start_guest(xml("twin8"))
    emulator = host.path(EMULATOR)
    real = emulator.with_name("qemu.real")
    real.write_bytes(emulator.read_bytes())
    real.chmod(0o755)
    new = host.path(EMULATOR + ".new")
    new.write_text(f'#!/bin/sh\nexec /usr/bin/{real.name} "$@" {SET}\n')
    new.chmod(0o755)
    new.rename(emulator)
    service = Service(host)
    try:
        service.start()
        wait(lambda: "was replaced since it started" in service.log(), 60)
    finally:
        service.end()
        real.rename(emulator)
    line = service.log().partition(f"{guest}: its QEMU was replaced since it started; ")[2]
    assert 'twin: "get_pci_config_device: Bad config data: i=0x47 ' in line


def test_file_that_changed_since_the_guest_started(alike: Pair) -> None:
    host = alike.b
    guest = host.start_guest(xml("twin9", f"<rom file='{ROM}'/>"))
    try:
        host.path(ROM).write_bytes(bytes(LARGE))
        command = f"vfio-preflight twin save {guest} | vfio-preflight twin load -"
        loaded = host.run(["sh", "-c", command])
    finally:
        host.path(ROM).write_bytes(bytes(SMALL))
    assert loaded.returncode == 0, loaded.stdout
    assert f"{ROM} as when the guest started" in loaded.stdout

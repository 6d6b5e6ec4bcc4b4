"""A destination whose emulator is older, QEMU 7.2, and lacks the newer machine types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import FakeDevice, Lab, guest_xml, hostdev_pci
from lab.guests import EMULATOR
from lab.other_qemu import OLDER, exchange_emulator, other_qemu

from .pair import CONFIG, NEW, OLD, OTHER_VSC, STAYED, VF, Pair

NEWEST_THERE = "pc-q35-7.2"
HOOK = "/etc/libvirt/hooks/qemu.d/50-vfio-preflight"
CALLS = Path("/run/witness")  # /run is the host's own
WITNESS = f'#!/bin/sh\necho "$1 $2 $3" >>{CALLS}\n'


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Host a as it is; b with the older QEMU, and a hook that notes what libvirt calls."""
    older = other_qemu(OLDER)
    with Lab(tmp_path_factory.mktemp("mixed")) as lab:
        pair = Pair(lab)
        exchange_emulator(lab.b, older)
        for host in lab.a, lab.b:
            host.add_device(FakeDevice(VF, "vf", CONFIG))
            pair.install(host)
        witness = lab.b.hooks / "qemu.d/10-witness"
        witness.write_text(WITNESS)
        witness.chmod(0o755)
        yield pair


@pytest.fixture
def guest(mixed: Pair, request: pytest.FixtureRequest) -> Iterator[str]:
    """A running guest on a with the machine type asked for."""
    name = mixed.start(guest_xml("s7", request.param, [hostdev_pci(VF)]))
    mixed.b.path(CALLS).write_text("")
    yield name
    mixed.a.virsh("destroy", name)
    mixed.a.virsh("undefine", name)


lacking = pytest.mark.parametrize("guest", [OLD, NEW], indirect=True)


def machine_of(pair: Pair, guest: str) -> str:
    xml = pair.a.virsh("dumpxml", guest, "--xpath", "/domain/os/type/@machine").stdout
    return xml.split('"')[1]


@lacking
def test_s7_dry_run_says_so_and_names_the_newest(mixed: Pair, guest: str) -> None:
    asked = mixed.check(guest)

    assert (asked.status, asked.report["verdict"]) == (1, "fail")
    (finding,) = asked.report["findings"]
    assert finding["code"] == "machine-missing"
    assert machine_of(mixed, guest) in finding["text"]
    assert f"; the newest of its family there is {NEWEST_THERE} (" in finding["text"]


@lacking
def test_s7_libvirt_refuses_before_it_calls_the_hook(mixed: Pair, guest: str) -> None:
    result = mixed.migrate(guest)

    assert result.returncode != 0
    wording = f"does not support machine type '{machine_of(mixed, guest)}'"
    assert f"Emulator '{EMULATOR}' {wording}" in result.stderr
    assert "vfio-preflight" not in result.stderr
    assert mixed.b.path(CALLS).read_text() == ""
    assert mixed.where(guest) == STAYED


def test_s7_witness_would_have_seen_the_call(mixed: Pair) -> None:
    mixed.b.path(CALLS).write_text("")
    mixed.a.define(guest_xml("s7seen", NEWEST_THERE))
    result = mixed.a.virsh("migrate", "--offline", "--persistent", "s7seen", mixed.b.uri)
    assert result.returncode == 0, result.stderr
    assert "s7seen migrate begin" in mixed.b.path(CALLS).read_text().splitlines()
    for host in mixed.a, mixed.b:
        host.virsh("undefine", "s7seen")


@lacking
def test_s7_hook_called_by_hand_blocks_too(mixed: Pair, guest: str) -> None:
    xml = mixed.a.virsh("dumpxml", guest, "--migratable").stdout

    result = mixed.b.run([HOOK, guest, "migrate", "begin", "-"], stdin=xml)

    assert (result.returncode, result.stdout) == (1, "")
    first = result.stderr.splitlines()[0]
    assert first.startswith("vfio-preflight: migration blocked: ")
    assert machine_of(mixed, guest) in first
    assert NEWEST_THERE in first


def test_emulator_that_does_not_tell_its_compat_table(mixed: Pair) -> None:
    """QEMU 7.2 falls back to what it does tell: it has no property that exempts a VSC."""
    files = {"guest.xml": guest_xml("offline", NEWEST_THERE, [hostdev_pci(VF)]).encode()}
    files.update({"source": CONFIG, "destination": OTHER_VSC})
    for name, content in files.items():
        mixed.b.path(f"/run/{name}").write_bytes(content)
    states = [f"--{name}-state={VF}=/run/{name}" for name in ("source", "destination")]
    command = ["vfio-preflight", "check", "/run/guest.xml", "--format", "json", *states]

    result = mixed.b.run(command)

    report = json.loads(result.stdout)
    assert (result.returncode, report["verdict"]) == (1, "fail")
    assert [finding["code"] for finding in report["findings"]] == [
        "emulator-too-old",
        "compat-unknown",
        "emulator-unverified",
    ]
    (device,) = report["devices"]
    told = {finding["code"]: finding["text"] for finding in device["findings"]}
    expected = {"vsc-body-differs", "not-decided", "skip-vsc-check", "trial-unavailable"}
    assert set(told) == expected
    assert told["skip-vsc-check"].startswith("skip-vsc-check is off (QEMU 7.2.")
    assert "has no such property" in told["skip-vsc-check"]

"""Guests of aarch64: the same hook, command and devices, on the board ``virt``."""

from __future__ import annotations

import json

import pytest

from lab import guest_xml, hostdev_mdev, hostdev_pci
from lab.guests import AARCH64, EMULATORS

from .pair import CONFIG, MDEV, MIGRATED, OTHER_VSC, QEMU_LINE, STAYED, VF, Pair

OLD, NEW = "virt-9.0", "virt-10.0"
HOOK = "qemu.d/50-vfio-preflight"


def _xml(name: str, machine: str) -> str:
    return guest_xml(name, machine, [hostdev_pci(VF), hostdev_mdev(MDEV)], arch=AARCH64)


def test_other_vsc_on_old_machine_is_blocked(pair: Pair) -> None:
    guest = pair.start(_xml("armold", OLD))
    pair.present(pair.b, VF, OTHER_VSC)
    asked = pair.check(guest)
    assert (asked.status, asked.report["verdict"]) == (1, "fail")
    assert asked.report["emulator"].endswith(f"({EMULATORS[AARCH64]})")
    # Where libvirt put them by itself.
    assert [device["placement"] for device in asked.report["devices"]] == ["root-port"] * 2
    assert asked.report["devices"][0]["qemu"] == QEMU_LINE

    result = pair.migrate(guest)

    assert "vfio-preflight: migration blocked: hostdev0 (0000:06:00.4): VSC at" in result.stderr
    assert (pair.where(guest), pair.b.guest_log(guest)) == (STAYED, "")

    hook = pair.b.hooks / HOOK
    hook.chmod(0o644)
    try:
        assert pair.migrate(guest).returncode != 0
    finally:
        hook.chmod(0o755)
    assert QEMU_LINE in pair.b.guest_log(guest)
    assert pair.where(guest) == STAYED


def test_other_vsc_on_new_machine_is_tolerated(pair: Pair) -> None:
    guest = pair.start(_xml("armnew", NEW))
    for name in VF, MDEV:
        pair.present(pair.b, name, OTHER_VSC)
    asked = pair.check(guest)
    assert (asked.status, asked.report["verdict"]) == (0, "tolerated")
    assert asked.report["findings"] == []

    result = pair.migrate(guest)

    assert result.returncode == 0, result.stderr
    assert pair.where(guest) == MIGRATED
    assert pair.annotation(guest).get("verdict") == "tolerated"


@pytest.mark.parametrize(("machine", "verdict"), [(OLD, "fail"), (NEW, "tolerated")])
def test_default_emulator_and_its_trial(pair: Pair, machine: str, verdict: str) -> None:
    for name, config in ("one", CONFIG), ("other", OTHER_VSC):
        pair.b.path(f"/run/{name}.bin").write_bytes(config)
    command = ["vfio-preflight", "compare", "/run/one.bin", "/run/other.bin", "--trial"]

    result = pair.b.run([*command, "--machine", machine, "--format", "json"])

    report = json.loads(result.stdout)
    assert report["verdict"] == verdict
    assert report["emulator"].endswith(f"({EMULATORS[AARCH64]})")
    (device,) = report["devices"]
    assert "trial-agrees" in [finding["code"] for finding in device["findings"]]

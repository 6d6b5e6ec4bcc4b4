"""VFIO evidence on a host: sysfs and /dev/vfio as they are there, and the system's own Python."""

from __future__ import annotations

import json

import pytest

from lab import guest_xml, hostdev_mdev, hostdev_pci, make_config

from .pair import (
    CHECKOUT,
    MDEV,
    NETWORK_VF,
    OLD,
    OTHER_VSC,
    QEMU_LINE,
    STAYED,
    VF,
    Pair,
)

READ = """
import json, sys
from vfio_preflight.host.vfio import read_free
found = read_free(sys.argv[1])
print(json.dumps([found.state.config.hex(), found.state.bars, found.migration]))
"""


@pytest.mark.parametrize("name", [VF, MDEV, NETWORK_VF])
@pytest.mark.parametrize("config", [OTHER_VSC, make_config(4096)], ids=["256", "4096"])
def test_free_device(pair: Pair, name: str, config: bytes) -> None:
    pair.present(pair.a, name, config)
    environment = f"PYTHONPATH={CHECKOUT / 'plugin'}"
    done = pair.a.run(["env", environment, "/usr/bin/python3", "-c", READ, name])
    assert done.returncode == 0, done.stderr
    bars = [[0, 0x4000, "mem32", False]]
    assert json.loads(done.stdout) == [config.hex(), bars, ["stop-copy", "p2p"]]


def evidence(pair: Pair, guest: str) -> list[str]:
    """What the destination's states are known by, as the dry run tells it."""
    return [device["destination"]["evidence"] for device in pair.check(guest).report["devices"]]


def test_listed_devices_are_opened_at_the_destination(pair: Pair) -> None:
    guest = pair.start(guest_xml("opened", OLD, [hostdev_pci(VF), hostdev_mdev(MDEV)]))
    state = pair.b.path(f"/var/lib/vfio-preflight/states/{MDEV}.bin")
    assert evidence(pair, guest) == ["sysfs", "file"]

    state.unlink()
    pair.configure("[hook]\nopen-devices = nvidia-63, 10de:1eb8\n")
    assert evidence(pair, guest) == ["vfio", "vfio"]

    pair.configure("[hook]\nopen-devices = 15b3:*\n")
    assert evidence(pair, guest) == ["sysfs", "catalogue"]  # what was seen when it was opened
    pair.b.run(["vfio-preflight", "catalogue", "forget", "--all"])
    assert evidence(pair, guest) == ["sysfs", "inferred"]


def test_what_vfio_shows_counts_for_the_migration(pair: Pair) -> None:
    guest = pair.start(guest_xml("vfio", OLD, [hostdev_mdev(MDEV)]))
    pair.b.path(f"/var/lib/vfio-preflight/states/{MDEV}.bin").unlink()
    pair.b.set_config(MDEV, OTHER_VSC)
    pair.configure("[hook]\nopen-devices = nvidia-63\n")
    result = pair.migrate(guest)
    assert QEMU_LINE in result.stderr
    assert pair.where(guest) == STAYED

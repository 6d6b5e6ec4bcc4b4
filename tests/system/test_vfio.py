"""VFIO evidence on a host: sysfs and /dev/vfio as they are there, and the system's own Python."""

from __future__ import annotations

import json

import pytest

from lab import make_config

from .pair import CHECKOUT, MDEV, NETWORK_VF, OTHER_VSC, VF, Pair

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

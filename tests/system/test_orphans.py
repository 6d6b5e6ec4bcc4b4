"""Whoever has started an emulator is killed at any instant: none is left, nor a file of ours."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from lab import hostdev_pci

from . import kill_caller
from .pair import OTHER_VSC, VF, Pair
from .test_herd import CACHE, document

KILLS = int(os.environ.get("KILLS", "15"))
SEED = int(os.environ.get("KILLS_SEED", random.randrange(1 << 32)))
SCRIPT = Path(kill_caller.__file__)
SCRATCH = "/run/orphans"
# With a trial there are one or two emulators most of the time.
TRIED = "[hook]\nlog = none\ntrial = always\n"
XML = f"{SCRATCH}/guest.xml"
CHECK = ["/usr/bin/vfio-preflight", "check", XML]
HOOK = ["/etc/libvirt/hooks/qemu.d/50-vfio-preflight", "orphan", "migrate", "begin", "-"]
HOUR = 3600


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("command", [CHECK, HOOK], ids=["check", "hook"])
def test_no_emulator_is_left(pair: Pair, command: list[str], number: signal.Signals) -> None:
    host = pair.b
    scratch = host.path(SCRATCH)
    scratch.mkdir(exist_ok=True)
    scratch.chmod(0o711)
    host.path(XML).write_text(document("orphan", hostdev_pci(VF), OTHER_VSC))
    pair.configure(TRIED)
    plan = kill_caller.Plan(command, XML, number, KILLS, SEED, SCRATCH)
    done = host.run(["/usr/bin/python3", SCRIPT], json.dumps(plan._asdict()), timeout=600)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["left"] == [], SEED
    assert result["hits"] >= max(1, KILLS // 6), SEED
    # The next run finds no lock taken and no half answer, and sweeps.
    left = [*scratch.glob("vfio-preflight-*")]
    for path in left:
        os.utime(path, (time.time() - 2 * HOUR,) * 2)
    again = plan._replace(times=0)
    host.run(["/usr/bin/python3", SCRIPT], json.dumps(again._asdict())).check_returncode()
    assert [*scratch.glob("vfio-preflight-*")] == []
    assert [path.name for path in host.path(CACHE).glob("*.json")] != []

"""What the end of a destination's half stands for."""

from __future__ import annotations

import signal
from typing import Any, cast

import pytest

from vfio_preflight.qemu.emulator.client import Emulator
from vfio_preflight.qemu.twin.ends import end_of
from vfio_preflight.qemu.twin.told import CRASHED, HUNG, NOT_RUN, REFUSED

P = "qemu-system-x86_64: "
BAD = "get_pci_config_device: Bad config data: i=0x47 read: 10 device: 0 cmask: ff"


class Ended:
    def __init__(self, status: int | None, stderr: str = "", cpu: float = 0.0) -> None:
        self.status, self.stderr, self.cpu, self.replies = status, stderr, cpu, [dict[str, Any]()]

    def cpu_seconds(self) -> float:
        return self.cpu


@pytest.mark.parametrize(
    ("ended", "came_up", "expected"),
    [
        (Ended(1, f"{P}warning: x\n{P}{BAD}\n{P}load of migration failed\n"), True, REFUSED),
        (Ended(1, f"{P}-device x,y=1: Property 'x.y' not found\n"), False, REFUSED),
        (Ended(1, f"{P}unsupported machine type: \"pc\"\n"), False, REFUSED),
        (Ended(1, f"{P}-device x,romfile=/a: failed to find romfile \"/a\"\n"), False, REFUSED),
        # What is not the guest's own.
        (Ended(1, f"{P}-netdev hubport,id=x: Parameter 'type' expects a netdev\n"), False, NOT_RUN),
        (Ended(1, f"{P}-cpu max: TCG is not compiled in\n"), False, NOT_RUN),
        (Ended(1, f"{P}cannot set up guest memory 'pc.ram': Cannot allocate memory\n"), False,
         NOT_RUN),
        (Ended(1, f"{P}-device x: cannot allocate memory\n"), False, NOT_RUN),
        (Ended(127, "error while loading shared libraries: libx.so\n"), False, NOT_RUN),
        (Ended(1), False, NOT_RUN),
        (Ended(-signal.SIGABRT, "x.c:1: f: Assertion `y' failed.\n"), False, CRASHED),
        (Ended(-signal.SIGSEGV), True, CRASHED),
        (Ended(-signal.SIGXCPU), True, HUNG),
        (Ended(-signal.SIGKILL), True, NOT_RUN),
        (Ended(None, cpu=15.0), True, HUNG),
        # It has not had the time.
        (Ended(None, cpu=0.5), True, NOT_RUN),
    ],
)  # fmt: skip
def test_end(ended: Ended, came_up: bool, expected: str) -> None:
    outcome, line = end_of(cast("Emulator", ended), came_up)
    assert outcome == expected
    assert line
    assert "warning" not in line
    assert not line.startswith(P)

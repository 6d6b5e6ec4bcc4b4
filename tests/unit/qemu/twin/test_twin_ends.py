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
    ("ended", "up_after", "expected"),
    [
        (Ended(1, f"{P}warning: x\n{P}{BAD}\n{P}load of migration failed\n"), 0.1, REFUSED),
        (Ended(1, f"{P}-device x,y=1: Property 'x.y' not found\n"), None, REFUSED),
        (Ended(1, f"{P}unsupported machine type: \"pc\"\n"), None, REFUSED),
        (Ended(1, f"{P}-device x,romfile=/a: failed to find romfile \"/a\"\n"), None, REFUSED),
        # What is not the guest's own.
        (Ended(1, f"{P}-netdev hubport,id=x: Parameter 'type' expects a netdev\n"), None, NOT_RUN),
        (Ended(1, f"{P}-cpu max: TCG is not compiled in\n"), None, NOT_RUN),
        (Ended(1, f"{P}cannot set up guest memory 'pc.ram': Cannot allocate memory\n"), None,
         NOT_RUN),
        (Ended(1, f"{P}-device x: cannot allocate memory\n"), None, NOT_RUN),
        (Ended(127, "error while loading shared libraries: libx.so\n"), None, NOT_RUN),
        (Ended(1), None, NOT_RUN),
        # What ends guests where memory runs out may begin with SIGTERM, as earlyoom does.
        (Ended(0, f"{P}terminating on signal 15 from pid 1 (earlyoom)\n"), 0.1, NOT_RUN),
        (Ended(1, f"{P}qemu_memalign: Cannot allocate memory\n"), 0.1, NOT_RUN),
        (Ended(-signal.SIGABRT, "x.c:1: f: Assertion `y' failed.\n"), None, CRASHED),
        (Ended(-signal.SIGSEGV), 0.1, CRASHED),
        (Ended(-signal.SIGABRT, "hw/kvm/module.c:1: f: Assertion `y' failed.\n"), 0.1, CRASHED),
        (Ended(-signal.SIGABRT, "GLib: failed to allocate 9 bytes\n"), 1.0, NOT_RUN),
        (Ended(-signal.SIGXCPU), 1.0, HUNG),
        # Its time was for its devices.
        (Ended(-signal.SIGXCPU), 15.0, NOT_RUN),
        (Ended(-signal.SIGXCPU), None, NOT_RUN),
        (Ended(-signal.SIGKILL), 1.0, NOT_RUN),
        (Ended(None, cpu=15.0), 1.0, HUNG),
        (Ended(None, cpu=15.0), 9.0, NOT_RUN),
        (Ended(None, cpu=15.0), None, NOT_RUN),
        # It has not had the time.
        (Ended(None, cpu=0.5), 0.1, NOT_RUN),
    ],
)  # fmt: skip
def test_end(ended: Ended, up_after: float | None, expected: str) -> None:
    outcome, line = end_of(cast("Emulator", ended), up_after)
    assert outcome == expected
    assert line
    assert "warning" not in line
    assert not line.startswith(P)

"""What the end of an emulator says of its device."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from vfio_preflight.qemu.emulator.client import Emulator, ProcessError
from vfio_preflight.qemu.trial.endings import FAIL, load_result

P = "qemu-system-x86_64: "
BAD = "get_pci_config_device: Bad config data: i=0x47 read: 10 device: 0"


def ended(status: int, stderr: str) -> Emulator:
    return cast("Emulator", SimpleNamespace(status=status, stderr=stderr, replies=[]))


def test_state_that_is_refused() -> None:
    result = load_result(ended(1, f"{P}warning: x\n{P}{BAD}\n"))
    assert (result.outcome, result.line) == (FAIL, BAD)


def test_emulator_that_somebody_ended_says_nothing_of_the_device() -> None:
    line = "terminating on signal 15 from pid 1 (earlyoom)"
    with pytest.raises(ProcessError, match="was ended: terminating on signal 15"):
        load_result(ended(0, f"{P}{line}\n"))

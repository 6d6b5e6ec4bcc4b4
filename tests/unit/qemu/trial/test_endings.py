"""What the end of an emulator says of its device."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import cast

import pytest

from vfio_preflight.qemu.emulator.client import Emulator, ProcessError
from vfio_preflight.qemu.trial.endings import FAIL, complaint, load_result

P = "qemu-system-x86_64: "
BAD = "get_pci_config_device: Bad config data: i=0x47 read: 10 device: 0"


def ended(status: int | None, stderr: str) -> Emulator:
    return cast("Emulator", SimpleNamespace(status=status, stderr=stderr, replies=[]))


def test_state_that_is_refused() -> None:
    result = load_result(ended(1, f"{P}warning: x\n{P}{BAD}\n"))
    assert (result.outcome, result.line) == (FAIL, BAD)


def test_emulator_that_somebody_ended_says_nothing_of_the_device() -> None:
    line = "terminating on signal 15 from pid 1 (earlyoom)"
    with pytest.raises(ProcessError, match="was ended: terminating on signal 15"):
        load_result(ended(0, f"{P}{line}\n"))


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (None, "it says nothing, and was still running"),
        (-signal.SIGXCPU, "it took all the processor time that it may take"),
        (-signal.SIGSEGV, "it was killed by SIGSEGV"),
        (3, "it says nothing (exit status 3)"),
    ],
)
def test_emulator_that_gives_no_reason(status: int | None, said: str) -> None:
    assert complaint(ended(status, f"{P}warning: x\n")) == said

"""A small guest migrated through a file between two QEMUs, with a difference on one side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from .rawqmp import Qmp

PASS, REFUSED = "pass", "refused"
_PATIENCE = 60.0


def migrate(
    source: tuple[str, Sequence[str]], destination: tuple[str, Sequence[str]], stream: Path
) -> tuple[str, str]:
    """What becomes of a guest between two QEMUs (path, arguments), and the destination's stderr."""
    sender = Qmp(source[0], *source[1])
    try:
        assert sender.alive, "the source did not start"
        sender.ask("migrate", uri=f"file:{stream}")
        _wait(sender, "the source")
    finally:
        errors = sender.end()
    receiver = Qmp(destination[0], *destination[1], "-incoming", "defer")
    try:
        assert receiver.alive, receiver.end()
        receiver.ask("migrate-incoming", uri=f"file:{stream}")
        outcome = PASS if _status(receiver) == "completed" else REFUSED
    finally:
        errors = receiver.end()
        stream.unlink()
    return outcome, errors


def _wait(asked: Qmp, who: str) -> None:
    status = _status(asked)
    assert status == "completed", f"{who}: {status}"


def _status(asked: Qmp) -> str:
    """How a migration ended; empty where QEMU ended with it."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        answer = asked.ask("query-migrate")
        if answer is None:
            return ""
        status = str(answer.get("status", ""))
        if status in ("completed", "failed") or "blocked-reasons" in answer:
            return status or str(answer["blocked-reasons"])
        time.sleep(0.005)
    return "no end"

"""What the twin says of a guest that is to be migrated, in the words of :mod:`.hop`."""

from __future__ import annotations

import functools
import re
import time

from vfio_preflight.osutil.executable import trusted_executable
from vfio_preflight.qemu.twin import told, twin

from .hop import BLOCKED, CRASHED, HUNG, PASS, REFUSED, Hop

_PATIENCE = 60.0
_PROGRAM = re.compile(r"^\S*qemu-system-\w+: ")
_OUTCOMES = {
    told.ACCEPTED: PASS,
    told.REFUSED: REFUSED,
    told.CRASHED: CRASHED,
    told.HUNG: HUNG,
    told.BLOCKED: BLOCKED,
}


@functools.cache
def predict(source: str, destination: str, arguments: tuple[str, ...]) -> Hop | None:
    """What is to be expected of a guest of these arguments; None where its twin is without it.

    A device of a kind that the twin leaves out it names, and so it says nothing of it.
    """
    argv = (source, *arguments)
    end = time.monotonic() + _PATIENCE
    stream = twin.save(trusted_executable(source), argv, deadline=end)
    if isinstance(stream, twin.Refusal):
        return Hop(_OUTCOMES.get(stream.kind, stream.kind), (_line(stream.line),), "source")
    if any(text.startswith("dut (") for text in stream.uncovered):
        return None
    answer = twin.load(trusted_executable(destination), argv, stream, deadline=end)
    if answer.accepted:
        return Hop(PASS)
    outcome = _OUTCOMES.get(answer.outcome, answer.outcome)
    return Hop(outcome, (_line(answer.line),), "destination")


def _line(text: str) -> str:
    return _PROGRAM.sub("", text)

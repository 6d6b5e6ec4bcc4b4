"""One half of a guest's twin, in a host of the Lab by the host's own Python and emulator.

``half.py save EMULATOR STREAM`` saves the twin of the arguments on standard input, a JSON list,
into a file; ``half.py load EMULATOR STREAM`` loads it. Standard output: JSON of the outcome and of
QEMU's line.
"""

from __future__ import annotations

import json
import pickle
import sys
import time

from vfio_preflight.osutil.executable import trusted_executable
from vfio_preflight.qemu.twin import twin

PATIENCE = 60.0
SAVED = "saved"


def save(emulator: str, argv: list[str], path: str) -> tuple[str, str]:
    stream = twin.save(trusted_executable(emulator), argv, deadline=time.monotonic() + PATIENCE)
    if isinstance(stream, twin.Refusal):
        return stream.kind, stream.line
    with open(path, "wb") as file:
        pickle.dump((argv, tuple(stream)), file)
    return SAVED, ""


def load(emulator: str, path: str) -> tuple[str, str]:
    with open(path, "rb") as file:
        argv, fields = pickle.load(file)
    end = time.monotonic() + PATIENCE
    stream = twin.Stream(*fields)
    answer = twin.load(trusted_executable(emulator), argv, stream, deadline=end)
    return answer.outcome, answer.line


if __name__ == "__main__":
    _, half, program, where = sys.argv
    told = save(program, json.load(sys.stdin), where) if half == "save" else load(program, where)
    print(json.dumps(told))

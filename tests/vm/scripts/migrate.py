"""Migrates a QEMU to another: python3 migrate.py SOURCE_QMP TARGET_QMP URI. Says how it ended."""

from __future__ import annotations

import json
import socket
import sys
import time


class Qmp:
    """A QMP connection; only what is needed here."""

    def __init__(self, path: str) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                self.socket = socket.socket(socket.AF_UNIX)
                self.socket.connect(path)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        self.file = self.socket.makefile("rw")
        self.file.readline()
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments: object) -> dict[str, object]:
        json.dump({"execute": command, "arguments": arguments}, self.file)
        self.file.flush()
        while True:
            answer: dict[str, object] = json.loads(self.file.readline())
            if "error" in answer:
                raise SystemExit(f"RESULT {command}: {answer['error']}")
            if "return" in answer:
                value = answer["return"]
                return value if isinstance(value, dict) else {"list": value}


def migrate(source: Qmp, uri: str, timeout: float = 120) -> str:
    """Start a migration and wait for its end; how it ended."""
    # Without DMA logging all of the guest's memory counts as written to all the time.
    source("migrate-set-parameters", **{"downtime-limit": 1_000_000, "max-bandwidth": 0})
    source("migrate", uri=uri)
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        state = source("query-migrate")
        if state.get("status") in ("completed", "failed", "cancelled"):
            print("RESULT", state["status"], state.get("vfio"), state.get("error-desc", ""))
            return str(state["status"])
        time.sleep(0.1)
    raise SystemExit(f"RESULT not in time: {state}")


def main() -> None:
    source, target = Qmp(sys.argv[1]), Qmp(sys.argv[2])
    source("cont")
    status = migrate(source, sys.argv[3])
    print("RESULT source", source("query-status")["status"])
    try:
        if status == "completed":
            target("cont")
        print("RESULT target", target("query-status")["status"])
    except (OSError, ValueError):
        print("RESULT target gone")


if __name__ == "__main__":
    main()

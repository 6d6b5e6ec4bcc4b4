#!/usr/bin/python3
"""An orchestrator's check before a migration, by ``vfio-preflight check``: docs/INTEGRATIONS.md.

    answer = precheck(instance.uuid, ["qemu+tls://b/system"])["qemu+tls://b/system"]
    if answer.word == CANNOT:
        raise exception.MigrationPreCheckError(reason=answer.reason)
    LOG.log(logging.INFO if answer.word == CAN else logging.WARNING, answer.reason)

An example to copy: standard library alone. It is called on the source, where the guest runs, by
somebody who may migrate the guest by libvirt. As a command it prints a line for each destination:

    precheck.py GUEST URI...

Exit status, that of the worst answer: 0 can migrate, 1 cannot, 3 unknown.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

COMMAND = "/usr/bin/vfio-preflight"
SCHEMA = 1
CAN, CANNOT, UNKNOWN = "can", "cannot", "unknown"
# From best to worst, as the command's own exit status has it of several destinations.
STATUSES = {CAN: 0, UNKNOWN: 3, CANNOT: 1}
# Destinations are asked side by side. A check that has to be ended cleans up first.
SECONDS, GRACE = 120.0, 10.0
OTHER_FORM = "vfio-preflight answers in another form: renew this example"


class Answer(NamedTuple):
    """``word`` is CAN, CANNOT or UNKNOWN; ``reason`` says why in a line, also of CAN."""

    word: str
    reason: str


class NoAnswerError(Exception):
    """Why the command's output cannot be used."""


def precheck(guest: str, uris: Sequence[str]) -> dict[str, Answer]:
    """Whether ``guest`` (name or UUID) can migrate to each of ``uris``; raises nothing.

    What could not be checked is UNKNOWN with the reason, never CAN.
    """
    try:
        return dict(zip(uris, answers(*run(guest, uris), uris)))
    except (NoAnswerError, OSError) as error:
        why = str(error)
    # A report that lacks what is read of it.
    except (KeyError, TypeError, AttributeError):
        why = OTHER_FORM
    return dict.fromkeys(uris, Answer(UNKNOWN, line(f"not checked: {why}")))


def run(guest: str, uris: Sequence[str]) -> tuple[bytes, bytes, int]:
    """What the command prints, and its exit status. Raises NoAnswerError or OSError."""
    to = [f"--to={uri}" for uri in uris]
    command = [COMMAND, "check", *to, "--format", "json", "--", guest]
    with subprocess.Popen(  # noqa: S603 - a list of words, no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            out, err = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            end(process)
            raise NoAnswerError(f"no answer within {SECONDS:.0f} seconds") from None
    return out, err, process.returncode


def end(process: subprocess.Popen[bytes]) -> None:
    """End a check that takes too long."""
    # At SIGTERM it takes its stand-in from the destination; killed, the next check does that.
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()


def answers(out: bytes, err: bytes, status: int, uris: Sequence[str]) -> list[Answer]:
    """The answers in the command's output, in the order of ``uris``. Raises NoAnswerError."""
    try:
        value = json.loads(out)
    except ValueError:
        said = err.decode("utf-8", "replace").strip() or "nothing"
        raise NoAnswerError(f"exit status {status}, and it said: {said}") from None
    # An error that is about no destination, such as a guest that is not there, stands alone; of one
    # destination a report does, of several a list of reports.
    rows = value if isinstance(value, list) else [value]
    if len(rows) == 1 and status == 2:
        rows = rows * len(uris)
    if len(rows) != len(uris) or any(row.get("schema") != SCHEMA for row in rows):
        raise NoAnswerError(OTHER_FORM)
    found = [answer_of(row) for row in rows]
    # Both say the same, or neither can be trusted.
    if status != 2 and status != worst(found):
        raise NoAnswerError(f"exit status {status} contradicts what it printed")
    return found


def answer_of(row: dict[str, Any]) -> Answer:
    """The answer of one destination, from its report or error."""
    if "error" in row:
        return Answer(UNKNOWN, line(f"not checked: {row['error']}"))
    verdict, action = row["verdict"], row["action"]
    if action == "mend":
        return Answer(CAN, "the destination's hook will set skip-vsc-check")
    # The policy there counts as well as QEMU: it may block what is not known.
    if action == "block" or verdict == "fail":
        return Answer(CANNOT, reason(row))
    if verdict in ("pass", "tolerated"):
        return Answer(CAN, "QEMU on the destination will accept the devices")
    return Answer(UNKNOWN, reason(row))


def reason(row: dict[str, Any]) -> str:
    """The finding that the verdict rests on, with what to do about it, in a line."""
    for device, finding in findings(row):
        if finding["verdict"] == row["verdict"]:
            remedy = f"; to do: {finding['remedy']}" if finding.get("remedy") else ""
            return line(f"{device}{finding['text']}{remedy}")
    return f"verdict {line(row['verdict'])}, with no finding"


def findings(row: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every finding, with the device's name before it where it is about one."""
    yield from (("", finding) for finding in row["findings"])
    for device in row["devices"]:
        name = device.get("name") or device["alias"] or device["host"] or device["key"]
        yield from ((f"{name}: ", finding) for finding in device["findings"])


def line(text: str) -> str:
    """Text from another host, fit for a log."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


def worst(found: Sequence[Answer]) -> int:
    """The exit status for these answers."""
    return max((STATUSES[answer.word] for answer in found), key=list(STATUSES.values()).index)


def main() -> int:
    """Print a line for each destination."""
    if len(sys.argv) < 3:
        print("usage: precheck.py GUEST URI...", file=sys.stderr)
        return 2
    found = precheck(sys.argv[1], sys.argv[2:])
    for uri, answer in found.items():
        print(f"{answer.word} {uri}: {answer.reason}")
    return worst(list(found.values()))


if __name__ == "__main__":
    sys.exit(main())

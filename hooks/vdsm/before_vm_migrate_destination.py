#!/usr/bin/python3 -I
"""VDSM hook ``before_vm_migrate_destination`` of vfio-preflight: docs/INTEGRATIONS.md.

VDSM runs it on the destination before libvirt hears of the migration, as user ``vdsm``, with the
source's domain XML in the file that ``_hook_domxml`` names. The guest is judged by ``vfio-preflight
check``, as root by way of sudo, as only root can read what devices present.

Exit status: 2 if the destination's policy blocks the migration, with the reason on stderr; else 0.
Not 1: VDSM would then run other hooks, and give the last one's stderr to the engine as the reason.
Whatever goes wrong in here is let pass and said: libvirt's hook, which comes next, judges anyway.

Source: VDSM, ``_runHooksDir()`` in lib/vdsm/common/hooks.py, "Hook return code" in vdsmd(8), and
``Vm.waitForMigrationDestinationPrepare()`` in lib/vdsm/virt/vm.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

# As in etc/sudoers.d, word by word.
COMMAND = ("/usr/bin/vfio-preflight", "check", "/dev/stdin", "--format", "json")
SUDO = ("/usr/bin/sudo", "-n")
PACKAGE = "/usr/lib/vfio-preflight/current"
SCHEMA = 1
# The check itself takes [hook] deadline, 10 seconds. The source waits for ten minutes.
SECONDS = 30.0
GO_ON, END_HERE = 0, 2
NOT_CHECKED = "vfio-preflight: nothing was checked before libvirt's hook does: "


class NotJudgedError(Exception):
    """Why there is no verdict."""


def main() -> int:
    """Return the exit status, and say on stderr what led to it; VDSM logs that."""
    try:
        status, lines = judged(report())
    # Any exception: an error in here, or in an installation that is broken, is not the guest's.
    except Exception as error:
        named = "" if isinstance(error, (NotJudgedError, OSError)) else f"{type(error).__name__}: "
        status, lines = GO_ON, [f"{NOT_CHECKED}{named}{' '.join(str(error).split())}"]
    text = "".join(f"{line}\n" for line in lines)
    os.write(2, text.encode("utf-8", "backslashreplace"))
    return status


def report() -> dict[str, Any]:
    """What ``vfio-preflight check`` says of the guest. Raises NotJudgedError or OSError."""
    path = os.environ.get("_hook_domxml", "")  # noqa: SIM112 - VDSM's name
    if not path:
        raise NotJudgedError("_hook_domxml is not set: this is for VDSM to run")
    # VDSM sets a variable for each custom property of the guest's; none of them is for these.
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    with open(path, "rb") as xml:
        process = subprocess.Popen(  # noqa: S603 - fixed words
            [*SUDO, *COMMAND],
            stdin=xml,
            # Pipes of its own: VDSM waits for everybody who holds those of the hook.
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        # It is root's and cannot be killed from here; it ends when it has nobody to answer.
        raise NotJudgedError(f"no answer within {SECONDS:.0f} seconds") from error
    return parsed(out, err, process.returncode)


def parsed(out: bytes, err: bytes, status: int) -> dict[str, Any]:
    """The report in the command's output. Raises NotJudgedError if there is none."""
    try:
        found = json.loads(out)
    except ValueError:
        # sudo's own exit status is that of a refusal, too: only a report counts.
        said = err.decode("utf-8", "replace").strip() or f"exit status {status}"
        raise NotJudgedError(said) from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise NotJudgedError("vfio-preflight answers in another form: reinstall this hook")
    if "error" in found:
        raise NotJudgedError(str(found["error"]))
    return found


def judged(found: dict[str, Any]) -> tuple[int, list[str]]:
    """The exit status for a report, and lines in the words of libvirt's hook."""
    # Nothing of a guest without VFIO devices, as libvirt's hook.
    if not found["devices"] and found["action"] == "allow":
        return GO_ON, []
    sys.path.insert(0, os.path.realpath(PACKAGE))
    from vfio_preflight.report.schema import ReportDict
    from vfio_preflight.report.text import headline, refusal

    whole: ReportDict = found  # type: ignore[assignment]
    if found["action"] == "block":
        return END_HERE, refusal(whole, "migration")
    # What is to be mended, libvirt's hook mends: VDSM takes no XML from this one.
    return GO_ON, [f"vfio-preflight: let pass here: {headline(whole)}"]


if __name__ == "__main__":
    sys.exit(main())

"""What ``vfio-preflight`` on another host says, over the ssh that libvirt uses: its facts, and what
comes of a guest's twin there."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Collection

from ..errors import PreflightError
from ..gather.hostfacts import HostFacts
from ..gather.hostjson import MAX_JSON, from_json
from ..osutil.text import printable
from ..qemu.twin.told import OUTCOMES, Told
from .sshuri import Ssh

# Seconds, the connection included.
WITHIN = 40.0
# ssh's own failure, and the shell's for a command that is not there.
SSH_FAILED, NOT_FOUND = 255, 127
_USAGE = 2
_MAX_REASON = 300


class RemoteError(PreflightError):
    """A host whose word cannot be had; the text says why, with the host's name."""


def facts_of(ssh: Ssh, emulator: str) -> HostFacts:
    """The facts of the host behind ``ssh``, with those of ``emulator``, a path there.

    Raises RemoteError, and FactsError for facts of another kind.
    """
    asked = f" --emulator {shlex.quote(emulator)}" if emulator else ""
    out = _answer(ssh, "host", f"host --format json{asked}")
    return from_json(out, ssh.host)


def twin_of(ssh: Ssh, twin: bytes) -> Told:
    """What the host behind ``ssh`` makes of a guest's twin, a file of ``twin save``.

    Raises RemoteError.
    """
    out = _answer(ssh, "twin", "twin load - --format json", twin, (0, 1, 3))
    try:
        value = json.loads(out)
        texts = [str(value[name]) for name in ("outcome", "line", "device", "source")]
        uncovered = tuple(printable(str(each)) for each in value["uncovered"])
        outcome, line, device, source = map(printable, texts)
        told = Told(outcome, line, device, source, printable(str(value["destination"])), uncovered)
    # RecursionError: of a text of nothing but brackets.
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise RemoteError(f"vfio-preflight twin on {ssh.host} printed no answer") from error
    if told.outcome not in OUTCOMES:
        raise RemoteError(f"vfio-preflight twin on {ssh.host} printed no answer that is known here")
    return told


def _answer(
    ssh: Ssh, name: str, command: str, data: bytes = b"", good: Collection[int] = (0,)
) -> bytes:
    """What a command there prints. Raises RemoteError."""
    status, out, err = _run(ssh.arguments(f"vfio-preflight {command}"), ssh.host, data)
    if status == SSH_FAILED:
        raise RemoteError(f"ssh to {ssh.host} fails: {_last(err) or 'it says nothing'}")
    if status == NOT_FOUND:
        raise RemoteError(f"{ssh.host} has no vfio-preflight command")
    if status == _USAGE and f"invalid choice: '{name}'" in err.decode("utf-8", "replace"):
        raise RemoteError(
            f"the vfio-preflight of {ssh.host} does not know '{name}': upgrade it ({_last(err)})"
        )
    if status not in good:
        why = _last(err) or "it says nothing"
        raise RemoteError(f"vfio-preflight {name} fails on {ssh.host} (status {status}): {why}")
    if len(out) > MAX_JSON:
        raise RemoteError(f"vfio-preflight {name} on {ssh.host} printed over {MAX_JSON} bytes")
    return out


def _run(argv: list[str], host: str, data: bytes) -> tuple[int, bytes, bytes]:
    try:
        # In this process's group: whoever ends that ends ssh as well. Nor does it outlive its pipe.
        process = subprocess.Popen(  # noqa: S603 - the operator's own ssh, or his URI's command
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as error:
        raise RemoteError(f"{argv[0]}: cannot be run: {error.strerror}") from error
    try:
        out, err = process.communicate(data, timeout=WITHIN)
    except subprocess.TimeoutExpired:
        raise RemoteError(f"{host} did not answer over ssh within {WITHIN:.0f} s") from None
    finally:
        process.kill()
        process.wait()
    return process.returncode, out, err


def _last(text: bytes) -> str:
    """The last line of what a program complained of."""
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return printable(lines[-1].strip(), _MAX_REASON) if lines else ""

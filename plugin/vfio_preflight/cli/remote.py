"""The facts of another host, by ``vfio-preflight host`` there, over the ssh that libvirt uses."""

from __future__ import annotations

import shlex
import subprocess

from ..errors import PreflightError
from ..gather.hostfacts import HostFacts
from ..gather.hostjson import MAX_JSON, from_json
from ..osutil.text import printable
from .sshuri import Ssh

# Seconds, the connection included.
WITHIN = 40.0
# ssh's own failure, and the shell's for a command that is not there.
SSH_FAILED, NOT_FOUND = 255, 127
_USAGE = 2
_MAX_REASON = 300


class RemoteError(PreflightError):
    """A host whose facts cannot be had; the text says why, after the host's name."""


def facts_of(ssh: Ssh, emulator: str) -> HostFacts:
    """The facts of the host behind ``ssh``, with those of ``emulator``, a path there.

    Raises RemoteError, and FactsError for facts of another kind.
    """
    asked = f" --emulator {shlex.quote(emulator)}" if emulator else ""
    status, out, err = _run(ssh.arguments(f"vfio-preflight host --format json{asked}"), ssh.host)
    if status == SSH_FAILED:
        raise RemoteError(f"ssh to {ssh.host} fails: {_last(err) or 'it says nothing'}")
    if status == NOT_FOUND:
        raise RemoteError(f"{ssh.host} has no vfio-preflight command")
    if status == _USAGE:
        raise RemoteError(
            f"the vfio-preflight of {ssh.host} does not know 'host': upgrade it ({_last(err)})"
        )
    if status:
        why = _last(err) or "it says nothing"
        raise RemoteError(f"vfio-preflight host fails on {ssh.host} (status {status}): {why}")
    if len(out) > MAX_JSON:
        raise RemoteError(f"vfio-preflight host on {ssh.host} printed over {MAX_JSON} bytes")
    return from_json(out, f"{ssh.host}, vfio-preflight host")


def _run(argv: list[str], host: str) -> tuple[int, bytes, bytes]:
    try:
        # In this process's group: whoever ends that ends ssh as well. Nor does it outlive its pipe.
        process = subprocess.Popen(  # noqa: S603 - the operator's own ssh, or his URI's command
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as error:
        raise RemoteError(f"{argv[0]}: cannot be run: {error.strerror}") from error
    try:
        out, err = process.communicate(timeout=WITHIN)
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

"""Calls the installed hook as libvirt does, once for each of its operations.

libvirt (``virRunScript`` in src/util/virhook.c) executes it with GUEST OPERATION SUB-OPERATION
EXTRA, the domain XML on standard input, in the directory of a daemon, and with little more than
LC_ALL, PATH and HOME in the environment (``virCommandAddEnvPassCommon``). The guests are made up:
one without a VFIO device, which every operation must let pass in silence; and, for ``migrate``, the
stand-in of a dry run (``hook.probe``) with a device that no host has. Its answer is a whole report,
whatever the host's policy is, and it shows that the package and lxml work; nothing is left of it.
"""

from __future__ import annotations

import os
import subprocess
import time

from ...judge.codes import NOT_CHECKED
from ...osutil.light import NamedTuple
from ...osutil.text import printable
from .payload import HOOK, InstallError

# As systemd starts libvirt's daemons.
ENVIRONMENT = {
    "LC_ALL": "C",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
}
SECONDS = 60
PROVED = "judged"
PASSED = "let pass"
UUID = "00000000-0000-4000-8000-000000000000"
# Neither name nor XML has a word that the hook looks for.
PLAIN_NAME = "installation-proof"
PLAIN = f"""<domain type='qemu'>
  <name>{PLAIN_NAME}</name>
  <uuid>{UUID}</uuid>
  <memory unit='KiB'>65536</memory>
  <os><type arch='x86_64' machine='pc-q35-9.0'>hvm</type></os>
  <devices><emulator>/nonexistent/qemu-system-x86_64</emulator></devices>
</domain>
"""
STAND_IN_NAME = f"vfio-preflight-probe-{UUID}"
STAND_IN = f"""<domain type='qemu'>
  <name>{STAND_IN_NAME}</name>
  <uuid>{UUID}</uuid>
  <metadata>
    <preflight:preflight xmlns:preflight='urn:vfio-preflight:1'>
      <preflight:probe part='PART'/>
    </preflight:preflight>
  </metadata>
  <memory unit='KiB'>65536</memory>
  <os><type arch='x86_64' machine='pc-q35-9.0'>hvm</type></os>
  <devices>
    <emulator>/nonexistent/qemu-system-x86_64</emulator>
    <hostdev mode='subsystem' type='pci' managed='yes'>
      <source><address domain='0xffff' bus='0xff' slot='0x1f' function='0x7'/></source>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0'/>
    </hostdev>
  </devices>
</domain>
"""
# In the order of a guest's life; of libvirt, qemu_process.c, qemu_migration.c and qemu_saveimage.c.
CALLS = (
    ("migrate", "begin", "-"),
    ("restore", "begin", "-"),
    ("prepare", "begin", "-"),
    ("start", "begin", "-"),
    ("started", "begin", "-"),
    ("reconnect", "begin", "-"),
    ("attach", "begin", "-"),
    ("stopped", "end", "-"),
    ("release", "end", "failed"),
)


class Proved(NamedTuple):
    """What the hook did with a call: ``call`` is operation and sub-operation."""

    call: str
    did: str
    seconds: float


def prove(root: str) -> list[Proved]:
    """Call the hook for every operation. Raises InstallError if one is not answered as it must."""
    return [_call(root, *call) for call in CALLS]


def _call(root: str, operation: str, sub: str, extra: str) -> Proved:
    call = f"{operation} {sub}"
    begun = time.monotonic()
    if operation == "migrate":
        _judged(root, call, (operation, sub, extra))
        return Proved(call, PROVED, time.monotonic() - begun)
    done = _run(root, call, (PLAIN_NAME, operation, sub, extra), PLAIN)
    if done.returncode or done.stdout or done.stderr:
        raise InstallError(f"the hook must let a guest without devices pass at {call}: {_of(done)}")
    return Proved(call, PASSED, time.monotonic() - begun)


def _judged(root: str, call: str, words: tuple[str, ...]) -> None:
    # Needs lxml, without which an installation says so and a removal goes on.
    from ...hook.probe import MARK, decode

    text, part, parts = "", 0, 1
    while part < parts:
        document = STAND_IN.replace("PART", str(part))
        done = _run(root, call, (STAND_IN_NAME, *words), document)
        answer = done.stderr.decode("utf-8", "replace").split()
        if done.returncode != 1 or len(answer) != 4 or answer[0] != MARK:
            raise InstallError(f"the hook does not judge a made-up guest at {call}: {_of(done)}")
        text, part, parts = text + answer[3], part + 1, int(answer[2])
    try:
        report = decode(text)
    except ValueError as error:
        raise InstallError(f"what the hook answers at {call} cannot be read: {error}") from error
    for finding in report["findings"]:
        if finding["code"] == NOT_CHECKED:
            raise InstallError(f"the hook judges no guest: {finding['text']}")


def _run(
    root: str, call: str, words: tuple[str, ...], document: str
) -> subprocess.CompletedProcess[bytes]:
    hook = os.path.join(root, HOOK)
    try:
        return subprocess.run(  # noqa: S603 - what was just installed
            (hook, *words),
            input=document.encode(),
            capture_output=True,
            timeout=SECONDS,
            cwd="/",
            env=ENVIRONMENT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InstallError(f"the hook did not answer at {call} in {SECONDS} seconds") from error
    except OSError as error:
        raise InstallError(f"{hook} cannot be executed: {error.strerror}") from error


def _of(done: subprocess.CompletedProcess[bytes]) -> str:
    said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
    words = f"said '{printable(said, 300)}'" if said else "was silent; its log may say why"
    return f"it ended with {done.returncode} and {words}"

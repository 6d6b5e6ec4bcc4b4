"""SELinux labels of what was installed, on hosts that have SELinux.

A file gets the label of the directory that it was prepared in; the policy may have another one for
its place, without which libvirt's daemon may neither execute the hook nor read the package.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable

from ...osutil.text import printable

# selinuxfs, where the kernel has a policy.
SELINUX = "/sys/fs/selinux/enforce"
RESTORECON = ("/usr/sbin/restorecon", "/sbin/restorecon")
SECONDS = 120


def restore(paths: Iterable[str]) -> str:
    """Give each path, and all below it, the label that the policy has for it.

    Returns what went wrong, or nothing; nothing too on a host without SELinux.
    """
    _, problem = _restorecon(paths)
    return f"SELinux labels are not restored: {problem}" if problem else ""


def wrong(paths: Iterable[str]) -> tuple[str, str]:
    """What restorecon would relabel first of ``paths`` and all below them, and what went wrong."""
    said, problem = _restorecon(paths, "-n", "-v")
    return printable(said.strip().partition("\n")[0], 300), problem


def _restorecon(paths: Iterable[str], *options: str) -> tuple[str, str]:
    """What restorecon says, and what went wrong; nothing on a host without SELinux."""
    if not os.path.exists(SELINUX):
        return "", ""
    program = next((path for path in RESTORECON if os.access(path, os.X_OK)), "")
    if not program:
        return "", "there is no restorecon (policycoreutils)"
    command = (program, *options, "-R", *(path for path in paths if os.path.lexists(path)))
    try:
        done = subprocess.run(  # noqa: S603 - a constant path
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return "", f"{program}: {error}"
    if done.returncode:
        why = printable(done.stderr.decode("utf-8", "replace").strip(), 200)
        return "", f"{program}: {why}"
    return done.stdout.decode("utf-8", "replace"), ""

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
    if not os.path.exists(SELINUX):
        return ""
    program = next((path for path in RESTORECON if os.access(path, os.X_OK)), "")
    if not program:
        return "SELinux labels are not restored: there is no restorecon (policycoreutils)"
    command = (program, "-R", *(path for path in paths if os.path.lexists(path)))
    try:
        done = subprocess.run(  # noqa: S603 - a constant path
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"SELinux labels are not restored: {program}: {error}"
    if done.returncode:
        why = printable(done.stderr.decode("utf-8", "replace").strip(), 200)
        return f"SELinux labels are not restored: {program}: {why}"
    return ""

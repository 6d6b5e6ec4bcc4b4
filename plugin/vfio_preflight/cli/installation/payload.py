"""What an installation consists of: each file, where it belongs, and the directories beside them.

The package lies in a directory of its own for each version, and one symbolic link names the version
in force, so that an upgrade is one rename and a hook that runs meanwhile imports from one version:

    usr/lib/vfio-preflight/current -> 0.1.0-1f0c9d2e        what the hook and the command go by
    usr/lib/vfio-preflight/vfio_preflight -> current/vfio_preflight    for people
    usr/lib/vfio-preflight/0.1.0-1f0c9d2e/{hook,manifest.json,vfio_preflight/}

All paths are relative to the root that is installed to.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator

from ... import __version__
from ...errors import PreflightError
from ...osutil.light import NamedTuple

LIBRARY = "usr/lib/vfio-preflight"
CURRENT = f"{LIBRARY}/current"
# The package itself, a directory, before versions had directories of their own; now a link.
PACKAGE_LINK = f"{LIBRARY}/vfio_preflight"
COMMAND = "usr/bin/vfio-preflight"
HOOKS = "etc/libvirt/hooks"
HOOK = f"{HOOKS}/qemu.d/50-vfio-preflight"
# Where packages put units; units in /etc/systemd/system, the operator's, take precedence.
UNIT = "usr/lib/systemd/system/vfio-preflight-watch.service"
WANTED = f"etc/systemd/system/multi-user.target.wants/{os.path.basename(UNIT)}"
CONFIGURATION = "etc/vfio-preflight.conf"
RULES = "etc/vfio-preflight/vendor-rules.d"
RULE_FILES = ("hisilicon.ini", "intel.ini", "mellanox.ini", "nvidia.ini")
CACHE = "var/cache/vfio-preflight"
STATES = "var/lib/vfio-preflight/states"
DIRECTORIES = ((CACHE, 0o700), (STATES, 0o755))

# In a version's directory.
MANIFEST_NAME = "manifest.json"
HOOK_NAME = "hook"
SHIM_NAME = "vfio_preflight/qemu/trial/fakevfio.so"

PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Where hooks/ and etc/ are: beside plugin/ in a checkout, below the prefix after pip.
DATA = (
    os.path.join(PACKAGE, "..", ".."),
    os.path.join(sys.prefix, "share", "vfio-preflight"),
    os.path.join(PACKAGE, "..", "share"),
)
# The directory that the hook imports from, in a checkout.
IMPORTED = re.compile(rb"/usr/lib/vfio-preflight(?![\w.-])")

# What libvirt runs. It never changes, so that the link "current" alone decides what runs.
ENTRY = """#!/bin/sh
# libvirt qemu hook of vfio-preflight, put here by its package, or else by "vfio-preflight install".
# What it does lies in the version that is in force.
hook=/usr/lib/vfio-preflight/current/hook
# "command": an error of "." ends no shell.
[ ! -r "$hook" ] || command . "$hook"
# Without a package, guests go on as without a hook. Syslog is told where they would be judged, in
# the background: libvirt must not wait for a syslog that does not read.
case "$2/$3" in
migrate/begin | restore/begin)
    {
        name=$(printf '%s' "$1" | LC_ALL=C tr -c '!-~' '?' | cut -c 1-200)
        line="guest '$name' at $2 $3: nothing was checked, let pass: $hook is not there or broken"
        timeout 5 logger -t vfio-preflight -p daemon.err -- "$line; to do: reinstall vfio-preflight"
    } </dev/null >/dev/null 2>&1 &
    ;;
esac
exit 0
"""
# -I: neither the working directory nor PYTHONPATH may decide what root imports.
LAUNCHER = """#!/usr/bin/python3 -I
"""


class InstallError(PreflightError):
    """Files that cannot be put in place, or removed, without harm to others."""


class Payload(NamedTuple):
    """A file to install: where (relative to the root), what, with which mode."""

    path: str
    data: bytes
    mode: int = 0o644


def entries() -> tuple[Payload, ...]:
    """What is run by others and lies among their files, the hook first. Raises InstallError."""
    return (
        Payload(HOOK, ENTRY.encode(), 0o755),
        Payload(COMMAND, launcher(), 0o755),
        Payload(UNIT, data_file(f"etc/{os.path.basename(UNIT)}")),
    )


def launcher() -> bytes:
    """The command. Raises OSError."""
    with open(
        os.path.join(os.path.dirname(os.path.abspath(__file__)), "launcher.py"), "rb"
    ) as file:
        return LAUNCHER.encode() + file.read()


def reinstall() -> str:
    """The shell command that makes this installation once more, from where this one is made."""
    origin = shlex.quote(os.path.dirname(PACKAGE))
    return f"env PYTHONPATH={origin} /usr/bin/python3 -B -m vfio_preflight install"


def version_name() -> str:
    """A name that no other installation of this or another version has."""
    return f"{__version__}-{os.urandom(4).hex()}"


def package(version: str) -> Iterator[Payload]:
    """Every file of the directory of a ``version``, relative to that. Raises InstallError."""
    hook, found = IMPORTED.subn(f"/{LIBRARY}/{version}".encode(), data_file("hooks/vfio-preflight"))
    if not found:
        raise InstallError("hooks/vfio-preflight imports from another place than is installed to")
    yield Payload(HOOK_NAME, hook)
    for directory, subdirectories, files in os.walk(PACKAGE):
        # Compiled files are made on the host, for its own Python.
        subdirectories[:] = sorted(name for name in subdirectories if name != "__pycache__")
        for name in sorted(files):
            path = os.path.join(directory, name)
            inside = os.path.relpath(path, os.path.dirname(PACKAGE))
            if name.endswith((".py", ".c", ".json")):
                with open(path, "rb") as file:
                    yield Payload(inside, file.read())


def vendor_rules() -> Iterator[Payload]:
    """The files of vendors' rules. Raises InstallError."""
    for name in RULE_FILES:
        yield Payload(f"{RULES}/{name}", data_file(f"etc/vendor-rules.d/{name}"))


def data_file(name: str) -> bytes:
    """A file of hooks/ or etc/. Raises InstallError where it cannot be found."""
    for directory in DATA:
        path = os.path.join(directory, name)
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return file.read()
    raise InstallError(f"{name} is not in this installation; install from a checkout or a wheel")

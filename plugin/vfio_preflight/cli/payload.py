"""What an installation consists of: each file, where it belongs, and the directories beside them.

All paths are relative to the root that is installed to.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from ..errors import PreflightError
from ..osutil.light import NamedTuple

LIBRARY = "usr/lib/vfio-preflight"
MANIFEST = f"{LIBRARY}/manifest.json"
SHIM = f"{LIBRARY}/vfio_preflight/qemu/trial/fakevfio.so"
COMMAND = "usr/bin/vfio-preflight"
HOOKS = "etc/libvirt/hooks"
HOOK = f"{HOOKS}/qemu.d/50-vfio-preflight"
# Where packages put units; units in /etc/systemd/system, the operator's, take precedence.
UNIT = "usr/lib/systemd/system/vfio-preflight-watch.service"
WANTED = f"etc/systemd/system/multi-user.target.wants/{os.path.basename(UNIT)}"
CONFIGURATION = "etc/vfio-preflight.conf"
RULES = "etc/vfio-preflight/vendor-rules.d"
RULE_FILES = ("hisilicon.ini", "intel.ini", "mellanox.ini", "nvidia.ini")
STATES = "var/lib/vfio-preflight/states"
DIRECTORIES = (("var/cache/vfio-preflight", 0o700), (STATES, 0o755))

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Where hooks/ and etc/ are: beside plugin/ in a checkout, below the prefix after pip.
DATA = (
    os.path.join(PACKAGE, "..", ".."),
    os.path.join(sys.prefix, "share", "vfio-preflight"),
    os.path.join(PACKAGE, "..", "share"),
)
# -I: neither the working directory nor PYTHONPATH may decide what root imports.
LAUNCHER = """#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "/usr/lib/vfio-preflight")
from vfio_preflight.cli.main import main

sys.exit(main())
"""


class InstallError(PreflightError):
    """Files that cannot be put in place, or removed, without harm to others."""


class Payload(NamedTuple):
    """A file to install: where (relative to the root), what, with which mode."""

    path: str
    data: bytes
    mode: int = 0o644


def payload() -> Iterator[Payload]:
    """Every file but the configuration and the vendors' rules, which may be the operator's.

    Raises InstallError.
    """
    hook = data_file("hooks/vfio-preflight")
    yield Payload(HOOK, hook, 0o755)
    yield Payload(COMMAND, LAUNCHER.encode(), 0o755)
    yield Payload(UNIT, data_file(f"etc/{os.path.basename(UNIT)}"))
    for directory, subdirectories, files in os.walk(PACKAGE):
        # Compiled files are made on the host, for its own Python.
        subdirectories[:] = sorted(name for name in subdirectories if name != "__pycache__")
        for name in sorted(files):
            path = os.path.join(directory, name)
            inside = os.path.relpath(path, os.path.dirname(PACKAGE))
            if name.endswith((".py", ".c", ".json")):
                with open(path, "rb") as file:
                    yield Payload(f"{LIBRARY}/{inside}", file.read())


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

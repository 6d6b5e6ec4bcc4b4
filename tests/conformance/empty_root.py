"""A guest's twin where there is nothing of a host but programs: a mount namespace of its own.

    unshare --mount --propagation private python -m conformance.empty_root EMULATOR SHIM DIRECTORY

DIRECTORY is empty, and becomes the root. Prints as JSON what came of it, with QEMU's line, and
which of the files that the guest's arguments name there were.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from unit.makers import HOST, make_state
from unit.qemu.twin.commandlines import arguments
from vfio_preflight.osutil.executable import trusted_executable
from vfio_preflight.qemu.twin.twin import Stream, load, save

VFIO = (
    f'-device {{"driver":"vfio-pci","host":"{HOST}","id":"hostdev0","bus":"pci.10","addr":"0x0"}}\n'
)
_WITHIN = 60.0
# The C library's, and QEMU's own, which is not merely /usr: users, and the linker's cache.
_PROGRAMS = ("/usr", "/etc/passwd", "/etc/group", "/etc/ld.so.cache")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_LINKS = ("bin", "lib", "lib64", "sbin")


def enter(root: Path, *more: str) -> None:
    """Make ``root`` the root directory, with programs, these paths and /proc, and go there."""
    _mount("-t", "tmpfs", "-o", "mode=0755", "none", str(root))
    for path in (*_PROGRAMS, *_DEVICES, "/proc", *more):
        _bind(path, root)
    for name in _LINKS:
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), root / name)
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    os.chroot(root)
    os.chdir("/")


def _bind(path: str, root: Path) -> None:
    there = root / path.lstrip("/")
    if os.path.isdir(path):
        there.mkdir(parents=True, exist_ok=True)
    elif os.path.exists(path):
        there.parent.mkdir(parents=True, exist_ok=True)
        there.touch()
    else:
        return
    _mount("--rbind", path, str(there))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def main(emulator: str, shim: str, directory: str) -> None:
    """Save and load in there."""
    code = str(Path(__file__).resolve().parents[2])
    enter(Path(directory), code, sys.prefix, os.path.dirname(shim), os.path.realpath(emulator))
    argv = arguments(VFIO)
    qemu = trusted_executable(emulator)
    end = time.monotonic() + _WITHIN
    made = save(qemu, argv, deadline=end, states={HOST: make_state()}, library=shim)
    if isinstance(made, Stream):
        answer = load(qemu, argv, made, deadline=end, library=shim)
        outcome, line = answer.outcome, answer.line
    else:
        outcome, line = made.kind, made.line
    named = {path for path in re.findall(r"/[\w./-]+", " ".join(argv)) if os.path.exists(path)}
    print(json.dumps({"outcome": outcome, "line": line, "files": sorted(named)}))


if __name__ == "__main__":
    main(*sys.argv[1:])

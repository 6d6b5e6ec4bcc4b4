"""The tree of a package, below a directory of the build: the same files that ``install`` writes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from vfio_preflight.cli.installation.files import digest
from vfio_preflight.cli.installation.launcher import DEB, PACKAGES, RPM
from vfio_preflight.cli.installation.payload import (
    CONFIGURATION,
    DIRECTORIES,
    HOOK,
    HOOKS,
    LIBRARY,
    MANIFEST_NAME,
    SHIM_NAME,
    UNIT,
    Payload,
    data_file,
    entries,
    package,
    vendor_rules,
)
from vfio_preflight.qemu.trial import shim

from . import completion, pages
from .commandline import read

PROSE = Path(__file__).with_name("hook.txt")
ZSH = {DEB: "usr/share/zsh/vendor-completions", RPM: "usr/share/zsh/site-functions"}
# Debian's package makes it on the host: see cli/installation/packaged.py. Its unit is debhelper's.
MADE_ON_HOST = {DEB: (HOOK, UNIT), RPM: ()}
ETC = Path(__file__).parents[2] / "etc"
# Where the sources have it; SELinux's policy is compiled by the spec file, for its own package.
APPARMOR = {DEB: ("apparmor.d",), RPM: ()}
MAINTAIN = """#!/usr/bin/python3 -I
import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
from vfio_preflight.cli.installation.packaged import main

sys.exit(main(sys.argv[1:], os.path.basename(here)))
"""


def stage(kind: str, version: str, directory: Path) -> None:
    """Write every file of a ``kind`` of package below ``directory``."""
    for name, mode in (*DIRECTORIES, (f"{HOOKS}/qemu.d", 0o755)):
        (directory / name).mkdir(parents=True, exist_ok=True)
        (directory / name).chmod(mode)
    for item in _files(kind, version):
        path = directory / item.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(item.data)
        path.chmod(item.mode)
    _compile(directory / LIBRARY / version / SHIM_NAME)


def _files(kind: str, version: str) -> Iterator[Payload]:
    installed = [item for item in entries() if item.path not in MADE_ON_HOST[kind]]
    library = [
        item._replace(path=f"{LIBRARY}/{version}/{item.path}")
        for item in (*package(version), Payload("maintain", MAINTAIN.encode(), 0o755))
    ]
    yield from (*installed, *library)
    # What debhelper puts in place is missed as well where it is gone.
    unit = [item for item in entries() if item.path == UNIT and item not in installed]
    manifest = _manifest(kind, version, installed + unit + library)
    yield Payload(f"{LIBRARY}/{version}/{MANIFEST_NAME}", manifest)
    yield Payload(CONFIGURATION, data_file("etc/vfio-preflight.conf"))
    yield from vendor_rules()
    for place in APPARMOR[kind]:
        for path in filter(Path.is_file, (ETC / place).rglob("*")):
            yield Payload(f"etc/{path.relative_to(ETC)}", path.read_bytes())
    yield from _generated(kind)


def _manifest(kind: str, version: str, files: list[Payload]) -> bytes:
    """As ``install`` writes it, so that others can tell what is damaged and how that is mended."""
    value = {
        "version": version,
        "files": {item.path: digest(item.data) for item in files},
        "package": kind,
        "reinstall": PACKAGES[kind],
    }
    return json.dumps(value, indent=1).encode()


def _generated(kind: str) -> Iterator[Payload]:
    top = read()
    texts = {
        "usr/share/man/man1/vfio-preflight.1": pages.command(top),
        "usr/share/man/man5/vfio-preflight.conf.5": pages.configuration(),
        "usr/share/man/man8/vfio-preflight-hook.8": pages.hook(PROSE.read_text()),
        "usr/share/bash-completion/completions/vfio-preflight": completion.bash(top),
        f"{ZSH[kind]}/_vfio-preflight": completion.zsh(top),
        "usr/share/fish/vendor_completions.d/vfio-preflight.fish": completion.fish(top),
    }
    return (Payload(path, text.encode()) for path, text in texts.items())


def _compile(target: Path) -> None:
    """Build the trial's made-up device with the distribution's own flags."""
    names = ("CPPFLAGS", "CFLAGS", "LDFLAGS")
    flags = [flag for name in names for flag in shlex.split(os.environ.get(name, ""))]
    compiler = shlex.split(os.environ.get("CC", shim.COMPILER))
    options = (*shim.OPTIONS, "-o", target, shim.SOURCE, *shim.LIBRARIES)
    subprocess.run([*compiler, *flags, *options], check=True)  # noqa: S603 - the build's own compiler

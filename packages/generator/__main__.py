"""``python3 -m generator``, with plugin/ and packages/ in PYTHONPATH; for Makefile, rules and spec.

stage deb|rpm VERSION DIRECTORY     the tree of a package
changelog deb|rpm                   its changelog
version                             the version, in one place: vfio_preflight.__version__
make-way                            shell: what of "make install" makes way for a package
"""

from __future__ import annotations

import sys
from pathlib import Path

from vfio_preflight import __version__
from vfio_preflight.cli.installation.files import digest
from vfio_preflight.cli.installation.launcher import DEB, RPM
from vfio_preflight.cli.installation.payload import (
    CONFIGURATION,
    Payload,
    data_file,
    vendor_rules,
)

from . import changelog
from .stage import stage

MAKE_WAY = Path(__file__).with_name("make-way.sh")
CHANGELOGS = {DEB: changelog.debian, RPM: changelog.rpm}


def _make_way() -> str:
    files = (Payload(CONFIGURATION, data_file("etc/vfio-preflight.conf")), *vendor_rules())
    digests = "\n".join(f"{digest(item.data)} /{item.path}" for item in files)
    return MAKE_WAY.read_text().replace("@DIGESTS@", digests)


def main(command: str, *words: str) -> None:
    if command == "stage":
        kind, version, directory = words
        stage(kind, version, Path(directory))
    elif command == "changelog":
        (kind,) = words
        print(CHANGELOGS[kind](changelog.releases()), end="")
    elif command == "version":
        print(__version__)
    elif command == "make-way":
        print(_make_way(), end="")
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])

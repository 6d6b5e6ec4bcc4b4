"""Holds the hook's answers to a fuzzer's corpus against libvirt: what it takes, it takes back.

    python -m fuzz.accepted CORPUS

libvirt's QEMU driver runs within this process, on a directory that is gone afterwards. Prints how
many documents it takes; exit status 1 if it refuses what the hook made of one of them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import libvirt

from fuzz.judged import judge, make_settings
from vfio_preflight.guest.xml import parse_domain


def refused(connection: Any, xml: bytes) -> str:  # noqa: ANN401 - libvirt-python
    """Why libvirt does not define the guest; empty where it does."""
    try:
        connection.defineXML(xml.decode()).undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
    except (libvirt.libvirtError, ValueError) as error:
        return str(error) or "refused"
    return ""


def main() -> int:
    """Go through the corpus."""
    libvirt.registerErrorHandler(lambda *_: None, None)
    libvirt.virEventRegisterDefaultImpl()
    taken, wrong = 0, 0
    files = sorted(Path(sys.argv[1]).iterdir())
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "host").mkdir()
        settings = make_settings(Path(directory) / "host")
        connection = libvirt.open(f"qemu:///embed?root={directory}/libvirt")
        for file in files:
            data = file.read_bytes()
            outcome = judge(settings, data)
            if outcome is None or not outcome.out or refused(connection, data[1:]):
                continue
            taken += 1
            parse_domain(outcome.out)
            why = refused(connection, outcome.out)
            if why:
                wrong += 1
                print(f"{file}: libvirt refuses what the hook made of it: {why}")
        connection.close()
    print(
        f"{len(files)} documents; of {taken} that libvirt takes and the hook changes,"
        f" {wrong} are refused then"
    )
    return 1 if wrong or not taken else 0


if __name__ == "__main__":
    sys.exit(main())

"""Holds the hook's answers to a fuzzer's corpus against libvirt: what it takes, it takes back.

    python -m fuzz.accepted CORPUS

Each document that a private libvirtd takes is defined there once more as the hook has changed it.
Prints how many there were; exit status 1 if libvirt refuses one of them then, or took none.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from fuzz.judged import judge, make_settings
from lab import Lab
from lab.guests import EMULATOR
from lab.host import Host
from vfio_preflight.guest.xml import parse_domain, to_bytes

DOCUMENT = "/run/document.xml"


def refused(host: Host, xml: bytes) -> str:
    """Why libvirt does not define the guest; empty where it does."""
    root = parse_domain(xml)
    # One that is there: libvirt asks every other one, and waits for it.
    for element in root.iter("emulator"):
        element.text = EMULATOR
    host.path(DOCUMENT).write_bytes(to_bytes(root))
    done = host.virsh("define", DOCUMENT)
    for guest in host.virsh("list", "--all", "--uuid").stdout.split():
        host.virsh("undefine", guest)
    return done.stderr.strip() if done.returncode else ""


def main() -> int:
    """Go through the corpus."""
    taken, wrong = 0, 0
    files = sorted(Path(sys.argv[1]).iterdir())
    with tempfile.TemporaryDirectory() as directory, Lab(Path(directory)) as lab:
        (Path(directory) / "made-up").mkdir()
        settings = make_settings(Path(directory) / "made-up")
        for file in files:
            data = file.read_bytes()
            outcome = judge(settings, data)
            if outcome is None or not outcome.out or refused(lab.a, data[1:]):
                continue
            taken += 1
            why = refused(lab.a, outcome.out)
            if why:
                wrong += 1
                print(f"{file}: libvirt refuses what the hook made of it: {why}")
    print(
        f"{len(files)} documents; of {taken} that libvirt takes and the hook changes,"
        f" {wrong} are refused then"
    )
    return 1 if wrong or not taken else 0


if __name__ == "__main__":
    sys.exit(main())

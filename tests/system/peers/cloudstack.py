#!/usr/bin/python3
"""``/etc/libvirt/hooks/qemu`` as CloudStack's agent has it: renames bridges, prints the XML anew.

It then runs scripts of ``/etc/libvirt/hooks/custom`` by their names, without the XML; what they
print and how they end goes to a log alone. It never fails.

Source: CloudStack, agent/bindir/libvirtqemuhook.in.
"""

from __future__ import annotations

import os
import subprocess
import sys
from xml.dom import minidom

CUSTOM = "/etc/libvirt/hooks/custom"
LOG = "/var/log/libvirt/qemu-hook.log"


def rename_bridges() -> None:
    try:
        domain = minidom.parse(sys.stdin)
        for interface in domain.getElementsByTagName("interface"):
            source = interface.getElementsByTagName("source")[0]
            bridge = source.getAttribute("bridge")
            if bridge.startswith("cloudVirBr"):
                source.setAttribute("bridge", bridge.replace("cloudVirBr", "breth0-"))
        print(domain.toxml())
    except Exception:
        return


def run_custom(operation: str) -> None:
    if not os.path.isdir(CUSTOM):
        return
    for name in sorted(os.listdir(CUSTOM), key=lambda name: name.partition("_")[2]):
        if name.startswith((f"{operation}_", "all_")) and os.access(f"{CUSTOM}/{name}", os.X_OK):
            done = subprocess.run([f"{CUSTOM}/{name}", *sys.argv[1:]], capture_output=True)
            with open(LOG, "a", encoding="utf-8") as log:
                log.write(f"{name}: {done.returncode} {done.stdout!r} {done.stderr!r}\n")


if len(sys.argv) == 5:
    if sys.argv[2:4] == ["migrate", "begin"]:
        rename_bridges()
    run_custom(sys.argv[2])

#!/usr/bin/python3
"""``/etc/libvirt/hooks/qemu`` as VDSM has it: every incoming guest's XML is printed anew.

It has libvirt leave the owner of disks alone, and shortens VNC passwords. ElementTree gives each
namespace a prefix of its own.

Source: VDSM, static/etc/libvirt/hooks/qemu, lib/vdsm/virt/libvirthook/vm_libvirt_hook.py.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree


def main(operation: str, phase: str) -> None:
    if operation not in ("migrate", "restore") or phase != "begin":
        return
    tree = ElementTree.parse(sys.stdin)
    for source in tree.iterfind("./devices/disk[@type='file']/source"):
        if source.find("seclabel[@model='dac']") is None:
            ElementTree.SubElement(source, "seclabel", type="none", relabel="no", model="dac")
    graphics = tree.find("./devices/graphics[@type='vnc'][@passwd]")
    if graphics is not None:
        graphics.set("passwd", graphics.get("passwd", "")[:8])
    tree.write(sys.stdout, encoding="unicode")


main(*sys.argv[2:4])

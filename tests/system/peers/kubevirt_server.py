#!/usr/bin/python3
"""The server in KubeVirt's virt-launcher: names the target's vGPU in the XML of one migration.

It takes one connection in its life. Prints a line when it listens.

Source: KubeVirt, pkg/virt-launcher/premigration-hook-server/hook_server.go, vgpuhook/vgpu_hook.go.
"""

from __future__ import annotations

import os
import socket
import sys
import xml.etree.ElementTree as ElementTree

SOCKET = "/run/kubevirt-migration-hook-socket"


def changed(document: bytes, uuid: str) -> bytes:
    domain = ElementTree.fromstring(document)
    address = domain.find("./devices/hostdev[@type='mdev']/source/address")
    if address is not None:
        address.set("uuid", uuid)
    return ElementTree.tostring(domain)


with socket.socket(socket.AF_UNIX) as server:
    server.bind(SOCKET)
    server.listen()
    print("ready", flush=True)
    connection, _ = server.accept()
    with connection:
        received = b""
        # The client does not shut its side down.
        while b"</domain>" not in received:
            received += connection.recv(65536)
        connection.sendall(changed(received, sys.argv[1]))
os.unlink(SOCKET)

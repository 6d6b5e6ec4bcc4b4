#!/usr/bin/python3
"""``/etc/libvirt/hooks/qemu`` as KubeVirt 1.10 has it: asks virt-launcher for the XML.

Source: KubeVirt, cmd/virt-launcher/libvirt-hook-client/main.go (by default since 1.9; before that a
script did what is done here at ``release end``, and nothing else).
"""

from __future__ import annotations

import socket
import sys

SOCKET = "/run/kubevirt-migration-hook-socket"
MARKER = "/run/kubevirt-migrated"


def ask() -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(SOCKET)
        connection.sendall(sys.stdin.buffer.read())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    if not answer:
        raise OSError("hook processing failed on server")
    sys.stdout.buffer.write(answer)


try:
    if sys.argv[2:4] == ["migrate", "begin"]:
        ask()
    elif sys.argv[2:5] == ["release", "end", "migrated"]:
        open(MARKER, "w").close()
except OSError as error:
    print(f"Hook failed: {error}", file=sys.stderr)
    sys.exit(1)

"""``calls.py HOOK GUEST FILE END``: calls a hook as libvirt does, with the domain XML in FILE, over
and over until END exists; prints how many calls there were, and how many blocked the guest.

Run in a host, on its own Python.
"""

from __future__ import annotations

import os
import subprocess
import sys


def main(hook: str, guest: str, file: str, end: str) -> None:
    calls = blocked = 0
    while not os.path.exists(end):
        with open(file) as xml:
            command = (hook, guest, "migrate", "begin", "-")
            done = subprocess.run(command, stdin=xml, capture_output=True, text=True, check=False)
        calls += 1
        blocked += done.returncode == 1 and "migration blocked" in done.stderr
    print(calls, blocked)


if __name__ == "__main__":
    main(*sys.argv[1:])

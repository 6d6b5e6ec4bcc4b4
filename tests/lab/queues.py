"""What a build makes of a virtio queue that no driver has set up.

QEMU 10.0.13, which Debian 13 has, counts each queue as of the largest size there is (1024). QEMU
11.1 holds that against its own (``virtio_load``), and refuses each guest with a virtio device that
was started there: "VQ 0 vring.num 1024 exceeds allocated max 128".
"""

from __future__ import annotations

import functools
import json
import subprocess

LINE = "exceeds allocated max"
_ASKED = (
    {"execute": "qmp_capabilities"},
    {
        "execute": "x-query-virtio-queue-status",
        "arguments": {"path": "/machine/peripheral/b/virtio-backend", "queue": 0},
    },
    {"execute": "quit"},
)


def are_refused(source: str, destination: str) -> bool:
    """Whether the one emulator's guests with a virtio device are refused by the other."""
    return _size(source) > _size(destination)


@functools.cache
def _size(emulator: str) -> int:
    """Of a balloon's first queue."""
    device = ("-nodefaults", "-device", "virtio-balloon-pci,id=b", "-display", "none", "-S")
    done = subprocess.run(
        [emulator, "-machine", "pc-q35-9.0", "-m", "64", *device, "-qmp", "stdio"],
        input="".join(f"{json.dumps(each)}\n" for each in _ASKED),
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    answers = (json.loads(line) for line in done.stdout.splitlines())
    found = [each["return"] for each in answers if "vring-num" in each.get("return", ())]
    return int(found[0]["vring-num"])

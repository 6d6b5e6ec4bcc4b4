"""What ``migrate begin`` leaves, made up."""

from __future__ import annotations

from typing import Any

from unit.host.hosts import MDEV
from unit.makers import HOST, KEY, UUID
from vfio_preflight.guest.traits import Traits

LINE = (
    "get_pci_config_device: Bad config data: i=0x63 read: 1 device: 51 cmask: ff wmask: 0 w1cmask:0"
)
OTHER_LINE = LINE.replace("0x63", "0x42")
PATH = "0000:00:05.0"
LOADING = f"error while loading state for instance 0x0 of device '{PATH}/vfio'"
THERE = MDEV._replace(driver_version="535.1")
TIME = "2026-11-28T07:00:00Z"


def make_expected_device(
    verdict: str = "pass",
    quote: str = "",
    key: str = KEY,
    path: str = PATH,
    host: str = HOST,
    mended: bool = False,
    there: Traits = THERE,
    here: Traits = MDEV,
) -> dict[str, Any]:
    return {
        "key": key,
        "alias": f"alias of {key}",
        "host": host,
        "path": path,
        "verdict": verdict,
        "codes": ["config-identical"],
        "quote": quote,
        "predicted": "pass",
        "property": "skip-vsc-check is off (compat table)",
        "mended": mended,
        "traits": {"source": there.facts(), "destination": here.facts()},
        "states": {"source": None, "destination": None},
        "case": {"machine": "9.0"},
    }


def make_expected(
    *devices: dict[str, Any],
    verdict: str = "pass",
    action: str = "annotate",
    token: str = "0123456789abcdef",
    marked: bool = False,
    guest: str = "g1",
    machine: str = "pc-q35-9.0",
) -> dict[str, Any]:
    return {
        "schema": 1,
        "token": token,
        "marked": marked,
        "time": TIME,
        "guest": guest,
        "uuid": UUID,
        "machine": machine,
        "emulator": "QEMU 10.0.2 (/usr/bin/qemu-system-x86_64)",
        "verdict": verdict,
        "action": action,
        "log": [0, 0, ""],
        "devices": list(devices or [make_expected_device(verdict)]),
    }

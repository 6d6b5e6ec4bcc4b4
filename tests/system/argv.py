"""The VFIO devices on a QEMU command line that libvirt made: what extraction is held against.

Reads nothing but the arguments, and shares no code with the project.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_PLACEMENTS = {
    "pxb-pcie": "root-complex",
    "pcie-root-port": "root-port",
    "ioh3420": "root-port",
    "x3130-upstream": "root-port",
    "xio3130-downstream": "root-port",
    "pxb": "conventional",
    "pci-bridge": "conventional",
    "pcie-pci-bridge": "conventional",
    "i82801b11-bridge": "conventional",
}
_ROOTS = {"pcie.0": "root-complex", "pci.0": "conventional"}
# What says where a device is, or which; and what concerns the firmware alone.
_ELSEWHERE = ("driver", "id", "host", "sysfsdev", "bus", "addr", "bootindex")


class Told(NamedTuple):
    """A VFIO device by libvirt's arguments. ``properties`` are pairs of value and JSON's type."""

    alias: str | None
    driver: str
    host: str | None
    placement: str
    path: str | None
    properties: Mapping[str, tuple[str, str]]


def arguments_of(native: str) -> list[str]:
    """The words of the shell command that ``domxml-to-native`` printed."""
    return shlex.split(native)


def told(arguments: Sequence[str]) -> list[Told]:
    """The VFIO devices, in the order of the command line."""
    devices = [_device(value) for value in _values(arguments, "-device")]
    for setting in _values(arguments, "-set"):
        group, name, rest = setting.split(".", 2)
        key, _, value = rest.partition("=")
        for options in devices:
            if group == "device" and options.get("id") == (name, "text"):
                options[key] = (value, "text")
    owners = {options["id"][0]: options for options in devices if "id" in options}
    # The driver of a USB device can be overridden, too; QEMU will not have it.
    others = [options for options in devices if "hostdevice" not in options]
    vfio = [options for options in others if options["driver"][0].startswith("vfio-pci")]
    return [_told(options, owners, "pcie.0" if _is_q35(arguments) else "pci.0") for options in vfio]


def _values(arguments: Sequence[str], option: str) -> list[str]:
    return [value for name, value in zip(arguments, arguments[1:]) if name == option]


def _is_q35(arguments: Sequence[str]) -> bool:
    (machine,) = _values(arguments, "-machine")
    return "q35" in machine.partition(",")[0]


def _device(text: str) -> dict[str, tuple[str, str]]:
    if text.startswith("{"):
        return {key: _from_json(value) for key, value in json.loads(text).items()}
    driver, *words = text.split(",")
    pairs = (word.partition("=") for word in words)
    return {"driver": (driver, "text"), **{key: (value, "text") for key, _, value in pairs}}


def _from_json(value: object) -> tuple[str, str]:
    if isinstance(value, bool):
        return "on" if value else "off", "boolean"
    return str(value), "string" if isinstance(value, str) else "number"


def _told(
    options: Mapping[str, tuple[str, str]],
    owners: Mapping[str, Mapping[str, tuple[str, str]]],
    root: str,
) -> Told:
    plain = {key: value for key, (value, _) in options.items()}
    bus = plain.get("bus", root)
    host = plain.get("host")
    if "sysfsdev" in plain:
        host = plain["sysfsdev"].rpartition("/")[2]
    return Told(
        plain.get("id"),
        plain["driver"],
        None if host is None else f"0000:{host}" if len(host) == len("06:00.4") else host,
        _ROOTS[bus] if bus in _ROOTS else _PLACEMENTS[owners[bus]["driver"][0]],
        _path(plain, owners) if "addr" in plain and "bus" in plain else None,
        {key: value for key, value in options.items() if key not in _ELSEWHERE},
    )


def _path(plain: Mapping[str, str], owners: Mapping[str, Mapping[str, tuple[str, str]]]) -> str:
    """QEMU's name for the device (pcibus_get_dev_path): the slots from its root bus to it."""
    steps = [_slot(plain["addr"])]
    bus = plain["bus"]
    while bus not in _ROOTS:
        owner = {key: value for key, (value, _) in owners[bus].items()}
        steps.insert(0, _slot(owner["addr"]))
        if owner["driver"] == "pxb":
            steps.insert(1, "00.0")  # the bridge that it makes itself
        if owner["driver"] in ("pxb", "pxb-pcie"):
            return ":".join([f"0000:{int(owner['bus_nr']):02x}", *steps])
        bus = owner["bus"]
    return ":".join(["0000:00", *steps])


def _slot(text: str) -> str:
    slot, _, function = text.partition(".")
    return f"{int(slot, 16):02x}.{int(function or '0', 16)}"

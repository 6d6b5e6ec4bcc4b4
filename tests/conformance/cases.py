"""A case: two config states and everything around them that decides what QEMU makes of them.

>>> case = Case(source, destination, "pc-q35-9.0", "root-port")
>>> case_from_json(to_json(case)) == case
True
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from vfio_preflight.pci.atomics import from_text
from vfio_preflight.pci.state import Bar, ConfigState
from vfio_preflight.qemu.model.boards import board_of
from vfio_preflight.qemu.model.vfio_pci import Environment
from vfio_preflight.qemu.trial.case import ROW, to_case
from vfio_preflight.qemu.trial.workbench import Setting

# Name of a placement: the placement as the model has it, and whether the root bus is PCI Express.
PLACEMENTS = {
    "root-complex": ("root-complex", True),
    "root-port": ("root-port", True),
    "conventional": ("conventional", True),
    "i440fx": ("conventional", False),
}
BOARDS = {"i440fx": "pc-i440fx"}


class Device(NamedTuple):
    """A config state and the properties of the QEMU device that is to present it."""

    config: bytes
    bars: tuple[Bar, ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
    driver: str = "vfio-pci"
    mdev: bool = False
    atomics: int | None = None

    @property
    def state(self) -> ConfigState:
        """The state as the project has it."""
        return ConfigState(self.config, self.bars, "file", "made up", self.atomics)


class Case(NamedTuple):
    """``source`` is sent, ``destination`` is to load it.

    ``machine`` is a version of the PC's types, as ``9.0``, or another board's type, ``virt-9.0``.
    """

    source: Device
    destination: Device
    machine: str
    placement: str
    globals: tuple[tuple[str, str, str], ...] = ()

    @property
    def machine_type(self) -> str:
        """The machine type on the placement's board."""
        if board_of(self.machine) is not None:
            return self.machine
        return f"{BOARDS.get(self.placement, 'pc-q35')}-{self.machine}"

    def setting(self, device: Device) -> Setting:
        """What surrounds one side's device."""
        placement, express = PLACEMENTS[self.placement]
        environment = Environment(
            placement, express, properties=dict(device.properties), mdev=device.mdev
        )
        return Setting(self.machine_type, device.driver, environment, self.globals)


def to_json(case: Case) -> str:
    """``case`` as text, as the project's own bug reports have it."""
    sender, setting = case.setting(case.source), case.setting(case.destination)
    value = to_case(case.source.state, sender, case.destination.state, setting)
    return json.dumps(value, indent=1) + "\n"


def case_from_json(text: str) -> Case:
    """Read :func:`to_json`'s text."""
    value = json.loads(text)
    return Case(
        _device(value["source"]),
        _device(value["destination"]),
        value["machine"],
        value["placement"],
        tuple((a, b, c) for a, b, c in value["globals"]),
    )


def _device(value: Mapping[str, Any]) -> Device:
    config = bytearray(value["size"])
    for at, row in value["config"].items():
        config[int(at, 16) : int(at, 16) + ROW] = bytes.fromhex(row)
    return Device(
        bytes(config),
        tuple(Bar(*json.loads(bar)) for bar in value["bars"]),
        tuple((name, text) for name, text in value["properties"]),
        value["driver"],
        value.get("mdev", False),
        from_text(value.get("atomic_ops")),
    )

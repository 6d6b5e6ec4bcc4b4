"""What becomes of each device type: made by two builds of QEMU, and migrated between them."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from vfio_preflight.osutil.executable import unprivileged_user
from vfio_preflight.qemu.emulator.client import Emulator

from .hop import FIRMWARE, REFUSED, UNMADE, Hop, hop
from .needs import BUSES, PCI, arguments
from .twin import predict

_PATIENCE = 60.0
_ARGUMENTS = ("-machine", "none", "-S", "-nodefaults", "-display", "none", "-qmp", "stdio")
_CREATABLE = re.compile(r'^name "([^"]+)"(?:, bus ([^,\n]+))?', re.MULTILINE)
WORKERS = os.cpu_count() or 1


class Build(NamedTuple):
    """A QEMU: where it is, its version and package, and its device types, with where they sit."""

    path: str
    version: str
    package: str
    types: Mapping[str, str]


class Case(NamedTuple):
    """A guest with one device, which sits on a bus of ``kind``, and which way it goes."""

    type: str
    kind: str
    machine: str
    source: Build
    destination: Build
    firmware: bool = False

    @property
    def way(self) -> str:
        """``10.0.2 → 11.1.3``."""
        return f"{self.source.version} → {self.destination.version}"

    @property
    def arguments(self) -> list[str]:
        """What either QEMU is started with."""
        return arguments(self.type, self.kind, self.machine)


class Row(NamedTuple):
    """A case, with what QEMU made of it and what was said beforehand (None: nothing was asked)."""

    case: Case
    real: Hop
    twin: Hop | None = None

    @property
    def agrees(self) -> bool:
        """Whether the twin said what QEMU did, with QEMU's own line, or was not asked."""
        if self.twin is None:
            return True
        # The twin does not tell a destination that cannot make the guest from one that refuses it.
        outcome = REFUSED if self.real.outcome == UNMADE else self.real.outcome
        real = (outcome, self.real.side, self.real.line)
        return real == (self.twin.outcome, self.twin.side, self.twin.line)


def build(path: str) -> Build:
    """The QEMU at ``path``, asked for the devices that ``-device`` can make.

    That is every PCI device, and those of other buses that guests of a PC's kind have.
    """
    end = time.monotonic() + _PATIENCE
    with Emulator((path, *_ARGUMENTS), user=unprivileged_user()) as emulator:
        emulator.ask("qmp_capabilities", end)
        told = emulator.ask("query-version", end)
        types = emulator.ask("qom-list-types", end, implements="pci-device", abstract=False)
        assert told and types, emulator.failure()
    pci = frozenset(one["name"] for one in types["return"])
    # DeviceClass::user_creatable, which QMP does not tell.
    help_ = subprocess.run([path, "-device", "help"], capture_output=True, text=True, check=True)
    found = {name: PCI if name in pci else bus for name, bus in _CREATABLE.findall(help_.stdout)}
    version = told["return"]
    number = version["qemu"]
    return Build(
        path,
        f"{number['major']}.{number['minor']}.{number['micro']}",
        version["package"].strip(" ()"),
        {name: bus for name, bus in found.items() if _is_wanted(name, bus)},
    )


def _is_wanted(name: str, bus: str) -> bool:
    return bus == PCI or (bus in BUSES and not name.endswith("-cpu"))


def survey(cases: Sequence[Case]) -> list[Row]:
    """Each case with what came of it and what the twin says, in their order."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(_row, cases))


def _row(case: Case) -> Row:
    paths = (case.source.path, case.destination.path)
    real = hop(*paths, case.arguments, FIRMWARE if case.firmware else None)
    if (real.outcome, real.side) == (UNMADE, "source"):
        return Row(case, real)  # nothing is to be asked of a guest that cannot be
    return Row(case, real, predict(*paths, tuple(case.arguments)))

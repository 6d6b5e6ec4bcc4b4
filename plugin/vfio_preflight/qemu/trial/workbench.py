"""What a trial happens in: a directory of made-up devices, and a machine that does nothing.

The machine has the guest's machine type and the device's placement, properties and ``-global``s,
since these decide what QEMU makes of a config state; it has no other device, no firmware is run
and no image is opened.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from ...osutil.executable import Executable, User, unprivileged_user
from ...osutil.leftovers import SCRATCH, sweep
from ...osutil.light import NamedTuple
from ...pci.state import ConfigState
from ..emulator.client import Emulator
from ..model.boards import board_of
from ..model.properties import UNTRIED
from ..model.vfio_pci import Environment
from . import shim
from .setting import Setting as Setting

_ROM_SIZE = 0x10000
# On a root bus: slot 0 has the host bridge on every board, 1 the PIIX3 of an i440fx or the display
# of an sbsa-ref, whatever -nodefaults says; 2 is usually the VGA adapter's.
FIRST_SLOT = 3


class Limits(NamedTuple):
    """What an emulator may take: seconds of life and of processor time, bytes of address space.

    The processor time is what a device that hangs it costs the guest that waits; realising takes
    some 0.05.
    """

    life: int = 30
    cpu: int = 1
    memory: int = 4 << 30


class Workbench(NamedTuple):
    """A directory for made-up devices, the shim's descriptor, and who is to run emulators."""

    directory: str
    shim: int
    user: User | None

    def add_device(
        self, side: str, name: str, state: ConfigState, setting: Setting, group: int = 1
    ) -> str:
        """Let the emulators of ``side`` find a device that presents ``state``; its sysfsdev."""
        directory = os.path.join(self.directory, side)
        os.makedirs(directory, mode=0o755, exist_ok=True)
        return shim.describe(directory, name, state, group, setting.environment.mdev)

    def start(
        self,
        executable: Executable,
        arguments: Sequence[str],
        side: str,
        limits: Limits,
        descriptors: Sequence[int] = (),
    ) -> Emulator:
        """Start an emulator that sees the devices of ``side``."""
        environment = {
            # By descriptor: the user it runs as may not be able to reach the shim by its path.
            "LD_PRELOAD": f"/proc/self/fd/{self.shim}",
            "FAKEVFIO_DIR": os.path.join(self.directory, side),
            # Set by the shim from within, where it takes no privilege.
            "FAKEVFIO_LIMITS": ":".join(map(str, limits)),
        }
        return Emulator(
            (executable.realpath, *arguments),
            user=self.user,
            environment=environment,
            descriptors=(self.shim, *descriptors),
        )

    def give(self, path: str) -> None:
        """Let the emulators' user write to ``path``."""
        if self.user is not None:
            # Made by root, so not writable for that user otherwise.
            os.chown(path, self.user.uid, self.user.gid)


@contextmanager
def workbench(library: str | None = None) -> Iterator[Workbench]:
    """A workbench with the shim at ``library``, by default the installed one; gone at the end.

    Raises ``ShimError``, ``EmulatorError`` (there is no unprivileged user) or :class:`OSError`.
    """
    with ExitStack() as ends:
        descriptor = os.open(library or shim.library(), os.O_RDONLY | os.O_CLOEXEC)
        ends.callback(os.close, descriptor)
        # What a command that was killed has left; hooks sweep by themselves.
        sweep()
        directory = tempfile.mkdtemp(prefix=SCRATCH)
        ends.callback(shutil.rmtree, directory, ignore_errors=True)
        os.chmod(directory, 0o711)  # noqa: S103 - to be passed through by the emulators' user
        yield Workbench(directory, descriptor, unprivileged_user())


def arguments(devices: Sequence[tuple[str, Setting]], directory: str) -> list[str]:
    """An emulator's arguments: a machine with these devices, each a sysfsdev and its setting.

    Machine type and ``-global``s are the first one's. A root complex has room for 28 devices, other
    buses for more.
    """
    machine, globals_ = devices[0][1].machine, devices[0][1].globals
    options = [
        # TCG needs nothing of the host; KVM is for builds without it. No instruction is executed.
        *("-machine", machine, "-accel", "tcg,tb-size=1,thread=single", "-accel", "kvm"),
        *("-m", "16", "-nodefaults", "-no-user-config", "-display", "none", "-S", "-qmp", "stdio"),
        *_of_board(machine),
    ]
    for driver, name, value in globals_:
        # By their names alone, whatever the driver: nothing else there has such properties.
        for tried in _tried({name: value}, directory).values():
            options += ["-global", _joined({"driver": driver, "property": name, "value": tried})]
    for number, (sysfsdev, setting) in enumerate(devices):
        bridges, bus, address = _place(setting.environment, number)
        own = {"sysfsdev": sysfsdev, "bus": bus, "addr": address, "id": f"d{number}"}
        kept = _tried(setting.environment.properties, directory)
        for bridge in bridges:
            options += ["-device", bridge]
        if setting.json is None:
            options += ["-device", f"{setting.driver},{_joined({**own, **kept})}"]
        else:
            typed = {"driver": setting.driver, **own, **_typed(kept, setting.json)}
            options += ["-device", json.dumps(typed)]
    return options


def _of_board(machine: str) -> tuple[str, ...]:
    # None for the GIC of Arm's virt: its default takes interrupts by message, without which QEMU
    # realises no root port and leaves out MSI and MSI-X.
    board = board_of(machine)
    return board.arguments if board else ()


def _typed(tried: Mapping[str, str], given: Mapping[str, object]) -> dict[str, object]:
    """What is to be tried, by the values in JSON; a ROM's file is made up here as well."""
    # JSON's types are kept: in this form QEMU refuses "on" for true, and so must the trial.
    typed = {name: value for name, value in given.items() if name in tried}
    if isinstance(typed.get("romfile"), str):
        typed["romfile"] = tried["romfile"]
    return typed


def _place(environment: Environment, number: int) -> tuple[list[str], str, str]:
    """Bridges for the device of this ``number``, the bus they make, and its address there."""
    if environment.placement == "root-complex":
        return [], "pcie.0", f"{number + FIRST_SLOT:x}"
    if not environment.express_root:
        return [], "pci.0", f"{number + FIRST_SLOT:x}"
    # Eight functions a slot, as libvirt places root ports. A chassis number must not occur twice
    # (pcie_chassis_add_slot).
    slot = f"addr={number // 8 + FIRST_SLOT:x}.{number % 8},multifunction=on"
    port = f"pcie-root-port,id=p{number},bus=pcie.0,chassis={number + 1},{slot}"
    if environment.placement == "root-port":
        return [port], f"p{number}", "0"
    # From slot 1 on, as libvirt does behind this bridge.
    return [port, f"pcie-pci-bridge,id=c{number},bus=p{number}"], f"c{number}", "1"


def _tried(properties: Mapping[str, str], directory: str) -> dict[str, str]:
    tried = {name: value for name, value in properties.items() if name not in UNTRIED}
    if tried.get("romfile"):
        tried["romfile"] = _made_up_rom(directory)
    return tried


def _made_up_rom(directory: str) -> str:
    """A file in place of the guest's, which the emulator's user could not read here."""
    path = os.path.join(directory, "rom")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644), "wb") as file:
        file.truncate(_ROM_SIZE)
    return path


def _joined(options: Mapping[str, str]) -> str:
    # QemuOpts takes a doubled comma for one that does not separate.
    return ",".join(f"{name}={value.replace(',', ',,')}" for name, value in options.items())

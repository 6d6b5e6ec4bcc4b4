"""Cases by number: the same for a seed, whatever machine they are drawn on."""

from __future__ import annotations

from collections.abc import Callable, Set

from hypothesis import HealthCheck, Phase, given, seed, settings

from vfio_preflight.qemu.emulator.machines import EmulatorFacts, parse_machine_name
from vfio_preflight.qemu.model.boards import BOARDS, X86, Board, board_of
from vfio_preflight.qemu.model.quirks import is_intel_vga
from vfio_preflight.qemu.model.versions import release

from .cases import Case, Device
from .strategies import cases

_CHECKS = list(HealthCheck)


def draw_cases(number: int, chosen_seed: int) -> list[Case]:
    """``number`` cases, some of them equal."""
    found: list[Case] = []

    @seed(chosen_seed)
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=_CHECKS,
    )
    @given(cases())
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return found


def shrink(
    number: int, chosen_seed: int, disagrees: Callable[[Case], bool], steps: int = 500
) -> Case | None:
    """The smallest case found for which ``disagrees``, starting from the drawn ones.

    The same cases are drawn again: ``disagrees`` should remember those it has judged before.
    """
    smallest: list[Case] = []
    tried = 0

    @seed(chosen_seed)
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=_CHECKS,
        report_multiple_bugs=False,
    )
    @given(cases())
    def check(case: Case) -> None:
        nonlocal tried
        tried += bool(smallest)
        if case in smallest or (tried < steps and disagrees(case)):
            smallest.append(case)
            raise AssertionError

    try:
        check()
    except AssertionError:
        return smallest[-1]
    return None


def adapt(case: Case, facts: EmulatorFacts, sender: EmulatorFacts | None = None) -> Case:
    """``case`` as the emulators can have it: with a machine type and properties that they know.

    ``sender`` is the source's emulator, by default the destination's.
    """
    case = _moved(case, facts)
    sender = sender or facts
    common = _known(case.source, sender) & _known(case.destination, facts)
    # An mdev migrates to an mdev: what one side cannot have, the other has not either.
    mdev = not any(_lacks_opregion(case, each) for each in (sender, facts))
    return case._replace(
        source=_possible(case.source, sender, mdev),
        destination=_possible(case.destination, facts, mdev),
        machine=_machine(case, facts.machines.keys() & sender.machines.keys()),
        globals=tuple(entry for entry in case.globals if entry[1] in common),
    )


def _known(device: Device, facts: EmulatorFacts) -> set[str]:
    return set(facts.properties[device.driver])


def _lacks_opregion(case: Case, facts: EmulatorFacts) -> bool:
    """An mdev of Intel graphics has an OpRegion, which newer releases need and the shim lacks."""
    graphics = any(is_intel_vga(device.config) for device in (case.source, case.destination))
    return graphics and release(facts.version) >= (10, 1)


def _possible(device: Device, facts: EmulatorFacts, mdev: bool) -> Device:
    known = _known(device, facts)
    kept = tuple((name, value) for name, value in device.properties if name in known)
    return device._replace(mdev=device.mdev and mdev, properties=kept)


def _moved(case: Case, facts: EmulatorFacts) -> Case:
    """``case`` on the board of the emulator's architecture, unless that is the PC."""
    board = next((each for each in BOARDS if _emulates(facts.target, each)), BOARDS[0])
    if board.target == X86 or board_of(case.machine) is not None:
        return case
    # No board here but the PC has a conventional root bus.
    placement = "conventional" if case.placement == "i440fx" else case.placement
    return case._replace(machine=f"{board.name}-{case.machine}", placement=placement)


def _emulates(target: str, board: Board) -> bool:
    return f"/usr/bin/qemu-system-{target}" in board.emulators


def _machine(case: Case, machines: Set[str]) -> str:
    """The case's machine type, or the newest where an emulator is too old for it."""
    if case.machine_type in machines:
        return case.machine
    board = case.machine_type.rpartition("-")[0]
    names = [parse_machine_name(name) for name in machines if name.startswith(f"{board}-")]
    newest = max((name.version for name in names if not name.vendor), default=())
    version = ".".join(map(str, newest))
    if board_of(case.machine) is None:
        return version
    # The board of LoongArch has no versions.
    return f"{board}-{version}" if version else board

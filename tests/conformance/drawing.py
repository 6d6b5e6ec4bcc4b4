"""Cases by number: the same for a seed, whatever machine they are drawn on."""

from __future__ import annotations

from collections.abc import Callable

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


def adapt(case: Case, facts: EmulatorFacts) -> Case:
    """``case`` as this emulator can have it: with a machine type and properties that it knows."""
    case = _moved(case, facts)
    known = set(facts.properties[case.destination.driver])
    return case._replace(
        source=_possible(_known(case.source, known), facts),
        destination=_possible(_known(case.destination, known), facts),
        machine=_machine(case, facts),
        globals=tuple(entry for entry in case.globals if entry[1] in known),
    )


def _known(device: Device, known: set[str]) -> Device:
    kept = tuple((name, value) for name, value in device.properties if name in known)
    return device._replace(properties=kept)


def _possible(device: Device, facts: EmulatorFacts) -> Device:
    """An mdev of Intel graphics has an OpRegion, which newer releases need and the shim lacks."""
    lacking = is_intel_vga(device.config) and release(facts.version) >= (10, 1)
    return device._replace(mdev=device.mdev and not lacking)


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


def _machine(case: Case, facts: EmulatorFacts) -> str:
    """The case's machine type, or the newest where the emulator is too old for it."""
    if case.machine_type in facts.machines:
        return case.machine
    board = case.machine_type.rpartition("-")[0]
    names = [parse_machine_name(name) for name in facts.machines if name.startswith(f"{board}-")]
    newest = max((name.version for name in names if not name.vendor), default=())
    version = ".".join(map(str, newest))
    if board_of(case.machine) is None:
        return version
    # The board of LoongArch has no versions.
    return f"{board}-{version}" if version else board

"""Mask maps: each byte of a device flipped in turn, and what QEMU says to it.

For a byte of which no bit is compared, QEMU must load the flipped one; for any other it must refuse
with the line that has all three masks. So every bit of the predicted masks that matters is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import NamedTuple

from vfio_preflight.qemu.model.vfio_pci import VirtualConfig, compare, realise
from vfio_preflight.qemu.trial.trial import FAIL, PASS, Result
from vfio_preflight.qemu.trial.workbench import workbench

from .cases import PLACEMENTS, Case
from .drawing import adapt
from .engine import WORKERS, Engine
from .kit import build
from .layouts import LAYOUTS
from .loader import Loader, Section, devices_options, send, topology
from .prediction import environment

MACHINES = ("9.0", "10.0")
MAPPED = (
    *("nvidia_vgpu", "nvidia_geforce", "mlx5_vf", "intel_gpu", "virtio", "tg3", "integrated"),
    *("conventional", "virtual_function"),
)
# The pin is not compared, but one that the device had not when it was realised fells QEMU when it
# lowers the interrupt: none in place of one, or one above 4.
_PIN = 0x3D
_OTHER_PIN = {0: 0, 1: 2, 2: 1, 3: 4, 4: 3}
SEED = 7


class Wrong(NamedTuple):
    """A byte that QEMU treats differently than predicted."""

    layout: str
    placement: str
    machine: str
    predicted: Result
    real: Result


def check_maps(
    engine: Engine, names: Iterable[str] = MAPPED, thin: Callable[[int], bool] = lambda _: True
) -> tuple[int, list[Wrong]]:
    """Maps of the layouts at all placements and :data:`MACHINES`: bytes flipped, those wrong.

    ``thin`` says which of the bytes that are compared are to be flipped; of the others, all are.
    """
    # Placements that are one on the emulator's board are mapped once.
    cases = dict.fromkeys((name, _case(engine, name, *at)) for name, *at in _wanted(names))
    with ThreadPoolExecutor(WORKERS) as pool:
        maps = list(pool.map(lambda one: _map(engine, one[0], one[1], thin), cases))
    return sum(number for number, _ in maps), [wrong for _, some in maps for wrong in some]


def _wanted(names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    return product(names, PLACEMENTS, MACHINES)


def _case(engine: Engine, name: str, placement: str, machine: str) -> Case:
    device = build(LAYOUTS[name](SEED))
    return adapt(Case(device, device, machine, placement), engine.facts)


def _map(
    engine: Engine, name: str, case: Case, thin: Callable[[int], bool]
) -> tuple[int, list[Wrong]]:
    device, placement = case.destination, case.placement
    expected = realise(device.state, environment(case, device, engine.facts))
    assert isinstance(expected, VirtualConfig), expected
    path = topology(placement, 0)
    with workbench(engine.library) as bench:
        options = devices_options(bench, "", [case.setting(device)], [device.state])
        header, sections = send(bench, engine.receiver.executable, options, "", [path])
        with Loader(bench, engine.receiver.executable, options, "", header, engine.image) as loader:
            judged = list(_flips(loader, path, sections[0], expected, thin))
    wrong = [Wrong(name, placement, case.machine, *pair) for pair in judged if _differ(*pair)]
    return len(judged), wrong


def _differ(predicted: Result, real: Result) -> bool:
    return (predicted.outcome, predicted.line) != (real.outcome, real.line)


def _flips(
    loader: Loader,
    path: str,
    section: Section,
    expected: VirtualConfig,
    thin: Callable[[int], bool],
) -> Iterator[tuple[Result, Result]]:
    """Predicted and real results: first all the bytes at once that are not compared."""
    compared = expected.compared()
    free = [at for at, mask in enumerate(compared) if not mask]
    flips = [free, *([at] for at, mask in enumerate(compared) if mask and thin(at))]
    for offsets in flips:
        config = bytearray(expected.config)
        for at in offsets:
            config[at] = _OTHER_PIN[config[at]] if at == _PIN else config[at] ^ 0xFF
        mismatches = compare(bytes(config), expected)
        predicted = Result(FAIL, line=mismatches[0].line) if mismatches else Result(PASS)
        yield predicted, loader.load(path, section.with_config(bytes(config)))


def bytes_of(names: Iterable[str]) -> int:
    """The bytes in all the maps of these layouts."""
    sizes = sum(len(build(LAYOUTS[name](SEED)).config) for name in names)
    return sizes * len(PLACEMENTS) * len(MACHINES)

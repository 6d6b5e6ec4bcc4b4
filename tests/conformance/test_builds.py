"""Two builds of QEMU: one sends what the other loads, in either direction."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from vfio_preflight.pci.state import ConfigState
from vfio_preflight.qemu.model.versions import behaviour
from vfio_preflight.qemu.model.vfio_pci import VirtualConfig, realise
from vfio_preflight.qemu.trial.trial import trial
from vfio_preflight.qemu.trial.workbench import Limits

from .cases import Case, Device, case_from_json
from .drawing import adapt, draw_cases
from .engine import Engine, Judged, judge
from .kit import build
from .layouts import LAYOUTS
from .prediction import environment
from .report import described
from .test_agreement import REGRESSIONS

PAIRS = 80
SEED = 20260102
LARGE = Path(__file__).with_name("regressions") / "rebar-of-one-terabyte.json"
WIDTHS = (0, 3, 7)  # as VFIO has it: none, 32 and 64, all three


def _require_agreement(engine: Engine, cases: list[Case]) -> list[Judged]:
    judged = judge(engine, [adapt(case, engine.facts, engine.sender.facts) for case in cases])
    wrong = [described(engine, one) for one in judged if not one.agrees]
    assert not wrong, "\n".join(wrong)
    return judged


def test_drawn_pairs(pair: Engine) -> None:
    judged = _require_agreement(pair, draw_cases(PAIRS, SEED))
    assert len({one.real.outcome for one in judged}) >= 3


def test_regressions(pair: Engine) -> None:
    _require_agreement(pair, [case_from_json(path.read_text()) for path in REGRESSIONS])


def test_one_device_is_another_to_another_build(pair: Engine) -> None:
    """A BAR of one terabyte: a release that knows no such size hides the whole capability."""
    case = case_from_json(LARGE.read_text())
    (one,) = _require_agreement(pair, [case._replace(destination=case.source)])
    knows = behaviour(pair.facts.version).rebar_may_exceed_512_gb
    assert knows is not behaviour(pair.sender.facts.version).rebar_may_exceed_512_gb
    assert one.real.line.startswith("get_pci_config_device: Bad config data: i=0x")


def test_trial_by_the_destinations_binary_alone(pair: Engine) -> None:
    """It loads what the source's QEMU would send by the model, and says what that would get."""
    case = case_from_json(LARGE.read_text())
    state = case.source.state
    (real,) = judge(pair, [case._replace(destination=case.source)])
    sent = realise(state, environment(case, case.source, pair.sender.facts))
    assert isinstance(sent, VirtualConfig)
    found = trial(
        ConfigState(sent.config, state.bars, "stream", "as the source's QEMU sends it"),
        state,
        case.setting(case.source),
        pair.receiver.executable,
        deadline=time.monotonic() + 60,
        library=pair.library,
        limits=Limits(life=60),
    )
    assert (found.outcome, found.line) == (real.real.outcome, real.real.line) != ("pass", "")


def test_version_alone_says_as_much(pair: Engine) -> None:
    """The hook knows of the source's QEMU its version; what a machine type sets, by its own."""
    for drawn in draw_cases(PAIRS, SEED):
        case = adapt(drawn, pair.facts, pair.sender.facts)
        asked = environment(case, case.source, pair.sender.facts)
        by_version = environment(case, case.source, pair.facts)._replace(
            behaviour=behaviour(pair.sender.facts.version)
        )
        one, other = (realise(case.source.state, each) for each in (asked, by_version))
        if isinstance(one, VirtualConfig) and isinstance(other, VirtualConfig):
            assert one.config == other.config
        else:
            assert one == other


# --- the root port above the device ---------------------------------------------------------------


def _express(name: str) -> Device:
    return build(LAYOUTS[name](1))


def _roots(machine: str) -> list[Case]:
    """Every two roots, for a device that is looked at; and for some that leave the port alone."""
    card, other = _express("tg3"), _express("conventional")
    pairs = list(itertools.product(WIDTHS, WIDTHS))

    def case(device: Device, widths: tuple[int, int], place: str = "root-port") -> Case:
        source, destination = (device._replace(atomics=each) for each in widths)
        return Case(source, destination, machine, place)

    several = card._replace(properties=(("multifunction", "on"),))
    unlike = [case(each, (3, 7)) for each in (other, several, _express("integrated"))]
    elsewhere = [case(card, (3, 7), place) for place in ("root-complex", "conventional", "i440fx")]
    return [*(case(card, widths) for widths in pairs), *unlike, *elsewhere]


def _lines(judged: list[Judged]) -> dict[tuple[int, int], str]:
    found = {}
    for one in judged[: len(WIDTHS) ** 2]:
        key = (one.case.source.atomics or 0, one.case.destination.atomics or 0)
        found[key] = one.real.line.replace("get_pci_config_device: Bad config data: ", "")
    return found


@pytest.mark.parametrize("machine", ["9.0", "10.0"])
def test_atomic_ops(engine: Engine, machine: str) -> None:
    judged = _require_agreement(engine, _roots(machine))
    rest = " cmask: ff wmask: 0 w1cmask:0"
    assert _lines(judged) == {
        **{(same, same): "" for same in WIDTHS},
        (0, 3): f"i=0x78 read: 20 device: a0{rest}",
        (0, 7): f"i=0x78 read: 20 device: a0{rest}",
        (3, 0): f"i=0x78 read: a0 device: 20{rest}",
        (7, 0): f"i=0x78 read: a0 device: 20{rest}",
        (3, 7): f"i=0x79 read: 1 device: 3{rest}",
        (7, 3): f"i=0x79 read: 3 device: 1{rest}",
    }
    outcomes = [one.real.outcome for one in judged[len(WIDTHS) ** 2 :]]
    assert outcomes == ["pass", "pass", "fail", "pass", "pass", "pass"]


def test_atomic_ops_between_builds(pair: Engine) -> None:
    judged = _require_agreement(pair, _roots("9.0"))
    assert [one.real.outcome for one in judged].count("fail") == 7

"""The project and real QEMU agree: a small number of what ``python -m conformance`` does."""

from __future__ import annotations

from pathlib import Path

import pytest

from vfio_preflight.qemu.trial.trial import PASS

from .cases import Case, case_from_json, to_json
from .drawing import adapt, draw_cases
from .dumps import cases_of, real_states
from .engine import Engine, Judged, ask, judge
from .kit import build
from .layouts import LAYOUTS
from .maskmaps import bytes_of, check_maps
from .report import described

PAIRS = 120
SEED = 20260101
CHECKED_AGAIN = 12
REGRESSIONS = sorted(Path(__file__).with_name("regressions").glob("*.json"))


def _require_agreement(engine: Engine, cases: list[Case]) -> list[Judged]:
    judged = judge(engine, [adapt(case, engine.facts) for case in cases])
    wrong = [described(engine, one) for one in judged if not one.agrees]
    assert not wrong, "\n".join(wrong)
    return judged


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return draw_cases(PAIRS, SEED)


def test_drawn_pairs(engine: Engine, cases: list[Case]) -> None:
    judged = _require_agreement(engine, cases)
    assert len({one.real.outcome for one in judged}) >= 3


def test_loading_a_snapshot_is_loading_a_migration(own_engine: Engine, cases: list[Case]) -> None:
    """What the batches rest on: the loader's verdict is that of a real migration."""
    adapted = [adapt(case, own_engine.facts) for case in cases]
    for one in judge(own_engine, adapted)[:CHECKED_AGAIN]:
        alone = ask(own_engine, one.case)
        assert (alone.outcome, alone.line) == (one.real.outcome, one.real.line)


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_regression(engine: Engine, path: Path) -> None:
    _require_agreement(engine, [case_from_json(path.read_text())])


def test_real_devices(own_engine: Engine) -> None:
    states = list(real_states())
    _require_agreement(own_engine, [cases_of(state)[3] for _, state in states])
    _require_agreement(own_engine, [cases_of(state)[-1] for _, state in states])


def test_mask_maps(engine: Engine) -> None:
    """Every byte of the header and the standard capabilities; of extended ones, every 32nd."""
    names = ["nvidia_vgpu", "mlx5_vf", "virtio", "tg3", "integrated", "virtual_function"]
    flipped, wrong = check_maps(engine, names, lambda at: at < 0x100 or at % 32 == 3)
    assert not wrong, "\n".join(map(str, wrong[:10]))
    assert 0 < flipped < bytes_of(names)


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_case_survives_json(name: str) -> None:
    device = build(LAYOUTS[name](3))
    case = Case(device, device._replace(properties=(("rombar", "0"),)), "9.0", "root-port")
    assert case_from_json(to_json(case)) == case


def test_layouts_migrate_to_themselves(own_engine: Engine) -> None:
    devices = [build(LAYOUTS[name](1)) for name in sorted(LAYOUTS)]
    judged = _require_agreement(own_engine, [Case(d, d, "9.0", "root-port") for d in devices])
    assert {one.real.outcome for one in judged} == {PASS}

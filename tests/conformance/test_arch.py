"""Other architectures than the PC's: Arm in full, the others where their emulator is at hand."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from vfio_preflight.guest.viommu import Viommu
from vfio_preflight.qemu.model.boards import board_of
from vfio_preflight.qemu.trial.trial import FAIL, PASS

from .cases import Case
from .drawing import adapt, draw_cases
from .engine import Engine, judge, make_engine
from .kit import build
from .layouts import LAYOUTS
from .maskmaps import check_maps
from .report import described
from .test_blockers import ONE, VIOMMU, VIRTIO, Made, real

PAIRS = 100
FEWER = 30
SEED = 20261128
# Of one package with aarch64, and of one that is too large to be asked for.
OTHERS = [arch for arch in ("arm", "loongarch64") if os.path.exists(f"/usr/bin/qemu-system-{arch}")]
SMMU = ("-machine", "iommu=smmuv3")


def _agree(engine: Engine, cases: list[Case]) -> Counter[str]:
    """How often each outcome occurred, where model and QEMU agree on all of ``cases``."""
    judged = judge(engine, [adapt(case, engine.facts, engine.sender.facts) for case in cases])
    wrong = [described(engine, one) for one in judged if not one.agrees]
    assert not wrong, "\n".join(wrong)
    boards = {board_of(one.case.machine_type) for one in judged}
    assert {board.name for board in boards if board} == {"virt"}
    return Counter(one.real.outcome for one in judged)


def test_drawn_pairs(arm_engine: Engine) -> None:
    outcomes = _agree(arm_engine, draw_cases(PAIRS, SEED))
    assert outcomes[PASS] > PAIRS // 5 and outcomes[FAIL] > PAIRS // 5


def test_drawn_pairs_between_builds(arm_pair: Engine) -> None:
    outcomes = _agree(arm_pair, draw_cases(FEWER, SEED))
    assert outcomes[PASS] and outcomes[FAIL]


def test_migration_between_builds(arm_pair: Engine) -> None:
    """With trials of their own, as root ports are told AtomicOps; processors are not on trial."""
    device = build(LAYOUTS["tg3"](1))
    roots = [device._replace(atomics=widths) for widths in (3, 7)]
    pairs = [
        Case(roots[0], there, machine, "root-port")
        for machine in ("9.0", "10.0")
        for there in roots
    ]
    assert _agree(arm_pair, pairs) == {PASS: 2, FAIL: 2}


def test_mask_map(arm_engine: Engine) -> None:
    flipped, wrong = check_maps(arm_engine, ["nvidia_vgpu"], lambda at: at < 0x100 or at % 64 == 3)
    assert flipped > 0x100 and not wrong, "\n".join(map(str, wrong[:10]))


@pytest.mark.parametrize("arch", OTHERS)
def test_drawn_pairs_of_others(arch: str, library: str) -> None:
    engine = make_engine(f"/usr/bin/qemu-system-{arch}", library)
    assert len(_agree(engine, draw_cases(FEWER, SEED))) > 1


def test_integrated_graphics_are_emulated_on_pcs_alone(arm_engine: Engine) -> None:
    """hw/vfio/igd.c is not part of Arm's: stolen memory at another address is a mismatch."""
    device = build(LAYOUTS["intel_igd"](6))
    other = bytearray(device.config)
    other[0x5D] ^= 0xFF  # BDSM, which a PC's QEMU 10.0 lets the guest write
    places = ("root-complex", "root-port")
    pairs = [Case(device, device._replace(config=bytes(other)), "9.0", place) for place in places]
    assert set(_agree(arm_engine, pairs)) == {FAIL}


def test_viommu(arm_engine: Engine) -> None:
    assert real(arm_engine, Made(ONE, Viommu("virtio"), VIRTIO), "virt-9.0").endswith(VIOMMU)
    assert real(arm_engine, Made(ONE), "virt-9.0") == ""
    # With the other one no guest gets as far.
    said = real(arm_engine, Made(ONE, Viommu("smmuv3"), SMMU), "virt-9.0")
    assert "iommu MAP notifier" in said

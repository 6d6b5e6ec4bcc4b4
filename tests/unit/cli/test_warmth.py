"""When ``watch`` asks emulators; which and whether: tests/unit/gather/test_warming.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vfio_preflight.cli import warmth
from vfio_preflight.cli.warmth import EVERY, Warmth
from vfio_preflight.configuration import Configuration
from vfio_preflight.gather.warming import Warmed


def test_at_once_and_then_from_time_to_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look knows what the one before has seen; what is wrong is told."""
    timers: list[tuple[int, int]] = []
    looks: list[Warmed | None] = []
    told: list[str] = []
    answers = iter(
        [
            Warmed({"/qemu": (1,)}, ()),
            Warmed({"/qemu": (2,)}, ("emulator /qemu: no",)),
            Warmed({"/qemu": (2,)}, ()),
        ]
    )

    def warm(_: Configuration, before: Warmed | None) -> Warmed:
        looks.append(before)
        return next(answers)

    def add(milliseconds: int, *_: object) -> int:
        timers.append((7, milliseconds))
        return 7

    libvirt = SimpleNamespace(
        virEventAddTimeout=add, virEventUpdateTimeout=lambda *timer: timers.append(timer)
    )
    monkeypatch.setattr(warmth, "warm", warm)
    swept: list[object] = []
    monkeypatch.setattr(warmth, "sweep", lambda: swept.append(None))
    monkeypatch.setattr(warmth, "sweep_state", swept.append)
    begun: list[object] = []
    succession = SimpleNamespace(begin=lambda: begun.append(None))
    monkeypatch.setattr(warmth, "Succession", lambda *_arguments: succession)
    kept = Warmth(libvirt, "qemu:///system", Configuration(), told.append)
    assert looks == [] and timers == [(7, 1)]
    kept.look(7)
    kept.look(7)
    assert looks == [None, Warmed({"/qemu": (1,)}, ())]
    assert len(begun) == 2
    assert timers == [(7, 1), (7, EVERY), (7, EVERY)]
    assert swept == [None, Configuration()] * 2
    assert told == ["nothing was learned of an emulator: emulator /qemu: no"]
    # Nothing has changed.
    kept.look(7)
    assert len(begun) == 2

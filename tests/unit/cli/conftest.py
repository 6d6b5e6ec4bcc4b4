"""The command without libvirt, without this machine's configuration, emulators and devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.configs import make_config
from unit.makers import (
    PMC,
    VSC_BODY,
    differing,
    make_emulator,
    make_inventory,
    make_state,
)
from vfio_preflight.cli import check, compare, state
from vfio_preflight.configuration import Configuration
from vfio_preflight.gather import here as collect
from vfio_preflight.host import inventory
from vfio_preflight.pci.formats import to_json


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    """No configuration, emulator or state of this machine: all is made up."""
    made_up = Configuration(states=str(tmp_path / "states"), cache=str(tmp_path / "cache"))
    for module in (check, compare, state):
        monkeypatch.setattr(module, "load", lambda: made_up)
    monkeypatch.setattr(collect, "emulator_facts", lambda *_args, **_options: make_emulator())
    monkeypatch.setattr(inventory, "read_inventory", lambda: make_inventory())
    return made_up


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Files of config states: the usual one, and others that differ from it."""
    states = {
        "usual": make_state(),
        "vsc": differing(VSC_BODY),
        "pm": differing(PMC),
        "large": make_state(make_config(4096)),
    }
    for name, made in states.items():
        (tmp_path / f"{name}.json").write_text(to_json(made))
    return {name: str(tmp_path / f"{name}.json") for name in states}

"""The command without libvirt, without this machine's configuration, emulators and devices."""

from __future__ import annotations

import compileall
import shutil
from pathlib import Path

import pytest

from lab.configs import make_config
from unit.cli.installed import CURRENT
from unit.makers import (
    PMC,
    VSC_BODY,
    differing,
    make_emulator,
    make_inventory,
    make_state,
)
from vfio_preflight.cli import check, compare, state
from vfio_preflight.cli.installation import payload
from vfio_preflight.cli.main import main
from vfio_preflight.configuration import Configuration
from vfio_preflight.gather import here as collect
from vfio_preflight.host import inventory
from vfio_preflight.pci.formats import to_json
from vfio_preflight.qemu.trial import shim


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


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh installation, compiled; tests that change it take a copy."""
    root = tmp_path_factory.mktemp("staged")
    assert main(["install", "--root", str(root)]) == 0
    return root


@pytest.fixture
def quick(staged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed is not compiled again."""
    made = (staged / CURRENT / payload.SHIM_NAME).read_bytes()
    monkeypatch.setattr(compileall, "compile_dir", lambda *_args, **_options: True)
    monkeypatch.setattr(shim, "build", lambda target: Path(target).write_bytes(made))


@pytest.fixture
def root(staged: Path, tmp_path: Path, quick: None) -> Path:
    """An installation to work on."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(staged, tmp_path / "root", symlinks=True, ignore=ignored)
    return tmp_path / "root"


@pytest.fixture
def empty(tmp_path: Path, quick: None) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"

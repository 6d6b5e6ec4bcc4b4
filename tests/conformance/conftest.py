"""The emulators that the project is compared with: the machine's own, and the newest to be had."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.other_qemu import NEWEST, other_qemu
from vfio_preflight.qemu.trial import shim

from .engine import Engine, make_engine

X86, AARCH64 = "x86_64", "aarch64"
MACHINES_OWN = f"/usr/bin/qemu-system-{X86}"


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The compiled shim."""
    return shim.build(str(tmp_path_factory.mktemp("shim") / "fakevfio.so"))


def own_emulator(arch: str) -> str:
    """The machine's own emulator; without it the test fails in CI, and is skipped elsewhere."""
    path = f"/usr/bin/qemu-system-{arch}"
    if os.path.exists(path):
        return path
    why = f"{path} is missing: tests/setup-debian installs it"
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


_EMULATORS: dict[str, Callable[[str], str | Path]] = {
    "machine's own": own_emulator,
    "newest": lambda arch: other_qemu(NEWEST, arch),
}


@pytest.fixture(scope="session", params=list(_EMULATORS))
def engine(request: pytest.FixtureRequest, library: str) -> Engine:
    """Each of the emulators."""
    return make_engine(str(_EMULATORS[request.param](X86)), library)


@pytest.fixture(scope="session", params=list(_EMULATORS))
def arm_engine(request: pytest.FixtureRequest, library: str) -> Engine:
    """Each of the emulators of aarch64."""
    return make_engine(str(_EMULATORS[request.param](AARCH64)), library)


_WAYS = ["own to newest", "newest to own"]


@pytest.fixture(scope="session", params=_WAYS)
def pair(request: pytest.FixtureRequest, library: str) -> Engine:
    """Both emulators, in either direction."""
    return _pair(X86, request.param, library)


@pytest.fixture(scope="session", params=_WAYS)
def arm_pair(request: pytest.FixtureRequest, library: str) -> Engine:
    """Both emulators of aarch64, in either direction."""
    return _pair(AARCH64, request.param, library)


def _pair(arch: str, way: str, library: str) -> Engine:
    builds = [str(own_emulator(arch)), str(other_qemu(NEWEST, arch))]
    sender, receiver = builds if way == _WAYS[0] else reversed(builds)
    return make_engine(receiver, library, sender)


@pytest.fixture(scope="session")
def own_engine(library: str) -> Engine:
    """The machine's own emulator."""
    return make_engine(own_emulator(X86), library)

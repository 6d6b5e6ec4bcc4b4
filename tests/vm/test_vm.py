"""Scenarios in the virtual machine: real kernels, VFIO, mediated devices, libvirt and QEMU.

``make test`` takes the release's own kernel; ``make vm-test`` those of VM_KERNELS, all that
``tests/vm/kernel`` knows.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .run import run_in_vm

HERE = Path(__file__).parent
KERNELS = os.environ.get("VM_KERNELS", "release").split()
STARTS = int(os.environ.get("VM_STARTS", "10"))


@pytest.fixture(scope="session", params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> Path:
    """A kernel's directory, with the module for it."""
    path = _output([str(HERE / "kernel"), request.param])
    _output([str(HERE / "build-module"), path])
    return Path(path)


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run(kernel: Path, script: str, *arguments: str, timeout: float) -> None:
    """Run a script there, with this interpreter."""
    path = str(HERE / "scripts" / script)
    result = run_in_vm(kernel, Path(sys.executable), path, *arguments, timeout=timeout)
    print(result.output)
    failed = [line for line in result.output.splitlines() if line.startswith("CHECK FAIL")]
    assert (result.status, failed) == (0, [])


def test_the_two_gates(kernel: Path) -> None:
    run(kernel, "gates.py", timeout=900)


def test_every_cold_start_is_captured(kernel: Path) -> None:
    run(kernel, "starts.py", str(STARTS), timeout=300 + 60 * STARTS)


def test_evidence_is_what_qemu_sends(kernel: Path) -> None:
    run(kernel, "evidence.py", timeout=900)

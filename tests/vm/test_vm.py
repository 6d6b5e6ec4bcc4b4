"""Scenarios in the virtual machine: real kernels, VFIO, mediated devices, libvirt and QEMU.

``make test`` takes some of them, with the release's own kernel; ``make vm-test`` takes all, with
all kernels that ``tests/vm/kernel`` knows (VM_KERNELS), and AppArmor's in full (VM_APPARMOR). The
time limits are for a machine that is busy with other tests besides.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.configs import make_config
from vfio_preflight.pci.atomics import PCI_EXP_DEVCAP2, devcap2_bits
from vfio_preflight.pci.state import Bar, ConfigState
from vfio_preflight.qemu.trial import shim

from .run import run_in_vm

HERE = Path(__file__).parent
KERNELS = os.environ.get("VM_KERNELS", "release").split()
APPARMOR = os.environ.get("VM_APPARMOR", "").split()
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


def run(kernel: Path, script: str, *arguments: str, timeout: float, **options: Any) -> None:  # noqa: ANN401 - run_in_vm's
    """Run a script there, with this interpreter."""
    path = str(HERE / "scripts" / script)
    result = run_in_vm(kernel, Path(sys.executable), path, *arguments, timeout=timeout, **options)
    print(result.output)
    failed = [line for line in result.output.splitlines() if line.startswith("CHECK FAIL")]
    assert (result.status, failed) == (0, [])


def test_the_two_gates(kernel: Path) -> None:
    run(kernel, "gates.py", timeout=1800)


def test_apparmor(kernel: Path) -> None:
    """In ``make test`` each profile sees a part of the way, in ``make vm-test`` all of it."""
    run(kernel, "apparmor.py", *APPARMOR, timeout=1800)


def test_selinux(kernel: Path, tmp_path: Path) -> None:
    """With the machine's own policy, and ours in it; nothing of the machine's is changed."""
    for path in ("/usr/share/selinux/devel/Makefile", "/etc/selinux/default/policy"):
        if not Path(path).exists():
            pytest.skip(f"no {path}: apt-get install selinux-policy-dev selinux-policy-default")
    shared = tmp_path / "shared"
    shared.mkdir()
    _output([str(HERE / "selinux-policy"), str(shared)])
    arguments = "security=selinux selinux=1 enforcing=1"
    run(kernel, "selinux.py", timeout=1800, shared=shared, kernel_arguments=arguments)


def test_watch_works_as_its_unit_has_it(kernel: Path) -> None:
    run(kernel, "service.py", timeout=1200)


def test_every_cold_start_is_captured(kernel: Path) -> None:
    run(kernel, "starts.py", str(STARTS), timeout=600 + 120 * STARTS)


# The widths that a device completes, its root port, and those that are left.
ATOMICS = ((0b111, 0b011, 0b011), (0b001, 0b111, 0b001), (0b111, 0, 0))


def test_atomic_ops_are_what_the_kernel_says(kernel: Path, tmp_path: Path) -> None:
    """Root ports that complete AtomicOps, and devices that do, are the shim's."""
    devices, arguments = [], []
    for number, (own, root, both) in enumerate(ATOMICS, 1):
        config = bytearray(make_config())
        at = 0x78 + PCI_EXP_DEVCAP2
        config[at : at + 4] = devcap2_bits(own).to_bytes(4, "little")
        bars = (Bar(0, 0x4000, "mem32"),)
        state = ConfigState(bytes(config), bars, "file", "made up", root)
        path = shim.describe(str(tmp_path), f"0000:0{number}:00.0", state, number)
        port = f"pcie-root-port,id=port{number},chassis={number},slot={number}"
        devices += [port, f"vfio-pci,bus=port{number},sysfsdev={path}"]
        arguments.append(f"0000:0{number}:00.0={both}")
    environment = {
        "LD_PRELOAD": shim.build(str(tmp_path / "fakevfio.so")),
        "FAKEVFIO_DIR": str(tmp_path),
    }
    run(kernel, "atomics.py", *arguments, timeout=900, devices=devices, environment=environment)


def test_evidence_is_what_qemu_sends(kernel: Path) -> None:
    run(kernel, "evidence.py", timeout=1800)

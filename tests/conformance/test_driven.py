"""A guest whose Linux has all its devices in use, migrated between two builds of QEMU.

A twin never ran: what drivers make of a device's state is not in it. With DRIVEN=all (make devices)
both ways.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import queues
from lab.other_qemu import NEWEST, other_qemu
from vm.run import kernel_image

from .conftest import X86, own_emulator
from .emulated.driven import DISKS, DRIVERS, LINUX, arguments, make_initramfs
from .emulated.hop import PASS, REFUSED, hop
from .emulated.twin import predict

KERNEL = Path(__file__).parents[1] / "vm/kernel"
WAYS = ("newest to own", "own to newest")[: 2 if os.environ.get("DRIVEN") == "all" else 1]


@pytest.fixture(scope="module")
def kernel() -> Path:
    found = subprocess.run([KERNEL, "release"], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        pytest.skip(f"lacks a kernel: {found.stderr}")
    return Path(found.stdout.strip())


@pytest.fixture
def directory() -> Iterator[Path]:
    """One where the emulators' user reads and writes."""
    path = Path(tempfile.mkdtemp(prefix="driven-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("way", WAYS)
def test_devices_in_use(way: str, kernel: Path, directory: Path) -> None:
    image, initramfs, log = (directory / name for name in ("kernel", "initramfs", "log"))
    # That user does not get into a checkout below /root.
    shutil.copy(kernel_image(kernel), image)
    initramfs.write_bytes(make_initramfs(kernel))
    paths = [own_emulator(X86), str(other_qemu(NEWEST))]
    source, destination = paths if way == "own to newest" else reversed(paths)
    guest = tuple(arguments(image, initramfs, "pc-q35-9.0"))
    expected = REFUSED if queues.are_refused(source, destination) else PASS

    told = predict(source, destination, guest)
    assert told and told.outcome == expected
    assert hop(source, destination, guest, LINUX._replace(log=str(log))).outcome == expected
    printed = log.read_text()
    assert "READY" in printed
    assert [name for name in DRIVERS if f"driver {name}" not in printed] == []
    assert printed.count("disk ") >= DISKS

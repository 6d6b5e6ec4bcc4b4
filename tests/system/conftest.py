"""Two hosts with the hook installed as an operator would."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import FakeDevice, Lab

from .pair import CHECKOUT, CONFIG, MDEV, MDEV_TYPE, NETWORK_VF, PCI, SECOND_VF, VF, Pair

LEFTOVERS = "vfio-preflight-*"
IN_USE = 120  # seconds; no test's hook, trial or twin takes as long
LEARNED = ("/var/lib/vfio-preflight/history", "/run/vfio-preflight/expected")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without its components a system test is skipped by a developer's leave, and fails in CI."""
    missing = _missing()
    if not missing:
        return
    if os.environ.get("CI") == "true":
        raise pytest.UsageError(f"system tests lack: {missing}")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=f"lacks {missing}"))


def _missing() -> str:
    emulators = ("qemu-system-x86_64", "qemu-system-aarch64")
    programs = ("libvirtd", "virsh", *emulators, "cc", "sudo", "unshare", "nsenter")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    absent = [name for name in programs if shutil.which(name, path=path) is None]
    if os.geteuid() != 0:
        absent.append("root's rights")
    return ", ".join(absent)


@pytest.fixture(scope="session", autouse=True)
def no_leftovers() -> Iterator[None]:
    """Nothing in /tmp of hooks that were killed with the installer that tried them.

    It calls them with libvirt's environment, so that no TMPDIR of a test's reaches them.
    """
    place = Path(tempfile.gettempdir())
    before = {*place.glob(LEFTOVERS)}
    yield
    for path in {*place.glob(LEFTOVERS)} - before:
        # What is newer may be in use, by a suite that runs beside.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > IN_USE:
                shutil.rmtree(path)


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with Lab(tmp_path_factory.mktemp("pair")) as lab:
        pair = Pair(lab)
        for host in lab.a, lab.b:
            host.add_device(FakeDevice(VF, "vf", CONFIG))
            host.add_device(FakeDevice(NETWORK_VF, "vf", CONFIG))
            host.add_device(FakeDevice(SECOND_VF, "vf", CONFIG, driver="mlx5_vfio_pci"))
            host.add_device(FakeDevice(PCI, "pci", CONFIG))
            host.add_device(FakeDevice(MDEV, "mdev", CONFIG, mdev_type=MDEV_TYPE))
            pair.install(host)
        yield pair


@pytest.fixture
def pair(hosts: Pair) -> Iterator[Pair]:
    """Both hosts as freshly installed: equal devices, no guests, the shipped configuration, and
    nothing learned from guests of other tests."""
    shipped = (CHECKOUT / "etc/vfio-preflight.conf").read_text()
    for host in hosts.a, hosts.b:
        for learned in LEARNED:
            shutil.rmtree(host.path(learned), ignore_errors=True)
        hosts.configure(shipped, host)
        for name in (VF, NETWORK_VF, SECOND_VF, PCI, MDEV):
            hosts.present(host, name, CONFIG)
            host.set_atomics(name, 0)
    yield hosts
    for host in hosts.a, hosts.b:
        for guest in host.virsh("list", "--all", "--name").stdout.split():
            host.virsh("destroy", guest)
            host.virsh("undefine", guest, "--managed-save")

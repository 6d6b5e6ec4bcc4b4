"""The Lab itself: real libvirt and QEMU see its fake devices as they see real ones.

None of the project's judgement is asked here; of its code only fakevfio.c runs.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import (
    FakeDevice,
    Lab,
    guest_xml,
    hostdev_mdev,
    hostdev_pci,
    interface_hostdev,
    make_config,
    vfio_commandline,
)
from lab.configs import VSC_BODY, patched

VF = "0000:06:00.4"
NETWORK_VF = "0000:06:00.5"
VENDOR_VF = "0000:06:00.6"
PCI = "0000:07:00.0"
MDEV = "c0ffee00-1111-4222-8333-444455556666"

CONFIG = make_config()
VSC_OFFSET = 0x63  # first byte of the body
OTHER_CONFIG = patched(CONFIG, VSC_OFFSET, VSC_BODY[0] ^ 0x50)
BAD_CONFIG_DATA = (
    "get_pci_config_device: Bad config data: i=0x63 read: 1 device: 51 cmask: ff wmask: 0 w1cmask:0"
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        for host in lab.a, lab.b:
            host.add_device(FakeDevice(VF, "vf", make_config(4096)))
            host.add_device(FakeDevice(NETWORK_VF, "vf", CONFIG))
            host.add_device(FakeDevice(VENDOR_VF, "vf", CONFIG, driver="mlx5_vfio_pci"))
            host.add_device(FakeDevice(PCI, "pci", CONFIG))
            host.add_device(FakeDevice(MDEV, "mdev", CONFIG))
        yield lab


@pytest.fixture(autouse=True)
def clean(lab: Lab) -> Iterator[None]:
    """Every test begins with the same configs and without guests."""
    yield
    for host in lab.a, lab.b:
        for guest in host.virsh("list", "--all", "--name").stdout.split():
            host.virsh("destroy", guest)
            host.virsh("undefine", guest, "--managed-save")
        host.set_config(PCI, CONFIG)
        host.set_config(MDEV, CONFIG)


@pytest.mark.parametrize("machine", ["pc-q35-9.0", "pc-q35-10.0", "pc-i440fx-9.0"])
def test_every_kind_of_device_migrates(lab: Lab, machine: str) -> None:
    devices = [hostdev_pci(VF), hostdev_pci(VENDOR_VF), hostdev_mdev(MDEV)]
    bus = "pcie.0" if "q35" in machine else "pci.0"
    guest = guest_xml(
        "g1",
        machine,
        [*devices, interface_hostdev(NETWORK_VF)],
        commandline=vfio_commandline(PCI, bus),
    )
    lab.a.start_guest(guest)

    result = lab.migrate("g1", lab.a, lab.b)

    assert result.returncode == 0, result.stderr + lab.b.guest_log("g1")
    assert (lab.a.state("g1"), lab.b.state("g1")) == ("shut off", "running")


def test_qemu_is_not_root(lab: Lab) -> None:
    lab.a.start_guest(guest_xml("g2", devices=[hostdev_mdev(MDEV)]))
    assert lab.a.qemu_proc("g2").stat().st_uid == pwd.getpwnam("libvirt-qemu").pw_uid
    assert "guest=g2,debug-threads=on" in lab.a.qemu_arguments("g2")


@pytest.mark.parametrize("device", [hostdev_mdev(MDEV), hostdev_pci(PCI)])
def test_old_machine_type_refuses_other_vsc(lab: Lab, device: str) -> None:
    lab.b.set_config(MDEV, OTHER_CONFIG)
    lab.b.set_config(PCI, OTHER_CONFIG)
    lab.a.start_guest(guest_xml("g3", "pc-q35-9.0", [device]))

    result = lab.migrate("g3", lab.a, lab.b)

    assert result.returncode != 0
    assert BAD_CONFIG_DATA in lab.b.guest_log("g3")
    assert (lab.a.state("g3"), lab.b.state("g3")) == ("running", "")


def test_new_machine_type_skips_vsc(lab: Lab) -> None:
    lab.b.set_config(MDEV, OTHER_CONFIG)
    lab.a.start_guest(guest_xml("g4", "pc-q35-9.1", [hostdev_mdev(MDEV)]))
    assert lab.migrate("g4", lab.a, lab.b).returncode == 0


def test_stream_has_bytes_of_first_host(lab: Lab) -> None:
    """A→B→A, the device on A changed meanwhile: QEMU on B sends what came from A."""
    lab.a.start_guest(guest_xml("g5", "pc-q35-9.0", [hostdev_mdev(MDEV)]))
    lab.a.set_config(MDEV, OTHER_CONFIG)
    assert lab.migrate("g5", lab.a, lab.b).returncode == 0

    assert lab.migrate("g5", lab.b, lab.a).returncode != 0
    assert BAD_CONFIG_DATA in lab.a.guest_log("g5")


def test_managed_save(lab: Lab) -> None:
    lab.a.start_guest(guest_xml("g6", devices=[hostdev_mdev(MDEV), hostdev_pci(VF)]))
    assert lab.a.virsh("managedsave", "g6").returncode == 0
    assert (lab.a.var_lib / "qemu/save/g6.save").exists()
    assert lab.a.virsh("start", "g6").returncode == 0
    assert lab.a.state("g6") == "running"


def test_third_host(lab: Lab) -> None:
    host = lab.add_host("c")
    host.add_device(FakeDevice(MDEV, "mdev", CONFIG))
    lab.a.start_guest(guest_xml("g7", devices=[hostdev_mdev(MDEV)]))
    assert lab.migrate("g7", lab.a, lab.b).returncode == 0
    assert lab.migrate("g7", lab.b, host).returncode == 0
    assert host.state("g7") == "running"


def test_first_hook_after_reload(lab: Lab) -> None:
    hook = lab.a.hooks / "qemu"
    hook.write_text('#!/bin/sh\necho "$1 $2" >>/var/log/libvirt/hook.log\n')
    hook.chmod(0o755)
    lab.a.reload()
    lab.a.start_guest(guest_xml("g8"))
    hook.unlink()
    assert "g8 prepare\n" in (lab.a.log / "hook.log").read_text()


def test_host_keeps_what_is_written_in_it(lab: Lab) -> None:
    for path in ("/etc/lab-test", "/usr/bin/lab-test", "/var/lib/lab-test", "/run/lab-test"):
        lab.a.run(["touch", path]).check_returncode()
        assert lab.a.path(path).exists()
        assert not lab.b.path(path).exists()
        assert not Path(path).exists()


def test_libvirtd_restart_keeps_guest(lab: Lab) -> None:
    lab.a.start_guest(guest_xml("g9", devices=[hostdev_mdev(MDEV)]))
    lab.a.stop_libvirtd()
    lab.a.start_libvirtd()
    assert lab.a.state("g9") == "running"


# --- clean-up ----------------------------------------------------------------------------------

_RUNNER = """
import signal, sys, time
# Whoever runs the tests may ignore it, as a shell in the background does.
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from lab import FakeDevice, Lab, guest_xml, hostdev_mdev, make_config
with Lab(Path(sys.argv[1])) as lab:
    lab.a.add_device(FakeDevice("{mdev}", "mdev", make_config()))
    lab.a.start_guest(guest_xml("g1", devices=[hostdev_mdev("{mdev}")]))
    print(lab.directory, flush=True)
    time.sleep(60)
"""


def _mount_namespaces(text: str) -> set[str]:
    """The mount namespaces of processes that mention ``text``."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if text in (process / "cmdline").read_text():
                found.add(os.readlink(process / "ns/mnt"))
    return found


def _processes_in(namespaces: set[str]) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(process / "ns/mnt") in namespaces:
                found.append((process / "comm").read_text().strip())
    return found


def _wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_runner_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    tests = Path(__file__).parents[1]
    runner = subprocess.Popen(
        [sys.executable, "-c", _RUNNER.format(mdev=MDEV), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(tests)},
        text=True,
    )
    assert runner.stdout is not None
    directory = runner.stdout.readline().strip()
    runner.stdout.close()
    namespaces = _mount_namespaces(directory) - {os.readlink("/proc/self/ns/mnt")}
    assert "qemu-system-x86" in _processes_in(namespaces)

    runner.send_signal(number)
    runner.wait(timeout=20)

    _wait_until(lambda: not _processes_in(namespaces))
    _wait_until(lambda: not Path(directory).exists())
    assert directory not in Path("/proc/self/mounts").read_text()


def test_command_in_host_that_takes_too_long_is_killed(lab: Lab) -> None:
    command = ["/bin/sh", "-c", "echo $$ >/run/pid; exec sleep 50"]
    with pytest.raises(subprocess.TimeoutExpired):
        lab.a.run(command, timeout=0.5)
    process = lab.a.path("/proc") / lab.a.path("/run/pid").read_text().strip()
    _wait_until(lambda: not process.exists())

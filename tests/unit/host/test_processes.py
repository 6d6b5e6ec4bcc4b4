"""A guest's QEMU among made-up processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from vfio_preflight.host.processes import find_process, is_incoming

UUID = "11111111-2222-3333-4444-555555555555"
JSON = '{"driver":"vfio-pci","host":"0000:06:00.4","id":"hostdev0","bus":"pci.1","addr":"0x0"}'
MDEV = "c0ffee00-1111-4222-8333-444455556666"
OPTIONS = f"vfio-pci-nohotplug,id=hostdev1,sysfsdev=/sys/bus/mdev/devices/{MDEV},bus=pci.2"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc/sys/kernel/random").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/random/boot_id").write_text("b007\n")
    (tmp_path / "proc/uptime").write_text("1000.50 3000.00\n")
    (tmp_path / "run/libvirt/qemu").mkdir(parents=True)
    return tmp_path


def make_process(root: Path, pid: int, *arguments: str, uuid: str = UUID) -> None:
    home = root / f"proc/{pid}"
    home.mkdir()
    command = ("/usr/bin/qemu-system-x86_64", "-name", "guest=g1", "-uuid", uuid, *arguments)
    (home / "cmdline").write_bytes(b"".join(a.encode() + b"\0" for a in command))
    fields = ["S", *"0" * 18, "50000", "0"]
    (home / "stat").write_text(f"{pid} (qemu (x) y) {' '.join(fields)}\n")
    (home / "exe").symlink_to("/usr/bin/qemu-system-x86_64")


def test_process_by_pid_file(root: Path) -> None:
    make_process(root, 77, "-device", JSON, "-device", OPTIONS, "-device", "virtio-net,id=net0")
    (root / "run/libvirt/qemu/g1.pid").write_text("77\n")
    process = find_process("g1", UUID, str(root))
    assert process is not None
    assert process.pid == 77
    assert process.instance == "b007:77:50000"
    assert process.age == pytest.approx(500.5)
    assert process.executable == "/usr/bin/qemu-system-x86_64"
    assert not process.incoming
    assert process.devices == {"hostdev0": "0000:06:00.4", "hostdev1": MDEV}


@pytest.mark.parametrize("option", ["-incoming", "-loadvm"])
def test_process_that_loads_a_state(root: Path, option: str) -> None:
    make_process(root, 77, option, "defer")
    process = find_process("g1", UUID, str(root))
    assert process is not None
    assert process.incoming


def test_pid_file_of_another_process(root: Path) -> None:
    make_process(root, 77, uuid="another")
    make_process(root, 78)
    (root / "run/libvirt/qemu/g1.pid").write_text("77\n")
    process = find_process("g1", UUID, str(root))
    assert process is not None
    assert process.pid == 78


@pytest.mark.parametrize("content", [b"", b"x\n", b"-1\n", b"99\n", b"\xff"])
def test_pid_file_that_leads_nowhere(root: Path, content: bytes) -> None:
    (root / "run/libvirt/qemu/g1.pid").write_bytes(content)
    assert find_process("g1", UUID, str(root)) is None


def test_name_that_is_a_path(root: Path) -> None:
    (root / "run/libvirt/g1.pid").write_text("77\n")
    assert find_process("../g1", UUID, str(root)) is None


def test_binary_that_was_replaced(root: Path) -> None:
    make_process(root, 77)
    (root / "proc/77/exe").unlink()
    (root / "proc/77/exe").symlink_to("/usr/bin/qemu-system-x86_64 (deleted)")
    process = find_process("g1", UUID, str(root))
    assert process is not None
    assert process.executable == ""


@pytest.mark.parametrize(("argument", "incoming"), [("-incoming", True), ("-S", False)])
def test_whether_a_guest_comes_in(root: Path, argument: str, incoming: bool) -> None:
    make_process(root, 77, argument, "defer")
    assert is_incoming("g1", str(root)) is None
    (root / "run/libvirt/qemu/g1.pid").write_text("77\n")
    assert is_incoming("g1", str(root)) is incoming
    (root / "run/libvirt/qemu/g1.pid").write_text("78\n")
    assert is_incoming("g1", str(root)) is None

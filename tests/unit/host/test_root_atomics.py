"""AtomicOps to the root, as the kernel works them out, by what sysfs shows."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from vfio_preflight.host.atomics import read_atomics

ENDPOINT, LEGACY, ROOT_PORT, UPSTREAM, DOWNSTREAM, INTEGRATED = 0, 1, 4, 5, 6, 9
ALL, ROUTE, BLOCK = 0x380, 0x40, 0x80
PORT, UP, DOWN, NAME = "0000:00:01.0", "0000:01:00.0", "0000:02:00.0", "0000:03:00.0"


def express(kind: int, devcap2: int, devctl2: int = 0, version: int = 2) -> bytes:
    config = bytearray(256)
    config[0x06], config[0x34], config[0x40] = 0x10, 0x40, 0x10
    struct.pack_into("<H", config, 0x42, kind << 4 | version)
    struct.pack_into("<IH", config, 0x40 + 0x24, devcap2, devctl2)
    return bytes(config)


class Host:
    """Functions of this host, each in the directory of the bridge above it."""

    def __init__(self, root: Path, kernel: str = "6.12.95+deb13-amd64") -> None:
        self.root = root
        self.above = root / "sys/devices/pci0000:00"
        (root / "sys/bus/pci/devices").mkdir(parents=True)
        release = root / "proc/sys/kernel/osrelease"
        release.parent.mkdir(parents=True)
        release.write_text(f"{kernel}\n")

    def add(self, name: str, config: bytes, *, beside: bool = False) -> Path:
        directory = self.above / name
        directory.mkdir(parents=True)
        (directory / "config").write_bytes(config)
        (self.root / "sys/bus/pci/devices" / name).symlink_to(directory)
        if not beside:
            self.above = directory
        return directory

    def read(self, name: str = NAME) -> int | None:
        return read_atomics(name, str(self.root))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize(
    ("device", "port", "widths"),
    [(ALL, ALL, 7), (ALL, 0x180, 3), (0x80, ALL, 1), (0, ALL, 0), (ALL, 0, 0), (0x280, 0x180, 1)],
)
def test_what_function_and_root_port_have_in_common(
    device: int, port: int, widths: int, host: Host
) -> None:
    host.add(PORT, express(ROOT_PORT, port))
    host.add(NAME, express(ENDPOINT, device))
    assert host.read() == widths


@pytest.mark.parametrize(
    ("upstream", "downstream", "widths"),
    [
        ((ROUTE, 0), (ROUTE, 0), 7),
        ((0, 0), (ROUTE, 0), 0),
        ((ROUTE, 0), (0, 0), 0),
        ((ROUTE, BLOCK), (ROUTE, 0), 0),
        ((ROUTE, 0), (ROUTE, BLOCK), 7),  # the kernel looks at upstream ports alone
    ],
)
def test_switches(
    upstream: tuple[int, int], downstream: tuple[int, int], widths: int, host: Host
) -> None:
    host.add(PORT, express(ROOT_PORT, ALL))
    host.add(UP, express(UPSTREAM, *upstream))
    host.add(DOWN, express(DOWNSTREAM, *downstream))
    host.add(NAME, express(ENDPOINT, ALL))
    assert host.read() == widths


def test_vf_has_its_physical_functions(host: Host) -> None:
    host.add(PORT, express(ROOT_PORT, ALL))
    physical = host.add(NAME, express(ENDPOINT, 0x180), beside=True)
    virtual = host.add("0000:03:00.4", express(ENDPOINT, 0), beside=True)
    (virtual / "physfn").symlink_to(physical)
    assert host.read("0000:03:00.4") == 3


@pytest.mark.parametrize("kind", [LEGACY, INTEGRATED])
def test_other_endpoints(kind: int, host: Host) -> None:
    host.add(PORT, express(ROOT_PORT, ALL))
    host.add(NAME, express(kind, ALL))
    assert host.read() == 7


def test_without_registers(host: Host) -> None:
    """Version 1 of the capability ends before them; conventional PCI has none."""
    host.add(PORT, express(ROOT_PORT, ALL))
    host.add(NAME, express(ENDPOINT, ALL, version=1), beside=True)
    host.add(UP, bytes(256), beside=True)
    assert (host.read(), host.read(UP)) == (0, 0)


def test_without_root_port(host: Host) -> None:
    """Kernels have answered either way."""
    host.add(NAME, express(INTEGRATED, ALL), beside=True)
    host.add(UP, express(INTEGRATED, 0), beside=True)
    assert (host.read(), host.read(UP)) == (None, 0)


@pytest.mark.parametrize("kernel", ["6.1.176-1", "5.14.0-427.el9.x86_64", "6.4.0", "new"])
def test_kernel_that_may_not_say_it(kernel: str, tmp_path: Path) -> None:
    host = Host(tmp_path, kernel)
    host.add(PORT, express(ROOT_PORT, ALL))
    host.add(NAME, express(ENDPOINT, ALL))
    assert host.read() is None


def test_configuration_space_that_cannot_be_read(host: Host) -> None:
    host.add(PORT, express(ROOT_PORT, ALL)[:64])
    host.add(NAME, express(ENDPOINT, ALL))
    assert host.read() is None
    assert host.read("0000:09:00.0") is None

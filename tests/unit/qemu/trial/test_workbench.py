"""The machine that a trial starts, and the shim it needs."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from lab.configs import make_config
from vfio_preflight.osutil.leftovers import AGE
from vfio_preflight.pci.state import Bar, ConfigState
from vfio_preflight.qemu.model.vfio_pci import Environment
from vfio_preflight.qemu.trial import shim
from vfio_preflight.qemu.trial.shim import ShimError
from vfio_preflight.qemu.trial.workbench import Setting, arguments

STATE = ConfigState(make_config(), (Bar(0, 0x4000, "mem32"), Bar(6, 0x800, "mem32")), "file", "")


def _devices(environment: Environment, tmp_path: Path, number: int = 1) -> list[str]:
    setting = Setting("pc-q35-9.0", "vfio-pci", environment)
    options = arguments([("/x/0000:01:00.0", setting)] * number, str(tmp_path))
    return [options[at + 1] for at, option in enumerate(options) if option == "-device"]


def test_root_complex(tmp_path: Path) -> None:
    assert _devices(Environment("root-complex"), tmp_path, 2) == [
        "vfio-pci,sysfsdev=/x/0000:01:00.0,bus=pcie.0,addr=3,id=d0",
        "vfio-pci,sysfsdev=/x/0000:01:00.0,bus=pcie.0,addr=4,id=d1",
    ]


def test_root_port(tmp_path: Path) -> None:
    assert _devices(Environment("root-port"), tmp_path) == [
        "pcie-root-port,id=p0,bus=pcie.0,chassis=1,addr=3.0,multifunction=on",
        "vfio-pci,sysfsdev=/x/0000:01:00.0,bus=p0,addr=0,id=d0",
    ]


def test_conventional_bus(tmp_path: Path) -> None:
    on_q35 = _devices(Environment("conventional"), tmp_path)
    assert on_q35[1:] == [
        "pcie-pci-bridge,id=c0,bus=p0",
        "vfio-pci,sysfsdev=/x/0000:01:00.0,bus=c0,addr=1,id=d0",
    ]
    on_i440fx = _devices(Environment("conventional", express_root=False), tmp_path)
    assert on_i440fx == ["vfio-pci,sysfsdev=/x/0000:01:00.0,bus=pci.0,addr=3,id=d0"]


@pytest.mark.parametrize(
    ("machine", "given"),
    [
        ("pc-q35-9.0", []),
        ("vendor-board-1", []),
        ("virt-9.0", ["-cpu", "max"]),
        # Without it there is no PCI.
        ("microvm", ["-machine", "pcie=on"]),
    ],
)
def test_machine(tmp_path: Path, machine: str, given: list[str]) -> None:
    setting = Setting(machine, "vfio-pci", Environment("root-port"))
    options = arguments([("/x", setting)], str(tmp_path))
    assert options[:2] == ["-machine", machine]
    assert options[options.index("stdio") + 1 : options.index("-device")] == given


def test_properties(tmp_path: Path) -> None:
    properties = {"host": "0000:06:00.0", "id": "mine", "x-a": "b,c", "rombar": "0"}
    device = _devices(Environment("root-complex", properties=properties), tmp_path)[0]
    assert device.endswith(",addr=3,id=d0,x-a=b,,c,rombar=0")
    assert "host" not in device


def test_globals_of_the_host_are_left_out(tmp_path: Path) -> None:
    """As the device's own properties: a graphics device's x-vga would be refused here."""
    given = (
        *(("vfio-pci", name, "on") for name in ("x-vga", "enable-migration", "display")),
        ("pci-device", "acpi-index", "3"),
        ("vfio-pci", "romfile", "/guest's,own.rom"),
        ("vfio-pci", "x-pci-device-id", "0x1234"),
    )
    setting = Setting("pc-q35-9.0", "vfio-pci", Environment("root-port"), given)
    options = arguments([("/x/0000:01:00.0", setting)], str(tmp_path))
    assert [options[at + 1] for at, option in enumerate(options) if option == "-global"] == [
        f"driver=vfio-pci,property=romfile,value={tmp_path}/rom",
        "driver=vfio-pci,property=x-pci-device-id,value=0x1234",
    ]


def test_json_form(tmp_path: Path) -> None:
    """As libvirt gives its devices."""
    properties = {"rombar": "0", "x-no-mmap": "on", "display": "off"}
    given = {"rombar": 0, "x-no-mmap": True, "display": "off"}
    environment = Environment("root-complex", properties=properties)
    setting = Setting("pc-q35-9.0", "vfio-pci", environment, json=given)
    options = arguments([("/x/0000:01:00.0", setting)], str(tmp_path))
    assert json.loads(options[-1]) == {
        **{"driver": "vfio-pci", "sysfsdev": "/x/0000:01:00.0"},
        **{"bus": "pcie.0", "addr": "3", "id": "d0", "rombar": 0, "x-no-mmap": True},
    }


def test_rom_file_in_json_form(tmp_path: Path) -> None:
    environment = Environment("root-complex", properties={"romfile": "/a"})
    for given, used in (("/a", f"{tmp_path}/rom"), (5, 5)):
        setting = Setting("q35", "vfio-pci", environment, json={"romfile": given})
        options = arguments([("/x", setting)], str(tmp_path))
        assert json.loads(options[-1])["romfile"] == used


@pytest.mark.parametrize(("given", "used"), [("", ""), ("/guest's,own.rom", "{}/rom")])
def test_rom_file(tmp_path: Path, given: str, used: str) -> None:
    device = _devices(Environment("root-complex", properties={"romfile": given}), tmp_path)[0]
    assert device.endswith(f",romfile={used.format(tmp_path)}")
    assert (tmp_path / "rom").exists() is bool(given)


def test_globals(tmp_path: Path) -> None:
    wanted = (("vfio-pci", "skip-vsc-check", "on,off"),)
    setting = Setting("q35", "vfio-pci", Environment("root-complex"), wanted)
    options = arguments([("/x", setting)], str(tmp_path))
    at = options.index("-global")
    assert options[at + 1] == "driver=vfio-pci,property=skip-vsc-check,value=on,,off"


def test_device_directory(tmp_path: Path) -> None:
    home = Path(shim.describe(str(tmp_path), "0000:01:00.0", STATE, 7, mdev=True))
    assert (home / "config").read_bytes() == STATE.config
    assert (home / "regions").read_text() == "0 16384 rw\n6 2048 rw\n"
    assert (home / "group").read_text() == "7\n"
    assert (home / "mdev").exists()


@pytest.mark.skipif(shutil.which("cc") is None, reason="lacks a C compiler")
def test_build(tmp_path: Path) -> None:
    target = tmp_path / "fakevfio.so"
    target.write_text("the one before")
    assert shim.build(str(target)) == str(target)
    assert target.read_bytes()[:4] == b"\x7fELF"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(shutil.which("cc") is None, reason="lacks a C compiler")
def test_build_sweeps_what_a_killed_one_has_left(tmp_path: Path) -> None:
    target = tmp_path / "fakevfio.so"
    for name, age in (("old", 2 * AGE), ("new", 0.0)):
        path = tmp_path / f"fakevfio.so.{name}"
        path.write_text("half")
        os.utime(path, (time.time() - age,) * 2)
    shim.build(str(target))
    assert {*tmp_path.iterdir()} == {target, tmp_path / "fakevfio.so.new"}


def test_compilers_files_lie_with_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So they go with the directory, be it by a later process."""
    (tmp_path / "cc").write_text("#!/bin/sh\necho it is $TMPDIR >&2; ls -d $TMPDIR >&2; exit 1\n")
    (tmp_path / "cc").chmod(0o755)
    monkeypatch.setattr(shim, "COMPILER", str(tmp_path / "cc"))
    with pytest.raises(ShimError, match=r"it is \S*/vfio-preflight-\S+\n") as caught:
        shim.build(str(tmp_path / "fakevfio.so"))
    assert not Path(str(caught.value).split()[-1]).exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "cc"]


def test_build_without_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shim, "COMPILER", str(tmp_path / "no-cc"))
    with pytest.raises(ShimError, match="no-cc"):
        shim.build(str(tmp_path / "fakevfio.so"))
    assert list(tmp_path.iterdir()) == []


def test_build_of_what_does_not_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shim, "COMPILER", "false")
    with pytest.raises(ShimError, match="does not compile"):
        shim.build(str(tmp_path / "fakevfio.so"))
    assert list(tmp_path.iterdir()) == []


def test_library_that_nobody_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shim, "LIBRARY", str(tmp_path / "fakevfio.so"))
    with pytest.raises(ShimError, match=r"python3 -m vfio_preflight\.qemu\.trial\.shim"):
        shim.library()

from __future__ import annotations

import pytest

from vfio_preflight.guest.arguments import read_arguments
from vfio_preflight.guest.commandline import Global

LIBVIRT = (
    *("-name", "guest=g1,debug-threads=on", "-S"),
    *("-machine", "pc-q35-9.0,usb=off,smm=on,hpet=off,acpi=on", "-accel", "kvm"),
    *("-cpu", "Skylake-Server,vmx=on,+pcid,-hle", "-m", "size=1048576k"),
    *("-global", "ICH9-LPC.disable_s3=1"),
    *("-device", '{"driver":"pcie-root-port","port":16,"chassis":1,"id":"pci.1","bus":"pcie.0"}'),
    *("-device", '{"driver":"pcie-root-port","port":17,"chassis":2,"id":"pci.2","hotplug":false}'),
    *("-device", "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:01"),
)


def test_as_libvirt_writes_them() -> None:
    found = read_arguments(LIBVIRT)
    assert found.machine == {
        "type": "pc-q35-9.0",
        "usb": "off",
        "smm": "on",
        "hpet": "off",
        "acpi": "on",
    }
    assert (found.kvm, found.cpu) == (True, "Skylake-Server")
    assert found.cpu_given == {"vmx", "pcid", "hle"}
    assert found.globals == (Global("ICH9-LPC", "disable_s3", "1"),)


def test_what_is_set_on_every_device_and_on_any() -> None:
    uses = read_arguments(LIBVIRT).uses()
    assert uses.always["pcie-root-port"] == {"port", "chassis"}
    assert uses.sometimes["pcie-root-port"] == {"port", "chassis", "hotplug"}
    assert uses.always["virtio-net-pci"] == {"netdev", "mac"}


@pytest.mark.parametrize(
    ("arguments", "kvm"),
    [
        (["-accel", "tcg"], False),
        (["-accel", "kvm,kernel-irqchip=split"], True),
        (["-machine", "q35,accel=kvm:tcg"], True),
        (["-machine", "q35,accel=tcg"], False),
        (["-enable-kvm"], True),
        ([], False),
    ],
)
def test_accelerator(arguments: list[str], kvm: bool) -> None:
    assert read_arguments(arguments).kvm is kvm


@pytest.mark.parametrize(
    "arguments",
    [["-device"], ["-device", '{"driver":"vfio-pci"'], ["-device", '{"x":1}'], ["-cpu"]],
)
def test_what_cannot_be_read_is_left_out(arguments: list[str]) -> None:
    found = read_arguments(arguments)
    assert (found.devices, found.cpu) == ((), "")

"""The devices that a board brings along, which no ``-device`` names: their properties count too.

What ``info qom-tree`` shows of a machine without any other device, QEMU 10.0.2 and 11.1.3; what KVM
has of its own instead of QEMU's interrupt controllers is from the sources (hw/i386/kvm,
hw/intc/arm_gicv3_common.c), and only one of the two is in a guest. ``migration`` is the object that
migration itself takes its properties from.
"""

from __future__ import annotations

from collections.abc import Mapping

_PC = (
    *("i8042", "ps2-kbd", "ps2-mouse", "mc146818rtc", "hpet", "isa-pcspk", "port92", "vmport"),
    *("vmmouse", "i8257", "fw_cfg_io", "smbus-eeprom", "kvmvapic", "cfi.pflash01"),
)
_PC_TCG = ("apic", "ioapic", "isa-i8259", "isa-pit")
_PC_KVM = ("kvm-apic", "kvm-ioapic", "kvm-i8259", "kvm-pit", "kvmclock")
_ARM = (
    *("gpex-pcihost", "gpex-root", "pl011", "pl031", "pl061", "gpio-key", "fw_cfg_mem"),
    *("cfi.pflash01", "virtio-mmio", "acpi-ged"),
)

_BOARDS: Mapping[str, tuple[str, ...]] = {
    "pc-q35": (*_PC, "q35-pcihost", "mch", "ICH9-LPC", "ICH9-SMB", "ich9-ahci"),
    "pc-i440fx": (*_PC, "i440FX-pcihost", "i440FX", "PIIX3", "piix3-ide", "PIIX4_PM", "isa-fdc"),
    "virt": _ARM,
}
_ACCELERATED: Mapping[str, Mapping[bool, tuple[str, ...]]] = {
    "pc-q35": {False: _PC_TCG, True: _PC_KVM},
    "pc-i440fx": {False: _PC_TCG, True: _PC_KVM},
    "virt": {
        False: ("arm-gicv3", "arm-gicv3-its"),
        True: ("kvm-arm-gicv3", "arm-its-kvm"),
    },
}
# Options of -machine that leave a device out, as libvirt has them too.
SWITCHES: Mapping[str, str] = {
    "hpet": "hpet",
    "vmport": "vmport",
    "smbus": "ICH9-SMB",
    "sata": "ich9-ahci",
    "i8042": "i8042",
}
_CPUS = {
    "x86_64": "x86_64-cpu",
    "i686": "i386-cpu",
    **dict.fromkeys(("aarch64", "armv7l"), "arm-cpu"),
    "riscv64": "riscv-cpu",
    "loongarch64": "loongarch-cpu",
}


def onboard(board: str, kvm: bool, options: Mapping[str, str]) -> frozenset[str]:
    """The types that a board of this name has; empty for one that is not known.

    ``options`` are those of ``-machine``. Which types a build has decides the build.
    """
    left_out = {name for option, name in SWITCHES.items() if options.get(option) == "off"}
    both = _ACCELERATED.get(board, {}).get(kvm, ())
    found = frozenset((*_BOARDS.get(board, ()), *both)) - left_out
    return found | {"migration"} if found else found


def cpu_type(model: str, arch: str) -> str:
    """The type of a CPU model, by libvirt's name of the architecture; empty if not known."""
    return f"{model}-{_CPUS[arch]}" if model and arch in _CPUS else ""

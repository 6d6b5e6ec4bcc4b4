"""Domain XML of small guests, and of their VFIO devices.

A guest has no disk and no display. On x86 its BIOS halts when it finds nothing to boot from; one of
aarch64 has no firmware, and its kernel is :data:`HALT`, which every host of the Lab has.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

EMULATOR = "/usr/bin/qemu-system-x86_64"
AARCH64 = "aarch64"
EMULATORS = {"x86_64": EMULATOR, AARCH64: "/usr/bin/qemu-system-aarch64"}

# "wfi; b .-4": without anything to execute the processor would take one exception after another.
HALT = "/usr/lib/lab-halt"
HALT_CODE = bytes.fromhex("7f2003d5 ffffff17")

# What libvirt wants to know beside the machine type. ACPI would need UEFI on aarch64.
_PLATFORMS = {
    "x86_64": "<features><acpi/></features>",
    AARCH64: "<cpu mode='custom' match='exact'><model>cortex-a57</model></cpu>",
}
_KERNELS = {AARCH64: f"<kernel>{HALT}</kernel>"}

# VFIO makes libvirt raise RLIMIT_MEMLOCK to more than the guest's memory, for which a container or
# CI job has no right; an explicit limit is taken as it is, and fakevfio locks nothing.
_MEMTUNE = "<memtune><hard_limit unit='KiB'>4096</hard_limit></memtune>"

_TEMPLATE = """\
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  {metadata}
  <memory unit='MiB'>{memory}</memory>
  {memtune}
  <vcpu>1</vcpu>
  <os><type arch='{arch}' machine='{machine}'>hvm</type>{kernel}</os>
  {platform}
  <devices>
    <emulator>{emulator}</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    {devices}
  </devices>
  {commandline}
</domain>
"""


def guest_xml(
    name: str,
    machine: str = "pc-q35-9.0",
    devices: Sequence[str] = (),
    commandline: Sequence[str] = (),
    emulator: str = "",
    metadata: str = "",
    memory: int = 32,
    arch: str = "x86_64",
) -> str:
    """A guest with ``memory`` MiB.

    ``devices`` are XML of devices, ``commandline`` arguments for QEMU, ``metadata`` the content of
    the element of that name. The emulator is that of ``arch``, unless another is named.
    """
    arguments = "".join(f"<qemu:arg value={quoteattr(argument)}/>" for argument in commandline)
    return _TEMPLATE.format(
        name=escape(name),
        machine=escape(machine),
        arch=arch,
        kernel=_KERNELS.get(arch, ""),
        platform=_PLATFORMS[arch],
        emulator=escape(emulator or EMULATORS[arch]),
        memory=memory,
        memtune=_MEMTUNE if devices else "",
        metadata=f"<metadata>{metadata}</metadata>" if metadata else "",
        devices="\n    ".join(devices),
        commandline=f"<qemu:commandline>{arguments}</qemu:commandline>" if arguments else "",
    )


def _address(bdf: str) -> str:
    domain, bus, slot, function = bdf[:4], bdf[5:7], bdf[8:10], bdf[11:]
    return (
        f"<address type='pci' domain='0x{domain}' bus='0x{bus}' slot='0x{slot}'"
        f" function='0x{function}'/>"
    )


def hostdev_pci(bdf: str, extra: str = "") -> str:
    """A PCI device that is bound to vfio-pci or a vendor's VFIO driver; ``extra`` is more XML."""
    return (
        "<hostdev mode='subsystem' type='pci' managed='no'>"
        f"<source>{_address(bdf)}</source>{extra}</hostdev>"
    )


def hostdev_mdev(uuid: str, extra: str = "") -> str:
    """A mediated device."""
    return (
        "<hostdev mode='subsystem' type='mdev' model='vfio-pci'>"
        f"<source><address uuid='{uuid}'/></source>{extra}</hostdev>"
    )


def interface_hostdev(bdf: str, mac: str = "52:54:00:12:34:56", extra: str = "") -> str:
    """A network VF as an interface."""
    return (
        "<interface type='hostdev' managed='no'>"
        f"<source>{_address(bdf)}</source><mac address='{mac}'/>{extra}</interface>"
    )


def vfio_commandline(name: str, bus: str = "pcie.0", slot: int = 0x10) -> list[str]:
    """A device that libvirt knows nothing of; ``name`` is a PCI address or an mdev's UUID."""
    kind = "pci" if name[4] == ":" else "mdev"
    sysfs = f"/sys/bus/{kind}/devices/{name}"
    return ["-device", f"vfio-pci,sysfsdev={sysfs},id=vfio-{slot:x},bus={bus},addr=0x{slot:x}"]


def as_json(commandline: Sequence[str]) -> list[str]:
    """The same ``-device`` in the form that libvirt itself uses."""
    option, value = commandline
    driver, *properties = value.split(",")
    pairs = (entry.split("=", 1) for entry in properties)
    return [option, json.dumps({"driver": driver, **dict(pairs)})]

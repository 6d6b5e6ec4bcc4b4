"""Guests of the sorts people run, as domain XML; ``{disks}`` is a directory that all hosts see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

EMULATOR = "/usr/bin/qemu-system-x86_64"

_TEMPLATE = """\
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>{memory}</memory>
  {head}
  <vcpu>2</vcpu>
  <os><type arch='x86_64' machine='{machine}'>hvm</type>{os}</os>
  <features><acpi/><apic/>{features}</features>
  {cpu}
  <clock offset='utc'/>
  <devices>
    <emulator>{emulator}</emulator>
    {devices}
  </devices>
</domain>
"""


class Sort(NamedTuple):
    """A guest: its machine type, and what its XML has; ``ends`` says what becomes of it where it
    does not migrate, by the host that it leaves (``a`` is of the older release)."""

    machine: str
    devices: Sequence[str]
    os: str = ""
    features: str = ""
    cpu: str = ""
    head: str = ""
    memory: int = 128
    emulator: str = EMULATOR
    ends: Mapping[str, str] = {}


def xml_of(name: str, sort: Sort, disks: str) -> str:
    """The domain XML of a guest of this sort."""
    return _TEMPLATE.format(
        name=name,
        memory=sort.memory,
        head=sort.head,
        machine=sort.machine,
        os=sort.os,
        features=sort.features,
        cpu=sort.cpu,
        emulator=sort.emulator,
        devices="\n    ".join(sort.devices),
    ).replace("{disks}", disks)


def _disk(target: str, bus: str, kind: str = "disk") -> str:
    readonly = "<readonly/>" if kind == "cdrom" else ""
    return (
        f"<disk type='file' device='{kind}'><driver name='qemu' type='raw'/>"
        f"<source file='{{disks}}/{target}'/><target dev='{target}' bus='{bus}'/>{readonly}</disk>"
    )


def nic(model: str, mac: int, extra: str = "") -> str:
    """A network interface."""
    return (
        "<interface type='user'>"
        f"<mac address='52:54:00:00:00:{mac:02x}'/><model type='{model}'/>{extra}</interface>"
    )


def _controller(kind: str, index: int, model: str, extra: str = "") -> str:
    return f"<controller type='{kind}' index='{index}' model='{model}'>{extra}</controller>"


def _video(model: str, extra: str = "") -> str:
    return f"<video><model type='{model}' {extra}/></video>"


_VNC = "<graphics type='vnc' socket='/var/lib/libvirt/qemu/vnc-{name}'/>"
_SERIAL = "<serial type='pty'/><console type='pty'/>"
_AGENT = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
_RNG = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
_BALLOON = "<memballoon model='virtio' freePageReporting='on'/>"
_NO_USB = "<controller type='usb' model='none'/>"
_TABLET = "<input type='tablet' bus='usb'/>"
_PORTS = [f"<controller type='pci' index='{n}' model='pcie-root-port'/>" for n in range(1, 25)]
_OVMF = "/usr/share/OVMF/OVMF"
_NVRAM = f"<nvram template='{_OVMF}_VARS_4M.fd'/>"
_UEFI = f"<loader readonly='yes' type='pflash'>{_OVMF}_CODE_4M.fd</loader>{_NVRAM}"
_SECURE = (
    f"<loader readonly='yes' secure='yes' type='pflash'>{_OVMF}_CODE_4M.secboot.fd</loader>{_NVRAM}"
)
_NODES = "".join(f"<cell id='{n}' cpus='{n}' memory='64' unit='MiB'/>" for n in range(2))
_NUMA = (
    "<cpu mode='custom' match='exact'><model>qemu64</model>"
    f"<topology sockets='2' cores='1' threads='1'/><numa>{_NODES}</numa></cpu>"
)
_COMPANIONS = [
    f"<controller type='usb' index='1' model='ich9-uhci{n + 1}'><master startport='{2 * n}'/>"
    f"<address type='pci' slot='0x1d' function='0x{n}' multifunction='on'/></controller>"
    for n in range(3)
]
_DIMM = "<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>"

SORTS: Mapping[str, Sort] = {
    # What a cloud image gets.
    "virtio": Sort(
        "pc-q35-10.0",
        [
            _disk("vda", "virtio"),
            _disk("sda", "scsi"),
            _controller("scsi", 0, "virtio-scsi", "<driver queues='2'/>"),
            nic("virtio", 1, "<driver name='qemu' queues='1'/>"),
            *(_SERIAL, _AGENT, _RNG, _BALLOON, _video("virtio"), "<watchdog model='itco'/>"),
            "<input type='tablet' bus='virtio'/><input type='keyboard' bus='virtio'/>",
        ],
    ),
    # What runs without drivers of its own: an installer of Windows.
    "emulated": Sort(
        "pc-q35-9.0",
        [
            *(_disk("sda", "sata"), _disk("sdb", "sata", "cdrom"), nic("e1000e", 2)),
            *("<sound model='ich9'/><audio id='1' type='none'/>", _TABLET, _video("vga")),
            *(_SERIAL, "<memballoon model='none'/>"),
        ],
    ),
    # Room for hot-plug, and a switch.
    "ports": Sort(
        "pc-q35-9.0",
        [
            *_PORTS,
            _controller("pci", 25, "pcie-switch-upstream-port"),
            *(_controller("pci", n, "pcie-switch-downstream-port") for n in (26, 27)),
            _controller("pci", 28, "pcie-to-pci-bridge"),
            *(nic("virtio", 3), nic("e1000e", 4), _NO_USB),
        ],
    ),
    # Devices beside the NUMA node that they belong to.
    "pxb": Sort(
        "pc-q35-10.0",
        [
            _controller(
                "pci", 1, "pcie-expander-bus", "<target busNr='180'><node>1</node></target>"
            ),
            _controller(
                "pci",
                2,
                "pcie-root-port",
                "<address type='pci' bus='0x01' slot='0x00' function='0x0'/>",
            ),
            nic("virtio", 5, "<address type='pci' bus='0x02' slot='0x00'/>"),
            *(_disk("vda", "virtio"), _NO_USB),
        ],
        cpu=_NUMA,
    ),
    "uefi": Sort(
        "pc-q35-10.0",
        [_disk("vda", "virtio"), nic("virtio", 6), _video("bochs"), _SERIAL, _RNG],
        os=_UEFI,
    ),
    # What Windows 11 wants.
    "secure": Sort(
        "pc-q35-9.0",
        [
            *(_disk("sda", "sata"), nic("e1000e", 7), _video("vga"), _TABLET),
            "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>",
        ],
        os=_SECURE,
        features="<smm state='on'/>",
    ),
    "usb": Sort(
        "pc-q35-9.0",
        [
            _controller("usb", 0, "qemu-xhci", "<address type='pci' slot='0x08'/>"),
            _controller("usb", 1, "ich9-ehci1", "<address type='pci' slot='0x1d' function='0x7'/>"),
            *_COMPANIONS,
            "<hub type='usb'/>",
            *(_disk("sdu", "usb"), _TABLET, "<input type='keyboard' bus='usb'/>"),
        ],
    ),
    # What has run for years.
    "old": Sort(
        "pc-i440fx-9.0",
        [
            *(_disk("hda", "ide"), _disk("fda", "fdc", "floppy"), nic("rtl8139", 8)),
            *(nic("pcnet", 9), nic("e1000", 10), _video("cirrus"), "<sound model='ac97'/>"),
            *("<audio id='1' type='none'/>", "<watchdog model='i6300esb'/>", _SERIAL),
            *("<parallel type='null'/>", "<input type='mouse' bus='ps2'/>", _BALLOON),
            _controller("pci", 1, "pci-bridge"),
            _controller("scsi", 0, "lsilogic"),
        ],
    ),
    # Memory to be plugged, in DIMMs and by virtio-mem.
    "memory": Sort(
        "pc-q35-10.0",
        [
            _DIMM,
            "<memory model='virtio-mem'><target><size unit='MiB'>256</size><node>1</node>"
            "<block unit='MiB'>2</block><requested unit='MiB'>0</requested></target></memory>",
            *(nic("virtio", 11), _disk("vda", "virtio"), _NO_USB),
        ],
        head="<maxMemory slots='8' unit='MiB'>2048</maxMemory>",
        cpu=_NUMA,
    ),
    # A virtual IOMMU, and what monitors a guest.
    "monitored": Sort(
        "pc-q35-9.2",
        [
            "<iommu model='intel'><driver intremap='off' caching_mode='on'/></iommu>",
            "<panic model='pvpanic'/><panic model='isa'/>",
            *(_disk("vda", "virtio"), nic("virtio", 12)),
            *(_RNG, _AGENT),
        ],
        features="<vmcoreinfo state='on'/>",
    ),
    # Devices that QEMU sends on no host.
    "unsent": Sort(
        "pc-q35-10.0",
        [
            *("<sound model='virtio'/><audio id='1' type='none'/>", _disk("vda", "virtio")),
            "<crypto model='virtio' type='qemu'><backend model='builtin' queues='1'/></crypto>",
        ],
        ends={"a": "blocked", "b": "blocked"},
    ),
    # A controller whose state is another one since QEMU 10.1.
    "scsi": Sort(
        "pc-q35-9.0",
        [_controller("scsi", 0, "am53c974"), _disk("sda", "scsi"), _NO_USB],
        ends={"b": "refused"},
    ),
}

"""A guest whose Linux drives its devices: as many as find a place, all of them in use."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

from vm.initramfs import Entry, cpio, directory, module_entries, program

from .hop import Running

_INIT = Path(__file__).with_name("driven-init")
MODULES = (
    *("virtio_pci", "virtio_net", "virtio_blk", "virtio_scsi", "virtio_rng", "virtio_balloon"),
    *("virtio_console", "virtio_input", "virtio_gpu", "e1000e", "e1000", "igb", "8139cp"),
    *("pcnet32", "vmxnet3", "xhci_pci", "ehci_pci", "usb_storage", "usbhid", "hid_generic"),
    *("ahci", "sd_mod", "sr_mod", "megaraid_sas", "mptsas", "sym53c8xx", "vmw_pvscsi"),
    *("snd_hda_intel", "snd_hda_codec_generic", "snd_intel8x0", "snd_ens1370", "i6300esb"),
    *("pvpanic_pci", "sdhci_pci", "mmc_block", "8250_pci", "evdev"),
)
_NETWORK = ("virtio-net-pci", "e1000e", "e1000", "igb", "rtl8139", "pcnet", "vmxnet3")
# Controllers of SCSI, each with a disk.
_SCSI = ("virtio-scsi-pci", "megasas", "mptsas1068", "lsi53c895a", "pvscsi")
_OTHERS = (
    *("virtio-rng-pci", "virtio-balloon-pci", "virtio-tablet-pci", "virtio-gpu-pci", "i6300esb"),
    *("qemu-xhci,id=xhci0", "usb-tablet,bus=xhci0.0", "ich9-usb-ehci1,id=ehci0"),
    *("usb-kbd,bus=ehci0.0", "virtio-serial-pci,id=vs0", "virtserialport,bus=vs0.0,chardev=c0"),
    *("intel-hda,id=hda0", "hda-duplex,bus=hda0.0,audiodev=a0", "AC97,audiodev=a0"),
    *("ES1370,audiodev=a0", "pvpanic-pci", "sdhci-pci", "pci-serial,chardev=c1"),
)
_BACK_ENDS = ("-audiodev", "none,id=a0", "-chardev", "null,id=c0", "-chardev", "null,id=c1")
# Other devices that have a disk.
_DISKS = (
    *("virtio-blk-pci,num-queues=2", "usb-storage,bus=xhci0.0", "ide-hd,bus=ide.1"),
    *("ide-cd,bus=ide.2", "sd-card"),
)
# What must be driven for the guest to be worth something.
DRIVERS = (
    *("virtio-pci", "e1000e", "e1000", "igb", "8139cp", "pcnet32", "vmxnet3", "xhci_hcd"),
    *("ehci-pci", "megaraid_sas", "mptsas", "sym53c8xx", "vmw_pvscsi", "snd_intel8x0", "ahci"),
    *("snd_ens1370", "i6300ESB timer", "pvpanic-pci", "sdhci-pci", "serial"),
)
DISKS = 9  # without that on USB, which comes later
# A processor under TCG takes some 15 seconds; then disks and networks shall be at work.
LINUX = Running(("-serial", "file:{log}"), ((b"READY", 200.0), (b"end of the log", 1.0)))


def arguments(image: Path, initramfs: Path, machine: str) -> list[str]:
    """The guest, with a kernel's ``image`` (tests/vm/kernel) and initramfs."""
    return [
        *("-machine", machine, "-m", "512", "-kernel", str(image)),
        *("-initrd", str(initramfs)),
        *("-append", "console=ttyS0 panic=-1 no_timer_check mitigations=off loglevel=4"),
        *_networks(),
        *_BACK_ENDS,
        *(word for device in _OTHERS for word in ("-device", device)),
        *_disks(),
    ]


def _networks() -> Sequence[str]:
    found: list[str] = []
    for number, model in enumerate(_NETWORK, start=1):
        found += ("-netdev", f"user,id=n{number},net=10.0.{number}.0/24")
        found += ("-device", f"{model},netdev=n{number}")
    return found


def _disks() -> Sequence[str]:
    found: list[str] = []
    controllers = [f"{model},id=scsi{number}" for number, model in enumerate(_SCSI)]
    disks = [*_DISKS, *(f"scsi-hd,bus=scsi{number}.0" for number in range(len(_SCSI)))]
    for controller in controllers:
        found += ("-device", controller)
    for number, disk in enumerate(disks):
        node = f"driver=null-co,node-name=d{number},size=8388608,read-zeroes=on,latency-ns=200000"
        found += ("-blockdev", node, "-device", f"{disk},drive=d{number}")
    return found


def make_initramfs(kernel: Path) -> bytes:
    """The guest's file system: busybox, the drivers and what has them work."""
    release = (kernel / "release").read_text().strip()
    entries = [directory(name) for name in ("bin", "dev", "proc", "sys")]
    entries.append(program("bin/busybox", kernel / "root/bin/busybox"))
    entries.append(Entry("init", stat.S_IFREG | 0o755, _INIT.read_bytes()))
    return cpio([*entries, *module_entries(kernel / "root/lib/modules" / release, MODULES)])

"""Which devices a twin has: those that are QEMU's own to emulate.

A device whose other half is a process, a device or the kernel of the host cannot be realised
without it. It is left out of both halves, with what is plugged into it, and named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ...guest.addresses import host_address, sysfs_device
from ...osutil.light import TYPE_CHECKING
from ..model.properties import UNTRIED as UNTRIED
from .words import is_set, number

if TYPE_CHECKING:
    from typing import Any

_PROCESS = "its other half is another process"
_KERNEL = "its other half is the host's kernel"
_HOST = "it is a device of the host's"
_FILE = "it reads a file of the host's"
# By regular expressions on the whole name of the type; the first that matches counts.
LEFT_OUT = (
    (r"vhost-user-.*|virtio-rpmb.*", _PROCESS),
    (r"vhost-(scsi|vsock|vdpa).*", _KERNEL),
    (r"tpm-.*", "its other half is the process that is the TPM"),
    (r"ivshmem-doorbell|vfio-user-.*|x-pci-proxy-dev", _PROCESS),
    (r"usb-host|u2f-passthru|scsi-block|scsi-generic|virtio-input-host.*|can-host-.*", _HOST),
    (r"ccid-card-emulated|u2f-emulated|canokey|usb-mtp|loader|guest-loader", _FILE),
    (r"vmbus-bridge|hv-.*", "it takes KVM"),
    (r"vfio-(?!pci).*|xen-.*|igd-.*", _HOST),
    (r".*-gl(-pci|-device)?|virtio-gpu-rutabaga.*|virtio-vga-rutabaga", "it takes a host's OpenGL"),
)
# Of host resources, that QEMU is handed or looks up; of files that it reads or writes, and of how
# far addresses go, for which TCG's processors have too few bits: they do not show in the state.
DROPPED = (
    *("vhostfd", "vhostfds", "iommufd", "vhost", "vhostforce", "ebpf-rss-fds"),
    *("jsonfile", "pcapfile", "pcap", "frudatafile", "sdrfile", "cdat"),
    "pci-hole64-size",
)
# Of properties that may be more with another process or the host's kernel at the back end: what
# QEMU takes without one. virtio_net_max_tx_queue_size() (hw/net/virtio-net.c).
AT_MOST = {"tx_queue_size": 256}
_VFIO_PCI = "vfio-pci"


def reason(options: Mapping[str, Any]) -> str:
    """Why a device is left out; empty for one that is not."""
    driver = str(options.get("driver", ""))
    # Of a virtio-gpu, which then takes /dev/udmabuf.
    if is_set(options.get("blob")):
        return "it shares memory with the host's display"
    return next((why for name, why in LEFT_OUT if re.fullmatch(name, driver)), "")


def is_vfio(driver: str) -> bool:
    """Whether it is a VFIO PCI device, which the shim makes up."""
    return driver.startswith(_VFIO_PCI)


def host_of(options: Mapping[str, Any]) -> str:
    """What a VFIO device is on its host, a PCI address or an mdev's UUID; empty if it is neither
    that the arguments say."""
    address = host_address(str(options.get("host") or ""))
    return address or sysfs_device(str(options.get("sysfsdev") or "")) or ""


def as_vfio(options: Mapping[str, Any], sysfsdev: str) -> dict[str, Any]:
    """A VFIO device of the twin, made up at ``sysfsdev``."""
    at = {key: options[key] for key in ("driver", "id", "bus", "addr") if key in options}
    kept = {key: value for key, value in options.items() if key not in UNTRIED}
    return {**at, **kept, "sysfsdev": sysfsdev}


def without_host(options: Mapping[str, Any]) -> dict[str, Any]:
    """A device's options without those that name what the host gave it."""
    return {key: value for key, value in options.items() if key not in DROPPED}


def limited(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that are more than QEMU takes of the twin's back ends, as it does."""
    return {key: most for key, most in AT_MOST.items() if (number(options.get(key)) or 0) > most}


def is_on(bus: object, left_out: Sequence[str]) -> bool:
    """Whether a bus is one of a device that was left out: ``ID.0``, or ``ID`` for a bridge's."""
    return any(bus == name or str(bus).startswith(f"{name}.") for name in left_out if name)

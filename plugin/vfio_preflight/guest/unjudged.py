"""What a guest has of its host beside VFIO PCI devices: seen, and not judged.

The check compares the PCI configuration space of ``vfio-pci`` devices. Everything else by which a
guest uses a device of its host is listed with the reason why nothing is said of it, with what is
known of its migration, and, where libvirt or QEMU is known to refuse that, in whose words.

The kinds, as data; ``guest.seen`` finds the devices in a domain's XML.

Sources: libvirt 11.3.0, where "libvirt refuses" was seen (``virsh define``), or read
(``qemuMigrationSrcIsAllowed()`` and ``qemuMigrationSrcIsSafe()``, src/qemu/qemu_migration.c: since
8.6 it asks QEMU for its blockers instead of refusing by ``<hostdev>``'s type); QEMU 10.0 to 11.1,
``unmigratable`` in hw/vfio/ap.c, ccw.c and platform.c (of 10.0), hw/scsi/vhost-scsi.c,
hw/virtio/vhost.c, hw/misc/ivshmem-pci.c (ivshmem.c before 10.1), ``usb_host_realize()`` and
``usb_host_post_load_bh()`` in hw/usb/host-libusb.c, hw/vfio-user/pci.c, hw/tpm/tpm_passthrough.c.
"""

from __future__ import annotations

from ..osutil.light import NamedTuple


class Kind(NamedTuple):
    """A kind of device that is not judged.

    ``name`` is stable, for JSON; ``what`` says what it is, ``reason`` why it is not judged,
    ``known`` what is known of its migration. ``refusal`` says who is known to refuse it, in which
    words; empty if nobody. ``remedy`` belongs to the refusal. ``at_start`` is for a refusal that
    keeps the guest from being defined or started at all, ``unless`` names a property with which
    QEMU does not refuse.
    """

    name: str
    what: str
    reason: str
    known: str = ""
    refusal: str = ""
    remedy: str = ""
    at_start: bool = False
    unless: str = ""


class Unjudged(NamedTuple):
    """A device that is not judged; ``host`` is what the XML calls it on the host, or empty.

    ``alias`` is the id that QEMU will know it by, None where that is not known.
    """

    kind: Kind
    host: str
    alias: str | None


_NO_PCI = "it is no PCI device, and has no configuration space to compare"
_VIRTIO = "the guest sees a virtio device of QEMU's, whose state QEMU itself makes"
_EMULATED = "the guest sees a controller of QEMU's, whose state QEMU itself makes"
_DETACH = "detach it before migrating"
_SAME_ACCESS = "the destination needs the same device by the same name"


def _unmigratable(device: str) -> str:
    # qemu_savevm_state_blocked(), migration/savevm.c; before its name goes the device's path on a
    # bus that has paths.
    return f"QEMU refuses to send it: \"State blocked by non-migratable device '{device}'\""


_VHOST_VDPA = (
    "QEMU sends it only where the vDPA device's features can be served by shadow virtqueues;"
    ' otherwise "Migration disabled: vhost lacks VHOST_F_LOG_ALL feature."'
)
_NVME = (
    "QEMU drives the controller itself, and the guest sees a disk of QEMU's: no PCI device is"
    " handed to it"
)

AP = Kind(
    "vfio-ap",
    "crypto adapter matrix (vfio-ap)",
    _NO_PCI,
    refusal=_unmigratable(".../vfio-ap"),
    remedy=_DETACH,
)
CCW = Kind(
    "vfio-ccw",
    "channel device (vfio-ccw)",
    _NO_PCI,
    refusal=_unmigratable(".../vfio-ccw"),
    remedy=_DETACH,
)
NO_MODEL = Kind(
    "mdev-without-model",
    "mediated device without a model",
    "without model='vfio-pci' on the <hostdev> it is not said to be a PCI device, and nothing is"
    " assumed",
    refusal="libvirt refuses the XML: \"Missing required attribute 'model' in element 'hostdev'\"",
    remedy="give the <hostdev> its model: model='vfio-pci' for a vGPU or another PCI device",
    at_start=True,
)
OTHER_MODEL = Kind(
    "mdev-of-other-model",
    "mediated device of a model that is not known here",
    "only model='vfio-pci' is a PCI device",
)
UNASSIGNED = Kind(
    "unassigned",
    "PCI device with <address type='unassigned'>",
    "libvirt keeps it from others on the host, but QEMU never gets it",
    "it takes no part in a migration",
)
UNASSIGNED_MDEV = UNASSIGNED._replace(
    what="mediated device with <address type='unassigned'>",
    known="",
    refusal="libvirt refuses the XML: \"Unsupported address type 'unassigned' with mediated device"
    ' model"',
    remedy="remove the <address>, or the device",
    at_start=True,
)
USB = Kind(
    "usb",
    "USB device of the host",
    _NO_PCI,
    "QEMU sends nothing of what is in it: after the migration the guest finds it unplugged. QEMU"
    " looks for one that fits only where it was told vendor and product, and libvirt tells it bus"
    " and address: attach it anew",
)
SCSI = Kind("scsi", "SCSI device of the host", _EMULATED, _SAME_ACCESS)
SCSI_HOST = Kind(
    "scsi-host",
    "SCSI target of the host's (vhost-scsi)",
    _VIRTIO,
    refusal='QEMU refuses to send it: "vhost-scsi does not support migration in all cases."',
    remedy=f"{_DETACH}, or set its property migratable=on if the storage is moved with the guest",
    unless="migratable",
)
CAPABILITIES = Kind(
    "capabilities",
    "<hostdev mode='capabilities'>",
    "it is for containers",
    refusal="libvirt refuses the guest: \"hostdev mode 'capabilities' is not supported in qemu\"",
    remedy="remove it from the guest",
    at_start=True,
)
OTHER_HOSTDEV = Kind(
    "other-hostdev", "<hostdev> of a type that is not known here", "only pci and mdev are judged"
)
NVME_DISK = Kind(
    "nvme-disk",
    "NVMe disk by PCI address",
    _NVME,
    'libvirt refuses to migrate it as "Migration without shared storage is unsafe" unless the disk'
    " is copied (--copy-storage-all), read-only, or --unsafe is said",
)
VDPA = Kind("vdpa", "vDPA network device", _VIRTIO, _VHOST_VDPA)
VDPA_DISK = Kind("vdpa-disk", "vDPA disk", _VIRTIO, _SAME_ACCESS)
VDPA_DEVICE = Kind("vdpa-device", "vDPA device", _VIRTIO, _VHOST_VDPA)
SHMEM = Kind(
    "shmem",
    "memory that is shared with others on the host (ivshmem)",
    "it is a device of QEMU's; what is in the memory is its users' business",
    "QEMU sends it with role='master' (master=on) alone",
)
SHMEM_PEER = SHMEM._replace(
    known="",
    refusal="libvirt and QEMU refuse to send it: \"Migration is disabled when using feature 'peer"
    " mode' in device 'ivshmem'\"",
    remedy="detach it before migrating, or give it role='master'",
)
TPM = Kind(
    "tpm-passthrough",
    "TPM of the host",
    "it is no VFIO device",
    "QEMU does not refuse to send the guest, and sends nothing of what is in the TPM. The"
    " destination's has other keys: what the guest has sealed cannot be opened there",
)
_PLATFORM = Kind(
    "vfio-platform",
    "VFIO platform device",
    _NO_PCI,
    "QEMU 10.0 deprecates it, and QEMU 11.1 does not have it",
    remedy=_DETACH,
)
# By QEMU's type, which is also the name of its state.
PLATFORMS = {
    name: _PLATFORM._replace(refusal=_unmigratable(name))
    for name in ("vfio-platform", "vfio-calxeda-xgmac", "vfio-amd-xgbe")
}
USER = Kind(
    "vfio-user",
    "device of another process by a socket (vfio-user-pci)",
    "what it presents comes from that process, not from a device of the host",
    "QEMU 10.1 to 11.1 sends nothing of it, and does not refuse to send the guest",
)
OTHER_VFIO = Kind(
    "other-vfio", "VFIO device of another type than vfio-pci", "its type is not known"
)

"""What QEMU says when it opens a VFIO device: its group, its IOMMU, its memory.

Sources: QEMU 8.0 to 11.1, ``hw/vfio/container*.c``, ``iommufd.c``, ``device.c``, ``listener.c``,
``kvm-helpers.c``, ``backends/iommufd.c``.
"""

from __future__ import annotations

from .message import NOTE, Line, Message

_KERNEL_LOG = "look at the kernel's log (dmesg: vfio, iommu, the device's driver) of that moment"
_GONE = "see whether it exists and what it is bound to (lspci -nnk; for an mdev, 'mdevctl list')"

OPEN: tuple[Message, ...] = (
    Message(
        "group-not-viable",
        "the IOMMU group {group} of VFIO device {device} cannot be given to a guest",
        "other devices of the group are bound to drivers of the host, and a group goes to a guest"
        " as"
        " a whole",
        "bind or unbind all devices of /sys/kernel/iommu_groups/{group}/devices (managed='yes' does"
        " it for those of the guest alone)",
        (Line("group {group:number} is not viable"),),
    ),
    Message(
        "group-not-viable",
        "the IOMMU group {group} of a VFIO device cannot be had",
        "its devices are not all bound to a VFIO driver, or another guest has the group",
        "see ls -l /sys/kernel/iommu_groups/{group}/devices/*/driver, and who has /dev/vfio/{group}"
        " open",
        (
            Line(
                "Verify all devices in group {group:number} are bound to vfio-<bus> or pci-stub and"
                " not already in use"
            ),
            Line("error getting device from group {group:number}"),
            Line("failed to get group {group:number} status"),
            Line(
                "vfio: Cannot reset device {device}, depends on group {group:number} which is not"
                " owned."
            ),
        ),
    ),
    Message(
        "group-not-viable",
        "the IOMMU group of a VFIO device cannot be had as a whole",
        "its devices are not all bound to a VFIO driver, or another guest has some of them",
        "see ls -l /sys/kernel/iommu_groups/*/devices/*/driver for the device's group",
        (
            Line(
                "Please ensure all devices within the iommu_group are bound to their vfio bus"
                " driver."
            ),
            Line(
                "vfio: Cannot reset device {device}, depends on device {other:device} which is not"
                " owned.",
                "9.0",
            ),
        ),
    ),
    Message(
        "device-busy",
        "VFIO device {device} is in use already",
        "another QEMU, or this one, has its group or device open: another guest, or a QEMU of an"
        " earlier attempt that has not ended",
        "see who has {node} open (fuser -v {node}), and end it",
        (Line("failed to open {node:word}: Device or resource busy"),),
    ),
    Message(
        "device-busy",
        "VFIO device {device} is in use by this guest already",
        "the guest has it twice, or its group in two ways (behind a virtual IOMMU and not)",
        "look for it twice in the guest's XML and qemu:commandline",
        (
            Line("device is already attached"),
            Line("group {group:number} used in multiple address spaces"),
        ),
    ),
    Message(
        "device-not-opened",
        "VFIO device {device} could not be opened",
        "it is not bound to a VFIO driver, or QEMU may not open it (rights, cgroup, SELinux or"
        " AppArmor)",
        _GONE + "; see the audit log for denials",
        (
            Line("failed to open {node:word}: {reason:text}"),
            Line("Failed to open {node:word}"),
            Line("couldn't open directory {node:word}", "9.0"),
            Line("failed to find vfio-dev/vfioX/dev", "9.0"),
            Line(
                'failed to load "{node:quoted}" (is your kernel config missing'
                " CONFIG_VFIO_DEVICE_CDEV?)",
                "11.0",
            ),
            Line('failed to load "{node:quoted}"', "9.0", "10.2"),
            Line('failed to get major:minor for "{node:quoted}"', "9.0"),
            Line("/dev/iommu opening failed", "9.0", "9.0"),
            Line(
                "/dev/iommu does not exist (is your kernel config missing CONFIG_IOMMUFD?)", "11.0"
            ),
            Line("error bind device fd={n:number} to iommufd={node:number}", "9.0"),
        ),
    ),
    Message(
        "device-missing",
        "VFIO device {device} does not exist on this host",
        "the address or UUID in the guest's XML is of no device here, or it has no IOMMU group (no"
        " IOMMU, or none switched on)",
        _GONE + "; see whether the IOMMU is on (ls /sys/kernel/iommu_groups)",
        (
            Line("no such host device"),
            Line("no iommu_group found"),
            Line("failed to read {node:word}"),
            Line("No provided host device"),
            Line("Use -device vfio-pci,host=DDDD:BB:DD.F"),
            Line("this isn't a PCI device"),
        ),
    ),
    Message(
        "iommu",
        "the IOMMU refused the memory of the guest: error {n}",
        "what QEMU wanted to map was not accepted: -12, the limit of locked memory is too low; -22,"
        " an address that the IOMMU cannot map (a region below 4 KiB or beyond its width); -17 and"
        " -28, too many mappings (vfio_iommu_type1 dma_entry_limit)",
        "raise the guest's <memtune><hard_limit> or ulimit -l; for addresses see the guest's"
        " maximum"
        " physical address bits; " + _KERNEL_LOG,
        (
            Line(
                "vfio_dma_map({p:word}, {iova:hex}, {size:hex}, {at:word}) = {n:number}"
                " ({reason:short})",
                "8.0",
                "8.2",
            ),
            Line(
                "vfio_container_dma_map({p:word}, {iova:hex}, {size:hex}, {at:word}) = {n:number}"
                " ({reason:short})",
                "9.0",
            ),
            Line("VFIO_MAP_DMA failed: {n:text}", "8.0", "9.2"),
            Line("IOMMU_IOAS_MAP failed: {n:text}", "9.0"),
            Line("IOMMU_IOAS_MAP_FILE failed: {n:text}", "10.1"),
            Line("vfio: DMA mapping failed, unable to continue"),
        ),
    ),
    Message(
        "iommu",
        "the IOMMU did not give back memory of the guest",
        "the mapping was not there, or the kernel failed",
        _KERNEL_LOG,
        (
            Line(
                "vfio_dma_unmap({p:word}, {iova:hex}, {size:hex}) = {n:number} ({reason:short})",
                "8.0",
                "8.2",
            ),
            Line(
                "vfio_container_dma_unmap({p:word}, {iova:hex}, {size:hex}) = {n:number}"
                " ({reason:short})",
                "9.0",
            ),
            Line("{where:word}: vfio_dma_unmap() failed: {reason:text}", "8.0", "8.2"),
            Line("{where:word}: vfio_container_dma_unmap() failed: {reason:text}", "9.0"),
            Line("VFIO_UNMAP_DMA failed: {reason:text}", "8.0", "9.2"),
            Line("IOMMU_IOAS_UNMAP failed: {reason:text}", "9.0", "9.2"),
        ),
        NOTE,
    ),
    Message(
        "iommu",
        "the IOMMU of this host could not be set up for VFIO device {device}",
        "the kernel has no usable VFIO IOMMU (vfio_iommu_type1, iommufd), or the device cannot join"
        " the guest's",
        "load vfio_iommu_type1 (or iommufd), see whether the IOMMU is on; " + _KERNEL_LOG,
        (
            Line("No available IOMMU models"),
            Line("Failed to set iommu for container"),
            Line("Failed to set group container"),
            Line("Failed to get VFIO IOMMU info"),
            Line("supported vfio version: {n:number}, reported version: {other:number}"),
            Line("failed to setup container for group {group:number}:"),
            Line("group ID {group:number}:", "8.2"),
            Line("Inconsistent setting of support for discarding RAM (e.g., balloon) within group"),
            Line("Cannot set discarding of RAM broken ({n:number})", "9.0", "9.2"),
            Line("Cannot set discarding of RAM broken"),
            Line(
                "[iommufd={n:number}] error attach {name:word} ({fd:number}) to id={id:number}",
                "9.0",
                "11.0",
            ),
            Line(
                "[iommufd={n:number}] error attach {name:word} ({fd:number}) pasid {pasid:number}"
                " to"
                " id={id:number}",
                "11.1",
            ),
            Line("error getting device info"),
            Line("Cannot get IOVA ranges", "9.0"),
            Line("Failed to allocate ioas", "9.0"),
            Line("Failed to allocate hwpt", "9.1"),
            Line("Failed to get hardware info", "9.1"),
            Line("Failed to set iommu_device:", "9.1", "9.2"),
            Line("Failed to set vIOMMU:", "10.0"),
            Line("IOMMU_VIOMMU_ALLOC failed", "11.0"),
            Line("IOMMU_VDEVICE_ALLOC failed", "11.0"),
            Line("IOMMU_VEVENTQ_ALLOC failed", "11.0"),
            Line("IOMMU_HW_QUEUE_ALLOC failed", "11.1"),
            Line("IOMMUFD vIOMMU mmap failed", "11.1"),
            Line('Wrong target AS "{name:quoted}", only system memory is allowed'),
        ),
    ),
    Message(
        "iommu",
        "VFIO devices take more mappings of memory than this host's limit",
        "memory devices such as virtio-mem use many",
        "give the virtio-mem devices a larger block size, or raise vfio_iommu_type1's"
        " dma_entry_limit",
        (Line("{where:word}: possibly running out of DMA mappings."),),
        NOTE,
    ),
    Message(
        "iommu",
        "KVM does not know of VFIO device {device}: {reason}",
        "its device for VFIO groups could not be made or told of this one",
        "see whether the module kvm has VFIO (CONFIG_KVM_VFIO); without it the guest works, but"
        " not in"
        " every way",
        (
            Line(
                "Failed to add group {group:number} to KVM VFIO device: {reason:text}", "8.0", "8.1"
            ),
            Line(
                "Failed to remove group {group:number} from KVM VFIO device: {reason:text}",
                "8.0",
                "8.1",
            ),
            Line("Failed to create KVM VFIO device: {reason:text}", "8.0", "8.1"),
            Line("Failed to create KVM VFIO device", "8.2"),
            Line("Failed to add fd {n:number} to KVM VFIO device", "8.2"),
            Line("Failed to remove fd {n:number} from KVM VFIO device", "8.2"),
            Line("KVM VFIO device isn't created yet", "8.2"),
            Line(
                "vfio: failed to setup fd {n:number} for a group with fd {group:number}:"
                " {reason:text}",
                "8.0",
                "8.1",
            ),
        ),
        NOTE,
    ),
)

"""What QEMU says of virtio devices and their backends (vhost, vhost-user, tap) while loading them.

Sources: QEMU 8.0 to 11.1, ``hw/virtio/virtio.c``, ``vhost.c``, ``virtio-pci.c``, ``virtio-bus.c``,
``virtio-mem.c``, ``hw/net/virtio-net.c``.
"""

from __future__ import annotations

from .message import CONSEQUENCE, NOTE, Line, Message

_RINGS = (
    "the guest's memory and the device's state do not fit together: something before it in the"
    " stream was lost, the guest's driver failed, or QEMU has a fault"
)
_REMEDY_RINGS = (
    "see whether the guest's driver works on the source; use the same QEMU package on both hosts;"
    " no"
    " VFIO device is involved"
)
_BACKEND = (
    "use the same kernel, vhost-user daemon and QEMU on both hosts; no VFIO device is involved"
)

VIRTIO: tuple[Message, ...] = (
    Message(
        "virtio-features",
        "a virtio device's features on the source ({received}) are not all there on the destination"
        " ({local})",
        "the destination's QEMU, or what stands behind the device there (vhost of the kernel, a"
        " vhost-user daemon, the tap device), lacks features that the guest uses",
        "use the same kernel and QEMU on both hosts, or switch the features off in the guest's XML"
        " (<driver> of the device) and restart the guest; no VFIO device is involved",
        (Line("Features {received:hex} unsupported. Allowed features: {local:hex}"),),
    ),
    Message(
        "virtio-rings",
        "a virtio device's queue in the stream is not consistent",
        _RINGS,
        _REMEDY_RINGS,
        (
            Line(
                "VQ {n:number} size {size:hex} Guest index {guest:hex} inconsistent with Host index"
                " {host:hex}: delta {delta:hex}"
            ),
            Line(
                "VQ {n:number} size {size:hex} < last_avail_idx {guest:hex} - used_idx {host:hex}"
            ),
            Line("VQ {n:number} address 0x0 inconsistent with Host index {host:hex}"),
            Line(
                "VQ {n:number} vring.num {size:number} exceeds allocated max {most:number}", "11.1"
            ),
            Line(
                "virtio: queue {n:number} size {size:number} exceeds max size {most:number}", "11.1"
            ),
            Line("Invalid number of virtqueues: {n:hex}"),
            Line("Invalid virtqueue number {n:number}"),
            Line("Guest moved used index from {n:number} to {other:number}"),
            Line("Guest says index {n:number} is available"),
            Line("Region caches not initialized"),
            Line("Incorrect order for descriptors"),
            Line("Looped descriptor"),
            Line("Virtqueue size exceeded"),
            Line("virtio: bogus descriptor or out of resources"),
            Line("virtio: error trying to map MMIO memory"),
            Line("virtio: zero sized buffers are not allowed"),
            Line("virtio: too many write descriptors in indirect table"),
            Line("virtio: unexpected memory split"),
            Line("Invalid size for indirect buffer table"),
            Line("Cannot map indirect buffer"),
            Line("Cannot map descriptor ring"),
            Line("Cannot map desc", "8.0", "10.1"),
            Line("Cannot map used", "8.0", "10.1"),
            Line("Cannot map avail", "8.0", "10.1"),
            Line(
                "Failed to map descriptor ring for device {device:word}: invalid guest physical"
                " address or corrupted queue setup",
                "10.2",
            ),
            Line(
                "Failed to map used ring for device {device:word}: possible guest misconfiguration"
                " or insufficient memory",
                "10.2",
            ),
            Line(
                "Failed to map avalaible ring for device {device:word}: possible queue"
                " misconfiguration or overlapping memory region",
                "10.2",
            ),
            Line("Desc next is {n:number}"),
        ),
    ),
    Message(
        "vhost-blocks",
        "the source's QEMU does not send the guest: a vhost device of it cannot log which memory it"
        " writes",
        "the backend lacks VHOST_F_LOG_ALL, or the log's memory could not be had; no VFIO device is"
        " involved",
        "use a kernel or vhost-user daemon that has it, or give the interface <driver"
        " name='qemu'/>",
        (
            Line("Migration disabled: vhost lacks VHOST_F_LOG_ALL feature."),
            Line(
                "Migration disabled: vhost-user backend lacks VHOST_USER_PROTOCOL_F_LOG_SHMFD"
                " feature."
            ),
            Line("Migration disabled: failed to allocate shared memory"),
            Line("vhost: Failed to start logging", "10.1"),
            Line("vhost: Failed to stop logging", "10.1"),
        ),
    ),
    Message(
        "vhost-state",
        "the state of a vhost backend (virtiofsd or another daemon) was not transferred",
        "the daemon does not support it, ended, or has another release",
        _BACKEND,
        (
            Line(
                "Back-end of {name:word} device {tag:short} does not support migration through qemu"
            ),
            Line("vhost transport does not support migration state transfer", "8.2"),
            Line("Failed to initiate state transfer:", "8.2"),
            Line("Failed to set up state transfer pipe: {n:text}", "8.2"),
            Line("Failed to send state: Connection is closed", "8.2"),
            Line("Failed to send state", "8.2"),
            Line("Failed to receive state", "8.2"),
            Line("Failed to read state", "8.2"),
            Line("inflight buffer subsection has not been loaded", "11.0"),
        ),
    ),
    Message(
        "vhost-backend",
        "a vhost backend could not be set up",
        "the kernel module (vhost_net, vhost_vsock) or the daemon refused or is not there",
        _BACKEND,
        (
            Line("vhost_set_owner failed"),
            Line("vhost_get_features failed", "8.0", "11.0"),
            Line("vhost_init_features failed", "11.1"),
            Line("vhost_set_vring_call failed {n:number}"),
            Line("vhost_set_config_call failed {n:number}"),
            Line("Failed to initialize virtqueue {n:number}"),
            Line("Failed to set busyloop timeout", "8.0", "11.0"),
            Line("vhost VQ {n:number} notifier binding failed: {other:number}"),
            Line("vhost VQ {n:number} notifier cleanup failed: {other:number}"),
            Line("binding does not support host notifiers"),
            Line(
                "vhost backend memory slots limit is less than current number of present memory"
                " slots",
                "8.0",
                "8.1",
            ),
            Line(
                "vhost backend memory slots limit ({n:number}) is less than current number of used"
                " ({other:number}) and reserved ({more:number}) memory slots for"
                " memory devices.",
                "8.2",
            ),
            Line(
                "used ({n:number}) vhost backend memory slots exceed the device limit"
                " ({other:number}).",
                "10.1",
            ),
            Line("Unknown vhost backend type"),
            Line("Verify ring failure on region {n:number}"),
            Line("Unable to map {n:short} for ring {other:number}"),
            Line("{n:short} relocated for ring {other:number}"),
        ),
    ),
    Message(
        "virtio-offload",
        "the network backend of the destination lacks what the guest's virtio-net uses",
        "the tap device or its kernel has no such offload, or vnet_hdr is off there",
        "use the same kernel and the same kind of interface on both hosts; no VFIO device is"
        " involved",
        (
            Line("virtio-net: saved image requires TUN_F_UFO support", "8.0"),
            Line("virtio-net: saved image requires vnet_hdr=on", "8.0"),
        ),
    ),
    Message(
        "virtio-mem",
        "a virtio-mem device has another setting on the destination: {device}",
        "size, address, block size or node of the device must be equal on both hosts",
        "compare <memory model='virtio-mem'> in the guest's XML on both hosts",
        (
            Line("Property '{device:quoted}' changed from {n:word} to {other:word}"),
            Line("Failed to transfer bitmap size: {device:text}", "8.0"),
        ),
    ),
    Message(
        "virtio-pci",
        "a virtio device was not set up",
        "its properties (disable-modern, disable-legacy, iommu_platform, vectors) do not fit"
        " together",
        "correct them in the guest's XML",
        (
            Line("Device doesn't support modern mode, and legacy mode is disabled"),
            Line("device cannot work as neither modern nor legacy mode is enabled"),
            Line("VIRTIO_F_IOMMU_PLATFORM was supported by neither legacy nor transitional device"),
            Line("iommu_platform=true is not supported by the device"),
            Line("device is modern-only, use disable-legacy=on"),
            Line("notification_data=on without ioeventfd=off is not supported", "9.1"),
        ),
    ),
    Message(
        "performance",
        "a virtio device works, but slower or in another way",
        "the host lacks something that it could use",
        "nothing, where that does not matter to the guest",
        (
            Line("unable to init msix vectors to {n:number}"),
            Line("failed. Fallback to userspace (slower)."),
            Line("device is modern-only, but for backward compatibility legacy is allowed"),
            Line("Balloon used with backing page size > 4kiB, this may not be reliable"),
        ),
        NOTE,
    ),
    Message(
        "virtio-pci",
        "a virtio device's event descriptors could not be made",
        "the host's limit of open files or of ioeventfds is reached",
        "raise max_files in qemu.conf",
        (
            Line("unable to init event notifier: {n:text}"),
            Line("unable to assign ioeventfd: {n:number}"),
        ),
        CONSEQUENCE,
    ),
)

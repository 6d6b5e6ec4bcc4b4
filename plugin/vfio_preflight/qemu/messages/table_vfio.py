"""What QEMU says of VFIO devices' migration: when it is set up, on the source, on the destination.

Sources: QEMU 8.0 to 11.1, ``hw/vfio/migration.c``, ``migration-multifd.c``, ``common.c``,
``listener.c``, ``container*.c``, ``iommufd.c``.
"""

from __future__ import annotations

from .message import NOTE, Line, Message

EQUAL = (
    "use equal drivers, firmware and device configuration on both hosts; 'vfio-preflight check' on"
    " the guest predicts this before a migration"
)
_KERNEL_LOG = (
    "look at the kernel's log of that moment (dmesg: vfio, the device's driver, its firmware) on"
    " the"
    " host that printed this"
)
_WHY_NO_DRIVER = (
    "it does not answer VFIO_DEVICE_FEATURE_MIGRATION: plain vfio-pci never does, and a vendor's"
    " driver only for some devices and settings"
)
_REMEDY_NO_DRIVER = (
    "bind the device to its vendor's VFIO driver (mlx5_vfio_pci, a vGPU manager, …), or detach it"
    " from the guest before migrating"
)
_DIRTY = (
    "without knowing which memory the device writes QEMU would have to send all of it while the"
    " guest stands still"
)
_REMEDY_DIRTY = (
    "use an IOMMU with dirty tracking (iommufd), or accept the pause with enable-migration=on"
)

VFIO: tuple[Message, ...] = (
    Message(
        "vfio-mode",
        "the source's QEMU does not send VFIO device {device} by {mode}",
        "a VFIO device cannot wait for memory that is still on the other host; QEMU says so since"
        " 8.2, before anything is sent",
        "migrate without it (virsh migrate without --postcopy; of Nova"
        " live_migration_permit_post_copy"
        " = false)",
        (Line("{device}: VFIO migration is not supported with {mode:mode}", "8.2"),),
    ),
    Message(
        "vfio-not-supported",
        "the kernel driver of VFIO device {device} does not support migration",
        _WHY_NO_DRIVER,
        _REMEDY_NO_DRIVER,
        (
            Line("{device}: VFIO migration is not supported in kernel", "8.0", "11.0"),
            Line(
                "{device}: VFIO migration init failed: migration is not supported in kernel", "11.1"
            ),
            Line("migration is not supported in kernel", "11.1"),
            Line("VFIO_MIGRATION_STOP_COPY is not supported", "11.1"),
            Line("VFIO migration is not supported", ""),
        ),
    ),
    Message(
        "vfio-not-supported",
        "VFIO device {device} does not support migration",
        "QEMU before 8.0 knows only the first VFIO migration protocol, which kernels have dropped",
        "use a newer QEMU, or detach the device before migrating",
        (
            Line("{device}: VFIO device doesn't support migration", "8.0", "8.0"),
            Line("VFIO device doesn't support migration", "8.0", "8.0"),
        ),
    ),
    Message(
        "vfio-query-failed",
        "the kernel did not answer whether VFIO device {device} can be migrated",
        "its driver failed at VFIO_DEVICE_FEATURE_MIGRATION with another error than 'not known'",
        _KERNEL_LOG,
        (
            Line(
                "{device}: Failed to query VFIO migration support, err: {reason:text}", "8.0", "8.0"
            ),
            Line(
                "{device}: Migration couldn't be initialized for VFIO device, err: {n:number}"
                " ({reason:short})",
                "8.1",
                "11.0",
            ),
            Line("{device}: VFIO migration init failed:", "11.1"),
            Line("failed to query migration flags", "11.1"),
            Line("failed to set precopy info v2", "11.1"),
        ),
    ),
    Message(
        "vfio-disabled",
        "migration of VFIO device {device} was switched off",
        "the guest has enable-migration=off for it",
        "remove the property, or detach the device before migrating",
        (
            Line("{device}: Migration is disabled for VFIO device", "8.1"),
            Line("{device}: Migration disabled", "8.0", "8.0"),
        ),
    ),
    Message(
        "vfio-no-dirty-tracking",
        "neither VFIO device {device} nor the IOMMU tracks which memory the device writes",
        _DIRTY,
        _REMEDY_DIRTY,
        (
            Line("{device}: VFIO device doesn't support device dirty tracking", "8.1", "9.0"),
            Line("{device}: VFIO device doesn't support device and IOMMU dirty tracking", "9.1"),
        ),
    ),
    Message(
        "vfio-no-dirty-tracking",
        "the guest has more memory than the IOMMU of VFIO device {device} can track",
        _DIRTY,
        "use a device that tracks what it writes itself, a guest with less memory, or an IOMMU with"
        " dirty tracking (iommufd)",
        (
            Line(
                "{device}: Migration is currently not supported with large memory VM due to dirty"
                " tracking limitation in backend",
                "11.0",
            ),
        ),
    ),
    Message(
        "vfio-no-dirty-tracking",
        "the IOMMU does not track which memory device {name} writes",
        _DIRTY,
        _REMEDY_DIRTY,
        (Line("IOMMU instance for device {name:quoted} doesn't support dirty tracking", "9.1"),),
        NOTE,
    ),
    Message(
        "vfio-viommu",
        "the source's QEMU does not send VFIO device {device}: it is behind a virtual IOMMU",
        "QEMU 8.0 to 10.2 send no such device, newer ones none that tracks dirty pages itself",
        "detach the device before migrating, or start the guest without a virtual IOMMU",
        (
            Line("{device}: Migration is currently not supported with vIOMMU enabled"),
            Line("Migration is currently not supported with vIOMMU enabled", "8.0", "8.0"),
        ),
    ),
    Message(
        "vfio-several",
        "the source's QEMU does not send the guest, because it has several VFIO devices",
        "the driver of at least one of them has no peer-to-peer state (P2P), in which all of them"
        " stop before any is saved",
        "detach all VFIO devices but one before migrating, or use drivers with P2P support",
        (
            Line(
                "Multiple VFIO devices migration is supported only if all of them support P2P"
                " migration",
                "8.2",
            ),
        ),
    ),
    Message(
        "vfio-several",
        "the source's QEMU does not send the guest, because it has several VFIO devices",
        "QEMU before 8.2 sends one VFIO device at most",
        "detach all VFIO devices but one before migrating, or use a newer QEMU",
        (Line("Migration is currently not supported with multiple VFIO devices", "8.0", "8.1"),),
    ),
)

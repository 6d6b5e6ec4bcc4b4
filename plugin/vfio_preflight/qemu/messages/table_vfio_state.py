"""What QEMU says of VFIO devices while it saves and loads their state, and tracks what they write.

Sources: QEMU 8.0 to 11.1, ``hw/vfio/migration.c``, ``migration-multifd.c``, ``common.c``,
``listener.c``, ``container*.c``, ``backends/iommufd.c``.
"""

from __future__ import annotations

from .message import CONSEQUENCE, Line, Message
from .table_vfio import EQUAL

_KERNEL_LOG = (
    "look at the kernel's log of that moment (dmesg: vfio, the device's driver, its firmware) on"
    " the"
    " host that printed this"
)
_OTHER_STREAM = (
    "the stream is not what this QEMU expects there: the source's QEMU is another release or build,"
    " has other properties for the device, or the connection was cut"
)
_SAME_QEMU = (
    "use the same QEMU package on both hosts, or the same x-migration-* properties of vfio-pci;"
    " look"
    " at the source's log too"
)
_MULTIFD_SETTING = (
    "set x-migration-multifd-transfer of the device, and multifd of the migration (virsh migrate"
    " --parallel), the same on both hosts"
)

STATE: tuple[Message, ...] = (
    Message(
        "vfio-state",
        "the driver of VFIO device {device} refused to change its state to {state}",
        "the driver or the device's firmware gave an error: of RESUMING or STOP on the destination,"
        " it did not accept the state that was sent (another driver or firmware); of STOP_COPY or"
        " PRE_COPY on the source, it could not save it",
        _KERNEL_LOG,
        (
            Line(
                "{device}: Failed setting device state to {state:word}, err: {reason:short}."
                " Recover state is ERROR. Resetting device",
                "8.0",
                "9.0",
            ),
            Line(
                "{device}: Failed setting device state to {state:word}, err: {reason:short}."
                " Setting device in recover state {after:word}",
                "8.0",
                "9.0",
            ),
            Line(
                "{device}: Failed setting device state to {state:word}. Setting device in recover"
                " state {after:word}: {reason:text}",
                "9.1",
            ),
            Line("{device}: Failed setting device state to {state:word}.", "9.1"),
        ),
    ),
    Message(
        "vfio-recover",
        "after the failure VFIO device {device} was put into another state, or reset",
        "it follows a failed change of the device's state",
        "see the line before it; where the device was reset on the source, see whether its driver"
        " in"
        " the guest works",
        (
            Line(
                "{device}: Failed setting device in recover state, err: {reason:short}. Resetting"
                " device"
            ),
            Line("Recover state is ERROR. Resetting device", "9.1"),
            Line("Setting device in recover state {after:word}", "9.1"),
            Line("{device}: Failed resetting device, err: {reason:text}"),
        ),
        CONSEQUENCE,
    ),
    Message(
        "vfio-kernel-bug",
        "the kernel gave QEMU no new data stream for VFIO device {device}, as it has to",
        "one was open already: the device's driver is in a state of an earlier migration, or has a"
        " fault",
        "reset the device (detach and attach it again), update the kernel; " + _KERNEL_LOG,
        (Line("{device}: data_fd out of sync"),),
    ),
    Message(
        "vfio-save-failed",
        "the source could not save VFIO device {device}",
        "reading its state from the driver failed, or QEMU could not keep it",
        _KERNEL_LOG,
        (
            Line("{device}: Failed to save device config space", "8.0", "9.0"),
            Line("vfio: Failed to save device config space of {device} - {reason:text}", "9.1"),
            Line("vfio: Failed to save device config space of {device} -", "9.1"),
            Line("{device}: save setup failed", "9.1"),
            Line("{device}: Failed to allocate migration data buffer"),
            Line("{device}: Invalid device state {n:number}", "9.1"),
            Line("{device}: Estimated {size:word} size overflow: {n:hex}", "11.1"),
            Line(
                "VFIO device {device} ioctl(VFIO_DEVICE_FEATURE) on"
                " VFIO_DEVICE_FEATURE_MIG_DATA_SIZE failed ({n:number})",
                "11.1",
            ),
            Line(
                "VFIO device {device} ioctl(VFIO_MIG_GET_PRECOPY_INFO) failed ({n:number})", "11.1"
            ),
            Line("{device}: Final precopy reinit check failed (err: {n:number})", "11.1"),
            Line("{device}: reading state buffer {n:number} failed: {reason:text}", "10.0", "10.2"),
            Line("{device}: reading state buffer {n:number} failed", "11.0"),
            Line("{device}: multifd data queuing failed", "10.0"),
            Line("{device}: multifd config data queuing failed", "10.0"),
            Line("{device}: save config state flush failed: {n:number}", "10.0"),
            Line("no vfio_get_object handler", "11.1"),
            Line("failed to get object", "11.1"),
        ),
    ),
    Message(
        "vfio-save-failed",
        "the state of a device could not be saved",
        "it is what encloses the failure that another line names",
        "look for the first error above it",
        (Line("Failed to save state", "9.1"), Line("operation cancelled", "10.0")),
        CONSEQUENCE,
    ),
    Message(
        "vfio-load-failed",
        "the driver of VFIO device {device} did not take the state that the source's driver saved",
        "writing it to the driver failed with error {n}: its content is of another driver, firmware"
        " or device, and only the driver knows which",
        _KERNEL_LOG + "; " + EQUAL,
        (Line("{device}: writing state buffer {buffer:number} failed: {n:number}", "10.0"),),
    ),
    Message(
        "load-failed",
        "the configuration space of VFIO device {device} was not accepted",
        "the line before it says which byte; with QEMU before 11.1 it stands in the guest's log on"
        " the destination alone",
        EQUAL,
        (
            Line("{device}: Failed to load device config space"),
            Line("{device}: vfio_load_device_config_state() failed: {n:number}", "10.0"),
        ),
        CONSEQUENCE,
    ),
    Message(
        "vfio-stream",
        "the data of VFIO device {device} in the migration stream is not what was expected there",
        _OTHER_STREAM,
        _SAME_QEMU,
        (
            Line("{device}: Failed loading device config space, end flag incorrect {n:hex}"),
            Line("{device}: SETUP STATE: EOS not found {n:hex}"),
            Line("{device}: Unknown tag {n:hex}"),
            Line("{device}: packet too short at {n:number} (min is {least:number})", "10.0"),
            Line("{device}: packet has unknown version {n:number}", "10.0"),
            Line("{device}: packet index is invalid", "10.0"),
            Line("{device}: state buffer {n:number} already filled", "10.0"),
            Line("{device}: expected FLAG_DEV_CONFIG_STATE but got {n:hex}", "10.0"),
            Line("{device}: duplicate DEV_CONFIG_LOAD_READY", "10.1"),
            Line("{device}: load config state flush failed: {n:number}", "10.0"),
        ),
    ),
    Message(
        "vfio-multifd",
        "VFIO device {device} is sent by other channels than the destination expects",
        "one side transfers its state through multifd channels, and the other does not",
        _MULTIFD_SETTING,
        (
            Line(
                "{device}: got DEV_CONFIG_STATE in main migration channel but doing multifd"
                " transfer",
                "10.0",
            ),
            Line("{device}: got device state packet but not doing multifd transfer", "10.0"),
            Line("{device}: got DEV_CONFIG_LOAD_READY outside multifd transfer", "10.1"),
            Line("{device}: got DEV_CONFIG_LOAD_READY but was disabled", "10.1"),
            Line(
                "{device}: Multifd device transfer requested but unsupported in the current config",
                "10.0",
            ),
        ),
    ),
    Message(
        "vfio-multifd",
        "the state of VFIO device {device} waits in more memory than it may take",
        "x-migration-max-queued-buffers-size limits it, and the driver takes it slower than it"
        " comes",
        "raise that property on the destination, or slow the migration down",
        (
            Line(
                "{device}: queuing state buffer {n:number} would exceed the size max of"
                " {most:number}",
                "10.1",
            ),
        ),
    ),
    Message(
        "vfio-switchover",
        "source and destination disagree whether VFIO device {device} has to agree to the"
        " switchover",
        "the capability switchover-ack of the migration is not set on both sides, or the connection"
        " was lost",
        "start both with the same libvirt and QEMU; look at the source's log too",
        (
            Line("{device}: Received INIT_DATA_SENT but switchover ack is not used", "8.1"),
            Line(
                "{device}: qemu_loadvm_approve_switchover failed, err={n:number} ({reason:short})",
                "8.1",
            ),
        ),
    ),
    Message(
        "vfio-dma-logging",
        "the device or the IOMMU did not track what VFIO devices write to the guest's memory",
        "the kernel refused to start or to report it: the device has no dirty tracking, or too"
        " little"
        " for the guest's memory",
        _KERNEL_LOG + "; a device without it: x-device-dirty-page-tracking=off, or detach it",
        (
            Line(
                "{device}: Failed to start DMA logging, err {n:number} ({reason:short})",
                "8.0",
                "9.0",
            ),
            Line("{device}: Failed to start DMA logging", "9.1"),
            Line("{device}: Failed to stop DMA logging, err {n:number} ({reason:short})"),
            Line(
                "{device}: Failed to get DMA logging report, iova: {iova:hex}, size: {size:hex},"
                " err: {n:number} ({reason:short})",
                "8.0",
                "9.0",
            ),
            Line(
                "{device}: Failed to get DMA logging report, iova: {iova:hex}, size: {size:hex}",
                "9.1",
            ),
            Line("Failed to prepare DMA logging", "9.1"),
            Line(
                "vfio: Could not start dirty page tracking, err: {n:number} ({reason:short})",
                "8.0",
                "9.0",
            ),
            Line(
                "vfio: Could not stop dirty page tracking, err: {n:number} ({reason:short})",
                "8.0",
                "9.0",
            ),
            Line("vfio: Could not start dirty page tracking -", "9.1"),
            Line("vfio: Could not stop dirty page tracking -", "9.1"),
            Line(
                "vfio: Failed to sync dirty bitmap, err: {n:number} ({reason:short})", "8.0", "9.0"
            ),
            Line(
                "vfio_iommu_map_dirty_notify({p:word}, {iova:hex}, {size:hex}) = {n:number}"
                " ({reason:short})",
                "8.0",
                "9.0",
            ),
            Line("vfio_iommu_map_dirty_notify({p:word}, {iova:hex}, {size:hex}) failed -", "9.1"),
            Line("Failed to sync dirty bitmap with RAM discard listener", "9.1"),
            Line(
                "Failed to get dirty bitmap for iova: {iova:hex} size: {size:hex} err: {n:number}",
                "8.0",
                "9.0",
            ),
            Line("Failed to get dirty bitmap for iova: {iova:hex} size: {size:hex}", "9.1"),
            Line("Failed to set dirty tracking flag {flag:hex} errno: {n:number}", "8.0", "9.0"),
            Line("Failed to set dirty tracking flag {flag:hex}", "9.1"),
            Line("Failed to allocate dirty tracking bitmap", "9.1"),
            Line("UNMAP: Size of bitmap too big {size:hex}"),
            Line("VFIO_UNMAP_DMA with DIRTY_BITMAP : {reason:text}"),
            Line("IOMMU_HWPT_GET_DIRTY_BITMAP (iova: {iova:hex} size: {size:hex}) failed", "9.1"),
            Line("IOMMU_HWPT_SET_DIRTY_TRACKING(hwpt_id {n:number}) failed", "9.1"),
        ),
    ),
)

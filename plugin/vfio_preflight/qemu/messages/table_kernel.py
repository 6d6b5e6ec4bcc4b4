"""What the kernel's drivers and vendors' programs say, as far as it is known from reports.

Sources: Linux 6.12, ``drivers/vfio/``; reports of NVIDIA's vGPU manager.
"""

from __future__ import annotations

from .message import NOTE, Line, Message

_EQUAL = "use the same driver and firmware on both hosts, as the vendor's documents ask for"


def _lines(*templates: str) -> tuple[Line, ...]:
    return tuple(Line(template, "") for template in templates)


KERNEL: tuple[Message, ...] = (
    Message(
        "vgpu",
        "NVIDIA's vGPU manager refuses the state: source {received}, destination {local}",
        "it does not take a vGPU from a host with that driver",
        "use vGPU drivers on both hosts that NVIDIA's release notes allow together",
        _lines(
            "vmiop_log: {where:vmiop}: Migration is not supported between host drivers"
            " {received:word} and {local:word}",
            "Migration is not supported between host drivers {received:word} and {local:word}",
        ),
    ),
    Message(
        "vgpu",
        "NVIDIA's vGPU manager failed: {reason}",
        "a vGPU's state was not saved or not taken, for a reason that the manager knows",
        _EQUAL + "; see all lines of nvidia-vgpu-mgr in the journal",
        _lines(
            "vmiop_log: {where:vmiop}: Migration {reason:text}",
            "vmiop_log: {where:vmiop}: Failed {reason:text}",
            "vmiop-env: guest_migration {reason:text}",
        ),
    ),
    Message(
        "driver-resume",
        "the kernel's VFIO driver of {device} reported: {reason}",
        "while a state is saved or resumed: it is of another driver, firmware or device, or the"
        " device"
        " does not answer",
        _EQUAL + "; see the lines around it in the kernel's log of both hosts",
        tuple(
            Line(f"{driver} {{device:device}}: {{reason:complaint}}", "")
            for driver in (
                *("mlx5_vfio_pci", "qat_vfio_pci", "xe_vfio_pci", "hisi-acc-vfio-pci"),
                *("hisi_acc_vfio_pci", "virtio_vfio_pci", "pds_vfio_pci", "pds_vfio_lm"),
                *("nvgrace_gpu_vfio_pci", "nvidia-vgpu-vfio", "mlx5-vfio-pci", "xe-vfio-pci"),
            )
        ),
    ),
    Message(
        "iommu",
        "the IOMMU reported a fault: {reason}",
        "a device wrote or read where it may not",
        "see which device it names; where it is a guest's VFIO device, reset it",
        _lines(
            "DMAR: [DMA {reason:text}",
            "AMD-Vi: Event logged [IO_PAGE_FAULT {reason:text}",
        ),
        NOTE,
    ),
    Message(
        "iommu-group",
        "the kernel does not give device {device} to guests: {reason}",
        "its IOMMU, interrupt remapping or group does not allow it",
        "switch the IOMMU and interrupt remapping on in the firmware; see the group's other"
        " devices",
        _lines(
            "vfio-pci {device:device}: Device is ineligible for IOMMU domain attach {reason:text}",
            "vfio-pci {device:device}: Firmware has requested this device have a 1:1 IOMMU mapping,"
            " {reason:text}",
            "vfio-pci {device:device}: {driver:word}: Failed to setup iommu ops {reason:text}",
            "vfio_iommu_type1_attach_group: No interrupt remapping {reason:text}",
            "vfio_pin_page_external: RLIMIT_MEMLOCK ({reason:number}) exceeded",
            "vfio_pin_pages_remote: RLIMIT_MEMLOCK ({reason:number}) exceeded",
        ),
    ),
    Message(
        "not-ready",
        "device {device} does not answer its driver on the host: {reason}",
        "it did not come back from a reset or from sleep, or has lost its slot or its power",
        "see lspci for it ('rev ff' is a device that is gone); take it off the bus and scan again"
        " (/sys/bus/pci/devices/…/remove, /sys/bus/pci/rescan), or restart the host",
        _lines(
            "vfio-pci {device:device}: not ready {n:number}ms after {reason:text}; giving up",
            "vfio-pci {device:device}: {reason:short}, device inaccessible",
            "vfio-pci {device:device}: timed out waiting for {reason:text}",
            "vfio-pci {device:device}: can't change power state {reason:text}",
            "vfio-pci {device:device}: Refused to change power state {reason:text}",
        ),
    ),
    Message(
        "device-not-opened",
        "vfio-pci could not take device {device}: {reason}",
        "a driver of the host still has its memory or its slot (the console's frame buffer, a"
        " driver that was not unbound)",
        "see /proc/iomem and the device's driver; keep the host's drivers off it (driver_override,"
        " video=efifb:off)",
        _lines(
            "vfio-pci {device:device}: BAR {n:number}: can't reserve {reason:text}",
            "vfio-pci {device:device}: BAR {n:number} [{kind:short}]: can't reserve {reason:text}",
        ),
    ),
    Message(
        "reset",
        "device {device} is being reset by the kernel",
        "after a guest had it, or before one gets it",
        "nothing, if it comes back",
        _lines(
            "vfio-pci {device:device}: not ready {n:number}ms after {reason:short}; waiting",
            "vfio-pci {device:device}: vfio_bar_restore: reset recovery - restoring BARs",
            "vfio-pci {device:device}: Relaying device request to user {n:text}",
        ),
        NOTE,
    ),
)

"""What QEMU says when it realises a VFIO device: at a start, a hot-plug, before a migration.

Sources: QEMU 8.0 to 11.1, ``hw/vfio/pci.c``, ``pci-quirks.c``, ``device.c``, ``region.c``,
``container*.c``, ``iommufd.c``, ``listener.c``, ``display.c``, ``backends/iommufd.c``.
"""

from __future__ import annotations

from .message import CONSEQUENCE, NOTE, Line, Message

_KERNEL_LOG = "look at the kernel's log (dmesg: vfio, iommu, the device's driver) of that moment"
_LOOK = (
    "look at the device ('vfio-preflight state'); repair its driver or firmware, or choose another"
    " device"
)
_PROPERTY = (
    "correct the property in the guest's XML (qemu:commandline, qemu:override) or leave it out"
)

REALISE: tuple[Message, ...] = (
    Message(
        "not-realised",
        "QEMU refuses VFIO device {device} for its PCI capability {id} at {offset}: {reason}",
        "QEMU cannot present it to a guest at that place of the configuration space",
        _LOOK,
        (
            Line("failed to add PCI capability {id:hex}[{size:hex}]@{offset:hex}: {reason:text}"),
            Line("failed to add PCI capability {id:hex}[{size:hex}]@{offset:hex}:"),
            Line(
                "{address:word} Attempt to add PCI capability {id:hex} at offset {offset:hex}"
                " overlaps existing capability {other:hex} at offset {reason:hex}"
            ),
        ),
    ),
    Message(
        "not-realised",
        "QEMU refuses VFIO device {device}: what it presents is not what a PCI device has",
        "its driver gives another number of regions or interrupts, or a register that cannot be",
        _LOOK,
        (
            Line("unexpected number of io regions {n:number}"),
            Line("unexpected number of irqs {n:number}"),
            Line("invalid PCI interrupt pin {n:number}", "11.1"),
            Line("invalid MSI-X BIR, table_bar={n:number} pba_bar={other:number}", "11.1"),
            Line("hardware reports invalid configuration, MSIX PBA outside of specified BAR"),
            Line("assignment of PCIe type {n:hex} devices is not currently supported"),
            Line("table & pba overlap, or they don't fit in BARs, or don't align"),
            Line("The number of MSI-X vectors is invalid"),
            Line("MSI-X is not supported by interrupt controller"),
            Line("MSI is not supported by interrupt controller"),
            Line("unexpected VGA info, flags {n:hex}, size {size:hex}"),
            Line("vfio: Placing PASID capability at offset {n:hex} failed", "11.0"),
            Line(
                "{where:word}: overlapping sparse mmap regions detected in region {n:number}",
                "11.0",
            ),
        ),
    ),
    Message(
        "not-realised",
        "the kernel did not let QEMU read what it needs of VFIO device {device}",
        "the device's driver failed, or the device does not answer",
        _KERNEL_LOG,
        (
            Line("failed to get config info"),
            Line("failed to read device config space"),
            Line("failed to get region {n:number} info"),
            Line("failed to get MSI-X irq info", "8.2"),
            Line("failed getting region info for VGA region index {n:number}"),
            Line("failed reading MSI PCI_CAP_FLAGS"),
            Line("failed to read PCI MSIX FLAGS"),
            Line("failed to read PCI MSIX TABLE"),
            Line("failed to read PCI MSIX PBA"),
            Line("failed to read PCI_INTERRUPT_PIN", "11.1"),
            Line("vfio_pci_read_config({device}, {at:hex}, {n:hex}) failed: {reason:text}"),
            Line("vfio_region_read({device}:region{n:word}, {size:number}) failed: {reason:text}"),
            Line("vfio: Error getting ROM info"),
            Line("vfio: Error reading device ROM"),
            Line("vfio: Failed to read BAR {n:number}"),
            Line("vfio-pci: Cannot read device rom at {node:word}", "8.0", "11.0"),
            Line("vfio-pci: Device ROM size is zero at {node:word}", "11.1"),
        ),
    ),
    Message(
        "not-ready",
        "VFIO device {device} does not wake up: it stays in power state D{n}",
        "it does not answer, is being reset, or its slot has no power (its configuration space"
        " reads"
        " ff then)",
        "see lspci for the device: 'rev ff' is a device that is gone; reset it or restart the"
        " host; " + _KERNEL_LOG,
        (Line("vfio: Unable to power on device, stuck in D{n:number}"),),
    ),
    Message(
        "interrupts",
        "the interrupts of VFIO device {device} could not be set up",
        "the kernel gave QEMU fewer vectors or event descriptors than it asked for",
        "raise the limit of open files of QEMU (max_files in qemu.conf); " + _KERNEL_LOG,
        (
            Line("vfio: Error: Failed to setup MSI fds: {reason:text}"),
            Line("vfio: Error: Failed to enable {n:number} MSI vectors, retry with {other:number}"),
            Line("vfio: Error: Failed to enable MSI"),
            Line("vfio: failed to enable vectors, {reason:text}"),
            Line("vfio: failed to enable MSI-X, {reason:text}", "8.2"),
            Line("vfio: msix_set_vector_notifiers failed"),
            Line("vfio: Error: event_notifier_init failed", "8.0", "10.0"),
            Line("vfio: Unable to init event notifier for error detection", "8.0", "10.0"),
            Line("vfio: Unable to init event notifier for device request", "8.0", "10.0"),
            Line("vfio: Error: Failed to disable INTx irqfd: {reason:text}"),
            Line("vfio_notifier_init {name:word} failed", "10.1"),
            Line("event_notifier_init failed", "8.0", "10.0"),
            Line("failed to setup resample irqfd"),
            Line("Failed to {what:short} eventfd signaling for interrupt"),
            Line("VFIO_DEVICE_SET_IRQS failure"),
            Line("Failed to remove vfio ioeventfd for {device:text}"),
        ),
    ),
    Message(
        "no-error-recovery",
        "VFIO device {device} does not report errors of its own (AER)",
        "QEMU says so of every mediated device, and of others without AER; it works without",
        "nothing",
        (Line("vfio {device}: Could not enable error recovery for the device"),),
        NOTE,
    ),
    Message(
        "device-io",
        "an access of the guest to VFIO device {device} failed",
        "the kernel or the device refused it: the device does not answer, or is being reset",
        _KERNEL_LOG,
        (
            Line(
                "vfio_pci_write_config({device}, {at:hex}, {value:hex}, {n:hex}) failed:"
                " {reason:text}"
            ),
            Line(
                "vfio_region_write({device}:region{n:word}, {value:hex},{size:number}) failed:"
                " {reason:text}"
            ),
            Line("vfio_vga_read(,{at:hex}, {size:number}) failed: {reason:text}"),
            Line("vfio_vga_write(,{at:hex}, {value:hex}, {size:number}) failed: {reason:text}"),
            Line("vfio_display_region_update: vfio_region_mmap({n:number}): {reason:text}"),
            Line(
                "vfio_display_region_update: vfio_region_setup({n:number}): {reason:text}",
                "8.0",
                "10.2",
            ),
            Line("ioctl VFIO_DEVICE_QUERY_GFX_PLANE: {reason:text}"),
            Line("Failed to mmap {device} BAR {n:number}. Performance may be slow"),
            Line("vfio: failed to read GFX edid field", "9.1"),
        ),
        NOTE,
    ),
    Message(
        "device-error",
        "VFIO device {device} reported an error that it cannot recover from",
        "a fatal PCIe error (AER), or the device was removed; QEMU stops the guest",
        _KERNEL_LOG + "; then reset or exchange the device",
        (
            Line(
                "Unrecoverable error detected. Please collect any data possible and then kill the"
                " guest"
            ),
        ),
    ),
    Message(
        "no-reset",
        "VFIO device {device} cannot be reset",
        "it has no function-level reset, and others share its bus",
        "nothing, where the guest works; see /sys/bus/pci/devices/*/reset_method",
        (
            Line("vfio: Cannot reset device {device}, no available reset mechanism."),
            Line("vfio: hot reset info failed: {reason:text}"),
            Line("reset bar {n:number} failed: {reason:text}"),
        ),
        NOTE,
    ),
    Message(
        "property",
        "a property of VFIO device {device} is not one that QEMU accepts for it",
        "its value is wrong, or it needs another property or another device",
        _PROPERTY,
        (
            Line("invalid PCI vendor ID provided"),
            Line("invalid PCI device ID provided"),
            Line("invalid PCI subsystem vendor ID provided"),
            Line("invalid PCI subsystem device ID provided"),
            Line("invalid PCI class code provided", "10.1"),
            Line("ramfb=on requires display=on"),
            Line("xres and yres properties need edid support"),
            Line("xres and yres properties require display=on"),
            Line("x-balloon-allowed only potentially compatible with mdev devices"),
            Line("x-ramfb-migrate requires enable-migration", "8.2"),
            Line("device does not support requested feature x-vga"),
            Line("Invalid MSI-X relocation BAR {n:number}"),
            Line("No automatic MSI-X relocation available for device {ids:word}"),
            Line("NVIDIA GPUDirect Clique ID: {reason:text}"),
            Line("Failed to add NVIDIA GPUDirect cap:"),
            Line("Failed to add VMD MEMBAR Shadow cap:"),
            Line("VMD {name:word} cannot read MEMBARs ({n:number})"),
            Line("Use FD passing only with iommufd backend", "9.0"),
            Line("vfio device with fd={n:number} needs an id property", "10.1"),
            Line(
                "vfio-pci: ats=on requested, but host device has no ATS extended capability", "11.1"
            ),
            Line("vfio-pci: ATS requested but not supported by kernel", "11.1"),
            Line("vfio-display-dmabuf: opengl not available"),
            Line("vfio: device doesn't support any (known) display method"),
        ),
    ),
    Message(
        "rom",
        "the option ROM of VFIO device {device} was not used or looks wrong",
        "the device has none that can be read, or is known for one that does harm",
        "give romfile=, or rombar=0, in the guest's XML (<rom file=…/> or <rom bar='off'/>), the"
        " same"
        " on both hosts",
        (
            Line("Device option ROM contents are probably invalid (check dmesg)."),
            Line("Skip option ROM probe with rombar=0, or load from file with romfile="),
            Line(
                "Device at {device} is known to cause system instability issues during option rom"
                " execution"
            ),
            Line(
                "Rom loading for device at {device} has been disabled due to system instability"
                " issues"
            ),
            Line("Proceeding anyway since user specified romfile"),
            Line("Proceeding anyway since user specified non zero value for rombar", "8.0", "9.2"),
            Line("Proceeding anyway since user specified positive value for rombar", "10.0"),
            Line("Specify rombar=1 or romfile to force"),
            Line("{name:short} ROM access failed", "10.1"),
        ),
        NOTE,
    ),
    Message(
        "performance",
        "VFIO device {device} works, but not in every way, or slower",
        "this host or its kernel lacks something that it could use",
        "nothing, where that does not matter to the guest",
        (
            Line("PCI peer-to-peer transactions on BARs are not supported.", "10.0"),
            Line("PCI p2p may not work", "8.2", "9.2"),
            Line("failed to vfio_dma_map. pci p2p may not work", "8.0", "8.1"),
            Line("VFIO dma-buf not supported in kernel", "11.0"),
            Line("failed to create dma-buf: PCI BAR IOMMU mappings may fail", "11.0", "11.0"),
            Line("dma-buf unavailable, using mmap fallback, P2P DMA will not work", "11.1"),
            Line(
                "vfio-pci: host kernel reports ATS unsupported; ATS capability will be masked",
                "11.1",
            ),
            Line("x-ramfb-migrate=on but ramfb=off. Forcing x-ramfb-migrate to off.", "8.2"),
            Line("Using vfio with vIOMMUs and coordinated discarding of RAM"),
            Line("Fallback to default 64bit IOVA range and 4K page size", "9.0"),
        ),
        NOTE,
    ),
    Message(
        "property-missing",
        "the QEMU here does not know property {property} of {type}",
        "it is older or newer than the QEMU that the XML was written for, or another distributor's",
        "leave the property out of the guest's XML (qemu:commandline, qemu:override), or use a QEMU"
        " that has it",
        (Line("Property '{type}.{property:quoted}' not found", ""),),
    ),
    Message(
        "not-realised",
        "the device could not be added to the guest",
        "the line that it stands in says why",
        "look at the rest of the line",
        (Line("unable to execute QEMU command 'device_add': {reason:text}", ""),),
        CONSEQUENCE,
    ),
)

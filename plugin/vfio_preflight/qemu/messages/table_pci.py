"""What QEMU says of PCI devices of any kind, and of the guest's memory blocks.

Sources: QEMU 8.0 to 11.1, ``hw/pci/pci.c``, ``pcie.c``, ``pcie_sriov.c``, ``shpc.c``,
``system/physmem.c``, ``migration/ram.c``.
"""

from __future__ import annotations

from .message import CONSEQUENCE, NOTE, Line, Message

_ADDRESSES = "correct the <address> elements of the guest's XML, and compare them on both hosts"
_MEMORY = (
    "give the guest the same memory on both hosts (size, maxMemory, DIMMs, hot-plugged ones"
    " included); of a firmware or ROM, the same package"
)
_OTHER_QEMU = "use the same QEMU package on both hosts"

PCI: tuple[Message, ...] = (
    Message(
        "bad-config-data",
        "a byte of a PCI device's configuration space was not accepted",
        "source and destination have another value where the guest relies on it",
        "see the whole line in the guest's log on the destination",
        (
            Line(
                "get_pci_config_device: Bad config data: i={offset:hex} read: {stream:hex} device:"
                " {device:hex} cmask: {cmask:hex} wmask: {wmask:hex} w1cmask:{w1cmask:hex}"
            ),
            # As somebody copied or wrapped it.
            Line(
                "get_pci_config_device: Bad config data: i={offset:hex} read: {stream:hex} device:"
                " {device:hex} cmask: {cmask:hex} wmask: {wmask:hex} w1cmask: {w1cmask:hex}",
                "",
            ),
        ),
    ),
    Message(
        "irq-state",
        "the interrupt state of a PCI device in the stream is none: {n}",
        "it must be 0 or 1: what was read before it was read to another length than it was written"
        " with (configuration spaces of 256 and 4096 bytes, another QEMU build)",
        "use equal devices, drivers and QEMU packages on both hosts",
        (Line("irq state {n:number}: must be 0 or 1."),),
    ),
    Message(
        "pci-address",
        "the guest's PCI devices do not fit together: {reason}",
        "two devices have one address, or a slot cannot take the device",
        _ADDRESSES,
        (
            Line(
                "PCI: slot {n:number} function {f:number} not available for {device:word},"
                " {reason:text}"
            ),
            Line(
                "PCI: slot {n:number} function 0 already occupied by {device:word}, new func"
                " {reason:word} cannot be exposed to guest."
            ),
            Line("PCI: slot {n:number} is not valid for {device:word}, {reason:text}", "8.1"),
            Line("PCI: no slot/function available for {device:word}, {reason:text}"),
            Line("PCI: single function device can't be populated in function {reason:word}"),
            Line(
                "PCI: {n:word} indicates single function, but {reason:word} is already populated."
            ),
            Line("PCI: Only PCI/PCIe bridges can be plugged into {reason:word}"),
            Line("Invalid PCI device address {reason:word} for device {device:word}"),
            Line("No support for non-zero PCI domains"),
            Line("a PCI device with acpi-index = {n:number} already exist"),
            Line("acpi-index should be less or equal to {n:number}"),
            Line(
                "Bridge chassis not specified. Each bridge is required to be assigned a unique"
                " chassis id > 0."
            ),
            Line("Unsupported PCI slot {n:number} for standard hotplug controller."),
            Line("No primary PCI bus", "8.0", "8.2"),
            Line("device not attached to a PCI bus", "11.1"),
        ),
    ),
    Message(
        "hot-plug",
        "the port or bridge did not take, or give up, the device",
        "it has no hot-plug, or the guest is busy with the slot",
        "choose another port (a pcie-root-port with hotplug on), or wait for the guest and try"
        " again",
        (
            Line("Hot-plug failed: unsupported by the port device '{device:quoted}'"),
            Line("Hot-unplug failed: unsupported by the port device '{device:quoted}'"),
            Line("Hot-unplug failed: guest is busy (power indicator blinking)"),
            Line("slot is electromechanically locked"),
            Line("Failed to unplug:", "8.0", "9.2"),
            Line("Hot-plugged device without ROM bar can't have an option ROM"),
            Line("migration: partially unplugged device on failure"),
        ),
    ),
    Message(
        "failover",
        "the device cannot be the primary of a failover pair",
        "it has to be a network device on a PCIe bus, in a slot of its own",
        "correct the guest's XML (<teaming>)",
        (
            Line("failover primary device must be on PCIExpress bus"),
            Line("failover primary device is not an Ethernet device"),
            Line("failover: primary device must be in its own PCI slot"),
        ),
    ),
    Message(
        "rom-file",
        "the option ROM {file} cannot be used",
        "the file is missing, empty or larger than the ROM that the guest has (romsize)",
        "install the package with the ROMs (ipxe-qemu), the same on both hosts; or give romfile and"
        " romsize",
        (
            Line('failed to find romfile "{file:quoted}"'),
            Line('failed to load romfile "{file:quoted}"'),
            Line('romfile "{file:quoted}" is empty'),
            Line('romfile "{file:quoted}" too large (size cannot exceed 2 GiB)'),
            Line(
                'romfile "{file:quoted}" ({n:number} bytes) is too large for ROM size {size:number}'
            ),
            Line("ROM size {n:number} is not a power of two"),
            Line("ROM BAR cannot be enabled for SR-IOV VF", "10.1"),
        ),
    ),
    Message(
        "sriov",
        "an emulated SR-IOV device is not built as it must be",
        "its virtual functions do not fit to its physical function",
        "correct the guest's command line; it concerns no VFIO device",
        (
            Line("VF addr overflows", "10.0"),
            Line("PCI Express is required for SR-IOV {n:word}", "10.1"),
            Line("PCI device specified as SR-IOV PF already exists", "10.1"),
            Line("SR-IOV VF parent bus mismatches with PF", "10.1"),
            Line("SR-IOV VF vendor ID mismatches with PF", "10.1"),
            Line("a VF function number is less than the PF function number", "10.1"),
            Line("a device cannot be a SR-IOV PF and a VF at the same time", "10.1"),
            Line("attaching user-created SR-IOV VF unsupported", "10.1"),
            Line("inconsistent SR-IOV {n:text}", "10.1"),
            Line("user cannot create SR-IOV VF with this device type", "10.1"),
        ),
    ),
    Message(
        "ram-size",
        "memory block '{block}' has {received} bytes on the source and {local} on the destination",
        "the guest's memory, a device's memory or a ROM is of another size there",
        _MEMORY,
        (
            Line("Size mismatch: {block:word}: {received:hex} != {local:hex}"),
            Line("Length mismatch: {block:word}: {received:hex} in != {local:hex}", ""),
            Line("Size too large: {block:word}: {received:hex} > {local:hex}"),
        ),
    ),
    Message(
        "ram-missing",
        "the source sent memory block '{block}', which the destination's guest does not have",
        "the guests were started with other memory, devices or firmware, or by other QEMU builds",
        _MEMORY,
        (
            Line('Unknown ramblock "{block:quoted}", cannot accept migration'),
            Line("block '{block:quoted}' not found"),
        ),
    ),
    Message(
        "ram-block",
        "the source sent memory block '{block}', which the destination's guest does not have in"
        " that"
        " form",
        "the guests were started with other memory, devices or firmware, or by other QEMU builds",
        _MEMORY,
        (
            Line("Can't find block {block:word}"),
            Line("block {block:word} should not be migrated !"),
            Line(
                "Mismatched RAM page size {block:word} (local) {local:number} != {received:number}"
            ),
            Line("Mismatched GPAs for block {block:word} {received:number}!= {local:number}"),
            Line("Illegal RAM offset {block:hex}"),
            Line("RAM block '{block:quoted}' resized during precopy."),
            Line("RAM block not found", "8.2"),
        ),
    ),
    Message(
        "ram-stream",
        "the guest's memory in the stream is not in a form that the destination reads",
        "the source has another QEMU build or settings, or the stream was damaged",
        _OTHER_QEMU + "; compare the settings of the migration (compression, multifd, mapped-ram)",
        (
            Line("Unknown combination of migration flags: {n:hex}"),
            Line("Ack, bad migration stream!"),
            Line("Failed to load XBZRLE page - {n:text}"),
            Line("Failed to decompress XBZRLE page"),
            Line("Received an unexpected compressed page", "8.0", "9.0"),
            Line("Invalid compressed data length: {n:number}", "8.0", "9.0"),
            Line("decompress data failed", "8.0", "8.0"),
            Line(
                "Migration mapped-ram capability version not supported (expected <= {n:number}, got"
                " {other:number})",
                "9.0",
            ),
            Line(
                "Migration mapped-ram header has invalid page_size {n:number} (expected"
                " {other:number})",
                "11.1",
            ),
            Line("Could not read whole mapped-ram migration header", "9.0"),
            Line("Error reading ramblock {n:word} pages, region has bad alignment", "9.0"),
            Line("page outside of ramblock {n:word} range", "9.0"),
        ),
    ),
    Message(
        "no-memory",
        "this host has not the memory that the guest needs",
        "there is too little, too few huge pages, or a limit on it",
        "free memory or huge pages of the right size and node on this host, or choose another",
        (
            Line("cannot set up guest memory '{block:quoted}': {reason:text}"),
            Line("cannot set up guest memory '{block:quoted}'"),
            Line("unable to map backing store for guest RAM"),
            Line("can't open backing store {block:word} for guest RAM"),
        ),
    ),
    Message(
        "performance",
        "the guest's memory cannot be given back to the host as wished",
        "it does not matter for a migration",
        "nothing",
        (Line("Failed to discard range {n:text}"),),
        NOTE,
    ),
    Message(
        "device-lost",
        "the device was not set up",
        "the line before it, or the rest of it, says why",
        "look there",
        (Line("Device initialization failed", "8.0"),),
        CONSEQUENCE,
    ),
)

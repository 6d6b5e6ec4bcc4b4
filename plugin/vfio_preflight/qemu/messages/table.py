"""The table of QEMU's and libvirt's lines about failed migrations: how to find one, what it means.

In old and new wording: 11.1 says "Failed to load vmstate version_id" where older releases write
"Failed to load PCIDevice:config", and hands to libvirt what else stands in the guest's log alone.

Sources: QEMU 10.0.2 and 11.1, ``hw/pci/pci.c``, ``migration/savevm.c``, ``migration/vmstate.c``,
``hw/vfio/migration.c``; libvirt 11.3, ``src/qemu/qemu_capabilities.c``.
"""

from __future__ import annotations

import re

from ...osutil.light import NamedTuple


class Message(NamedTuple):
    """A kind of line: how to find it, and what it means; texts take the pattern's groups.

    ``literal`` is a piece that every such line has. Only around it is there a search for
    ``pattern``, in which no repetition is without a bound: lines of a log may have any length.
    """

    kind: str
    literal: str
    pattern: re.Pattern[str]
    what: str
    why: str
    remedy: str


_DEVICE = r"(?:(?P<device>[0-9a-fA-F:.-]{1,64}): )?"
_QUOTED = r"'(?P<{}>[^']{{1,256}})'"
_WHY_LACKING = (
    "it is older than the QEMU the guest was started with, or so new that it has dropped the type,"
    " or another distributor's"
)
_REMEDY_LACKING = "migrate to a host whose QEMU has the machine type"
_WHY_NO_DRIVER = (
    "it does not answer VFIO_DEVICE_FEATURE_MIGRATION: plain vfio-pci never does, and a vendor's"
    " driver only for some devices and settings"
)
_REMEDY_NO_DRIVER = (
    "bind the device to its vendor's VFIO driver (mlx5_vfio_pci, a vGPU manager, …), or detach it"
    " from the guest before migrating"
)
_UNSUPPORTED = "[Uu]nsupported machine type"
_MACHINE = r"(?P<machine>[\w.+-]{1,64})"

EQUAL = (
    "use equal drivers, firmware and device configuration on both hosts; 'vfio-preflight check' on"
    " the guest predicts this before a migration"
)

MESSAGES: tuple[Message, ...] = (
    Message(
        "unknown-section",
        "Unknown savevm section",
        re.compile(
            rf"Unknown savevm section or instance {_QUOTED.format('device')}"
            r" (?P<instance>\d{1,10})"
        ),
        "the source sent the state of '{device}', which the destination's guest does not have",
        "source and destination were started with different devices, or with the same ones at other"
        " PCI addresses, or a VFIO device there has no migration support",
        "compare the guest's XML on both hosts, hot-plugged devices included",
    ),
    # Before the next one, whose words these begin with.
    Message(
        "vfio-mode",
        "VFIO migration is not supported with ",
        re.compile(
            rf"{_DEVICE}VFIO migration is not supported with"
            r" (?P<mode>postcopy migration|background snapshot)"
        ),
        "the source's QEMU does not send VFIO device {device} by {mode}",
        "a VFIO device cannot wait for memory that is still on the other host; QEMU says so since"
        " 8.2, before anything is sent",
        "migrate without it (virsh migrate without --postcopy)",
    ),
    Message(
        "vfio-not-supported",
        "migration is not supported in kernel",
        re.compile(rf"{_DEVICE}VFIO migration init failed: migration is not supported in kernel"),
        "the kernel driver of VFIO device {device} does not support migration",
        _WHY_NO_DRIVER,
        _REMEDY_NO_DRIVER,
    ),
    Message(
        "vfio-not-supported",
        "VFIO migration is not supported",
        re.compile(rf"{_DEVICE}VFIO migration is not supported(?: in kernel)?"),
        "the kernel driver of VFIO device {device} does not support migration",
        _WHY_NO_DRIVER,
        _REMEDY_NO_DRIVER,
    ),
    Message(
        "vfio-not-supported",
        "VFIO device doesn't support migration",
        re.compile(rf"{_DEVICE}VFIO device doesn't support migration"),
        "VFIO device {device} does not support migration",
        "QEMU before 8.0 knows only the first VFIO migration protocol, which kernels have dropped",
        "use a newer QEMU, or detach the device before migrating",
    ),
    Message(
        "vfio-disabled",
        "Migration is disabled for VFIO device",
        re.compile(rf"{_DEVICE}Migration is disabled for VFIO device"),
        "migration of VFIO device {device} was switched off",
        "the guest has enable-migration=off for it",
        "remove the property, or detach the device before migrating",
    ),
    Message(
        "vfio-no-dirty-tracking",
        "VFIO device doesn't support device ",
        re.compile(rf"{_DEVICE}VFIO device doesn't support device (?:and IOMMU )?dirty tracking"),
        "neither VFIO device {device} nor the IOMMU tracks which memory the device writes",
        "without that QEMU would have to send all memory in the time the guest stands still",
        "use an IOMMU with dirty tracking (iommufd), or accept the pause with enable-migration=on",
    ),
    Message(
        "vfio-viommu",
        "Migration is currently not supported with vIOMMU enabled",
        re.compile(rf"{_DEVICE}Migration is currently not supported with vIOMMU enabled"),
        "the source's QEMU does not send VFIO device {device}: it is behind a virtual IOMMU",
        "QEMU 8.0 to 10.2 send no such device, newer ones none that tracks dirty pages itself",
        "detach the device before migrating, or start the guest without a virtual IOMMU",
    ),
    Message(
        "unmigratable",
        "State blocked by non-migratable device",
        re.compile(rf"State blocked by non-migratable device {_QUOTED.format('device')}"),
        "the source's QEMU does not send the guest, because it has device {device}",
        "QEMU cannot save what state it has; every VFIO PCI device of s390x has such a 'zpci'",
        "detach the device before migrating",
    ),
    *(
        Message(
            "vfio-several",
            literal,
            re.compile(literal),
            "the source's QEMU does not send the guest, because it has several VFIO devices",
            why,
            "detach all VFIO devices but one before migrating, or use drivers with P2P support",
        )
        for literal, why in (
            (
                "Multiple VFIO devices migration is supported only if all of them support P2P"
                " migration",
                "the driver of at least one of them has no peer-to-peer state (P2P), in which all"
                " of them stop before any is saved",
            ),
            (
                "Migration is currently not supported with multiple VFIO devices",
                "QEMU before 8.2 sends one VFIO device at most",
            ),
        )
    ),
    Message(
        "machine-differs",
        "Machine type received is",
        re.compile(
            rf"Machine type received is {_QUOTED.format('received')}"
            rf" and local is {_QUOTED.format('local')}"
        ),
        "the guest runs with machine type {received} on the source and {local} on the destination",
        "a guest's machine type cannot change while it runs",
        "start the destination with machine type {received}; give the guest a versioned name",
    ),
    Message(
        "machine-missing",
        "does not support machine type",
        re.compile(
            rf"[Ee]mulator {_QUOTED.format('emulator')} does not support machine type"
            rf" {_QUOTED.format('machine')}"
        ),
        "{emulator} on the destination has no machine type {machine}",
        _WHY_LACKING,
        _REMEDY_LACKING,
    ),
    *(
        Message(
            "machine-missing",
            "nsupported machine type",
            re.compile(pattern),
            f"the emulator {lacks}",
            _WHY_LACKING,
            _REMEDY_LACKING,
        )
        for pattern, lacks in (
            # Today's QEMU names it, some older repeat the option, and some (7.2) say no more.
            (rf"{_UNSUPPORTED}:? ['\"]{_MACHINE}['\"]", "has no machine type {machine}"),
            (
                rf"-(?:machine|M) (?:type=)?{_MACHINE}(?:,[^:]{{0,256}})?: {_UNSUPPORTED}",
                "has no machine type {machine}",
            ),
            (_UNSUPPORTED, "lacks the guest's machine type, or its accelerator"),
        )
    ),
    Message(
        "not-realised",
        ": failed to add PCI capability ",
        re.compile(
            r"vfio (?P<device>[0-9a-fA-F:.-]{1,64}): failed to add PCI capability"
            r" (?P<id>0x[0-9a-f]{1,2})\[0x[0-9a-f]{1,4}\]@(?P<offset>0x[0-9a-f]{1,4}):"
            r" (?P<reason>[^\r\n]{1,256})"
        ),
        "QEMU refuses VFIO device {device} for its PCI capability {id} at {offset}: {reason}",
        "QEMU cannot present it to a guest at that place of the configuration space",
        "look at it ('vfio-preflight state {device}'); repair the device's driver or firmware, or"
        " choose another device",
    ),
    Message(
        "load-failed",
        ": Failed to load device config space",
        re.compile(r"(?P<device>[0-9a-fA-F:.-]{1,64}): Failed to load device config space"),
        "the configuration space of VFIO device {device} was not accepted",
        "the line before it says which byte; with QEMU before 11.1 it stands in the guest's log on"
        " the destination alone",
        EQUAL,
    ),
    Message(
        "load-failed",
        "Failed to load ",
        re.compile(
            r"Failed to load (?P<what>vmstate version_id: ?\d{1,10}|[\w/-]{1,64}:[\w/ -]{1,64})"
        ),
        "QEMU could not take over a part of the guest's state ({what})",
        "it is what encloses the failure that another line names",
        "look for 'Bad config data' or another first cause above it",
    ),
    Message(
        "migration-failed",
        "load of migration failed",
        re.compile(r"load of migration failed(?:: (?P<detail>[^\r\n]{1,256}))?"),
        "QEMU on the destination stopped loading; the guest kept running on the source",
        "the cause stands in /var/log/libvirt/qemu/GUEST.log on the destination",
        "run 'vfio-preflight explain' on that log",
    ),
)

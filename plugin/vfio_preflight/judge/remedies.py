"""What can be done about a finding, in the few words that a refusal's first line has room for.

>>> in_short(codes.SOURCE_UNKNOWN, guest="g1")
'on the source, run: vfio-preflight record g1'

The findings' own remedies say the same with all that matters; the lines below the first have them.
One row for each code of a finding that can be the reason of a refusal.
"""

from __future__ import annotations

from . import codes
from .codes import Code

# Bytes in UTF-8: with these, the byte that differs and the device have room in 200.
LONGEST = 70
# Of a guest's name; a longer one is not cut in a command that is to be typed.
_NAME = 20
# For codes of a newer version, in a report that another host answered with.
OTHERWISE = "see the lines below"

_EQUAL = "use equal drivers and firmware, or another destination"
_DEVICE = "repair the device on the destination, or choose another host"
_BUILD = "choose a host with the source's build of QEMU, or restart the guest"
_REPORT = "choose another host, and report the case below"

REMEDIES: dict[Code, str] = {
    codes.VSC_BODY_TOLERATED: "use equal drivers, or set tolerated = annotate on the destination",
    codes.VSC_BODY_DIFFERS: "use equal drivers on both hosts",
    codes.VSC_CHECK_UNDECIDED: "use equal drivers, or have the emulator tried (trial = always)",
    codes.CONFIG_DIFFERS: _EQUAL,
    codes.CONFIG_SIZE_DIFFERS: _EQUAL,
    codes.ATOMIC_OPS_DIFFER: "choose a host whose root ports complete the same AtomicOps",
    codes.BUILDS_DIFFER: "choose a host with the source's QEMU release, or restart the guest",
    codes.ROM_FILE_NAMED: "choose a host with the source's QEMU, or restart the guest",
    codes.SOURCE_EMULATOR_UNKNOWN: "on the source, run again: vfio-preflight record {guest}",
    codes.BAR_SIZE_DIFFERS: _EQUAL,
    codes.PASID_UNDECIDED: "use hosts with equal PASID support, or disable PASID",
    codes.REALISE_ERROR: _DEVICE,
    codes.REALISE_ABORT: _DEVICE,
    codes.REALISE_HANG: _DEVICE,
    codes.LOAD_ABORT: _EQUAL,
    codes.SOURCE_NOT_REALISABLE: "capture the state of the source's device again",
    codes.SOURCE_UNKNOWN: "on the source, run: vfio-preflight record {guest}",
    codes.DESTINATION_UNKNOWN: "put a state file of the device into /var/lib/vfio-preflight/states",
    codes.RECORD_DAMAGED: "on the source, run again: vfio-preflight record {guest}",
    codes.EVIDENCE_CONTRADICTS: "capture the state again, or remove the file that is wrong",
    codes.EVIDENCE_WEAK: "provide better evidence, or require less: [policy] evidence",
    codes.REFUSED_BEFORE: "choose another host, or see: vfio-preflight history",
    codes.PLACEMENT_ASSUMED: "give complete XML, as virsh dumpxml prints it",
    codes.NETWORK_UNRESOLVED: "define the network on the destination",
    codes.NOTHING_JUDGED: "look at its other devices of the host, if any, by hand",
    codes.UNJUDGED_REFUSED: "detach the device before migrating",
    codes.GUEST_TOO_LARGE: "make the guest's XML smaller, or allow: unknown = annotate",
    codes.NOT_CHECKED: "correct that, or set on-error = allow on the destination",
    codes.VENDOR_RULE_UNDECIDED: "make both hosts alike, or choose another destination",
    codes.MACHINE_MISSING: "choose a destination whose QEMU has the machine type",
    codes.ARCH_MISMATCH: "correct the guest's <emulator>, or the arch of its <type>",
    codes.ARCH_UNDECIDED: "make sure that the emulator has the guest's architecture",
    codes.EMULATOR_TOO_OLD: "migrate to a host with QEMU 8.0 or newer",
    codes.EMULATOR_UNKNOWN: "make sure that the emulator runs on the destination",
    codes.DRIFT_REFUSED: _BUILD,
    codes.DRIFT_UNDECIDED: _BUILD,
    codes.ROM_SIZE_DIFFERS: "install the source's option ROMs (ipxe, seabios) there",
    codes.TYPE_MISSING: "choose a host whose QEMU has it, or take the device away",
    codes.SETTING_MISSING: "choose a host whose QEMU has the property",
    codes.TRIAL_REFUSES: _REPORT,
    codes.TRIAL_DIFFERS: _REPORT,
    codes.TRIAL_ACCEPTS: "report the case below; tolerated = annotate lets it pass",
    codes.DEVICE_ABSENT: "create the device there, or name another by --xml",
    codes.DEVICE_IN_USE: "free the device, or name another by --xml",
    codes.DEVICE_UNBOUND: "bind the device to its vendor's VFIO driver",
    codes.DEVICE_GROUP: "bind its group's other devices to vfio-pci, or unbind them",
    codes.DEVICE_OTHER_KIND: "use a device of the same model and type",
    codes.POOL_EXHAUSTED: "free a VF of the network, or choose another host",
    codes.SOURCE_VIOMMU: "detach the VFIO devices, or start without a virtual IOMMU",
    codes.SOURCE_BOARD: "detach the VFIO devices before migrating",
    codes.SOURCE_SEVERAL: "detach all VFIO devices but one before migrating",
    codes.SOURCE_DIRTY_TRACKING: "start the guest without x-device-dirty-page-tracking=off",
    codes.SOURCE_UNDECIDED: "detach the VFIO devices before migrating",
    codes.TWIN_REFUSED: "choose a host with the source's QEMU build and ROMs",
    codes.TWIN_UNDECIDED: "see what QEMU names, or choose another host",
    codes.TWIN_BLOCKED: "detach the device that QEMU names before migrating",
    codes.PROPERTY_UNKNOWN: "remove the property, or choose a host with a newer QEMU",
    codes.PROPERTY_INVALID: "correct the property in the guest's XML",
    codes.MIGRATION_DISABLED: "remove the property, or detach the device before migrating",
    codes.DEVICE_NOT_MIGRATABLE: "bind the device to its vendor's VFIO driver, or detach it",
}
# The same for a device on which skip-vsc-check can be set and helps. It is the commonest, and
# short enough for the host's address to have room beside it.
MENDABLE: dict[Code, str] = {
    codes.VSC_BODY_DIFFERS: "equal drivers, or mend: vsc-tolerant = {identity}",
}


def in_short(code: str, guest: str, identity: str = "", mendable: bool = False) -> str:
    """The remedy for ``code``; ``identity`` is the device's ``vendor:device``."""
    known = codes.CODES.get(code)
    text = OTHERWISE if known is None else REMEDIES.get(known, OTHERWISE)
    if known is not None and mendable and identity:
        text = MENDABLE.get(known, text)
    name = guest if len(guest.encode("utf-8", "replace")) <= _NAME else "GUEST"
    return text.format(guest=name, identity=identity)

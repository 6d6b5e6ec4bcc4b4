"""Finding codes: the stable names that operators' scripts, annotations and logs rely on.

One table, :data:`CODES`, and a constant for each row. A code carries what the rest of the pipeline
decides by, so that nothing compares names:

    >>> REALISE_HANG, REALISE_HANG.verdict, REALISE_HANG.blocks_always
    ('realise-hang', 'fail', True)
"""

from __future__ import annotations

from .code import CODES as CODES
from .code import COMPARE as COMPARE
from .code import REALISE as REALISE
from .code import SOURCE as SOURCE
from .code import Code as Code
from .codes_drift import DRIFT as DRIFT
from .codes_drift import DRIFT_NOT_COMPARED as DRIFT_NOT_COMPARED
from .codes_drift import DRIFT_REFUSED as DRIFT_REFUSED
from .codes_drift import DRIFT_UNDECIDED as DRIFT_UNDECIDED
from .codes_drift import ROM_FILE_NAMED as ROM_FILE_NAMED
from .codes_drift import ROM_SIZE_DIFFERS as ROM_SIZE_DIFFERS
from .codes_drift import SETTING_MISSING as SETTING_MISSING
from .codes_drift import SOURCE_EMULATOR_UNKNOWN as SOURCE_EMULATOR_UNKNOWN
from .codes_drift import TYPE_DEPRECATED as TYPE_DEPRECATED
from .codes_drift import TYPE_MISSING as TYPE_MISSING
from .codes_twin import TWIN_ACCEPTED as TWIN_ACCEPTED
from .codes_twin import TWIN_BLOCKED as TWIN_BLOCKED
from .codes_twin import TWIN_NOT_RUN as TWIN_NOT_RUN
from .codes_twin import TWIN_REFUSED as TWIN_REFUSED
from .codes_twin import TWIN_UNCOVERED as TWIN_UNCOVERED
from .codes_twin import TWIN_UNDECIDED as TWIN_UNDECIDED
from .verdicts import FAIL, PASS, TOLERATED, UNKNOWN

# --- config space ---------------------------------------------------------------------------------

CONFIG_IDENTICAL = Code(
    "config-identical", PASS, "all bytes that QEMU compares are equal on both hosts"
)
VSC_BODY_TOLERATED = Code(
    "vsc-body-tolerated",
    TOLERATED,
    "Vendor Specific Information differs, in bytes that skip-vsc-check exempts",
)
VSC_BODY_DIFFERS = Code(
    "vsc-body-differs",
    FAIL,
    "Vendor Specific Information differs and QEMU compares it for this machine type",
    COMPARE,
)
VSC_CHECK_UNDECIDED = Code(
    "vsc-check-undecided",
    UNKNOWN,
    "Vendor Specific Information differs and it is not known whether QEMU compares it",
    COMPARE,
)
CONFIG_DIFFERS = Code(
    "config-differs",
    FAIL,
    "a compared byte outside Vendor Specific Information differs",
    COMPARE,
)
CONFIG_SIZE_DIFFERS = Code(
    "config-size-differs", FAIL, "256 bytes of configuration space against 4096", COMPARE
)
BAR_SIZE_DIFFERS = Code(
    "bar-size-differs",
    UNKNOWN,
    "a BAR differs in size; whether QEMU notices depends on the address programmed into it",
)
NOT_DECIDED = Code(
    "not-decided",
    PASS,
    "bits that a state cannot tell, of BARs or of a physical device in use, were not compared",
)
ATOMIC_OPS_DIFFER = Code(
    "atomic-ops-differ",
    FAIL,
    "the roots of the two hosts complete other AtomicOps, and the guest's root port says which",
    COMPARE,
)
BUILDS_DIFFER = Code(
    "builds-differ",
    FAIL,
    "the QEMU builds of the two hosts make different bytes of one and the same device",
    COMPARE,
)
PASID_UNDECIDED = Code(
    "pasid-undecided",
    UNKNOWN,
    "QEMU may add a PASID capability to the device; whether it does on both hosts is not known",
)
REALISE_ERROR = Code(
    "realise-error", FAIL, "QEMU on the destination refuses to realise the device", REALISE
)
REALISE_ABORT = Code(
    "realise-abort", FAIL, "QEMU on the destination would abort or crash on the device", REALISE
)
REALISE_HANG = Code(
    "realise-hang",
    FAIL,
    "QEMU on the destination would hang on the device forever",
    REALISE,
    blocks_always=True,
)
LOAD_ABORT = Code(
    "load-abort",
    FAIL,
    "QEMU on the destination would abort while loading the device's state, or soon after",
)
SOURCE_NOT_REALISABLE = Code(
    "source-not-realisable",
    UNKNOWN,
    "no guest can be running with the source's state: QEMU would not realise the device",
    SOURCE,
)

# --- states and evidence --------------------------------------------------------------------------

SOURCE_UNKNOWN = Code(
    "source-unknown", UNKNOWN, "it is not known what the source will send for the device"
)
DESTINATION_UNKNOWN = Code(
    "destination-unknown", UNKNOWN, "it is not known what the destination's device presents"
)
RECORD_DAMAGED = Code(
    "record-damaged", UNKNOWN, "the guest's record, or its entry for a device, is damaged"
)
RECORD_STRAY = Code(
    "record-stray", PASS, "the record has an entry for a device that the guest does not have"
)
RECORD_LATE = Code(
    "record-late",
    PASS,
    "the record was made long after QEMU started; earlier changes are not in it",
)
IMAGE_UNREAD = Code(
    "image-unread",
    PASS,
    "the save image could not be read, or lacks the device; the record was used instead",
)
EVIDENCE_CONTRADICTS = Code(
    "evidence-contradicts",
    UNKNOWN,
    "two pieces of evidence of one device's state cannot both be right",
)
EVIDENCE_WEAK = Code(
    "evidence-weak",
    UNKNOWN,
    "a state's evidence is weaker than the policy requires; the state is ignored",
)
STATE_INFERRED = Code(
    "state-inferred",
    PASS,
    "the destination's bytes were not read; everything that determines them equals the source's",
)
REFUSED_BEFORE = Code(
    "refused-before",
    UNKNOWN,
    "QEMU on the destination refused a device with the same traits before; see `history`",
)
PLACEMENT_ASSUMED = Code(
    "placement-assumed",
    UNKNOWN,
    "it is not known where the guest sees the device, and the verdict depends on it",
)
NETWORK_UNRESOLVED = Code(
    "network-unresolved",
    UNKNOWN,
    "it is not known whether one of the guest's networks provides VFIO devices",
)
NOT_CHECKED = Code(
    "not-checked", UNKNOWN, "the check could not be made; the on-error policy decided"
)
NOTHING_JUDGED = Code(
    "nothing-judged", UNKNOWN, "the guest has no VFIO PCI device: nothing was checked"
)
UNJUDGED_REFUSED = Code(
    "unjudged-refused",
    UNKNOWN,
    "libvirt or QEMU is known to refuse a device of the guest's that is not judged",
)
GUEST_TOO_LARGE = Code(
    "guest-too-large", UNKNOWN, "the guest's XML is larger than what is read of any guest"
)
GUEST_POLICY_UNUSABLE = Code(
    "guest-policy-unusable",
    PASS,
    "an action requested in the guest's own policy does not exist; it is ignored",
)
GUEST_POLICY_REFUSED = Code(
    "guest-policy-refused",
    PASS,
    "the guest's own policy asks for less than the host's; guest-override does not allow that",
)

# --- vendors' rules -------------------------------------------------------------------------------

VENDOR_RULE = Code(
    "vendor-rule", PASS, "what the vendor's driver may refuse by itself; the verdict stays"
)
VENDOR_RULE_UNDECIDED = Code(
    "vendor-rule-undecided",
    UNKNOWN,
    "what the vendor's driver may refuse by itself, by a rule that says verdict = unknown",
)
VENDOR_RULES_UNREAD = Code(
    "vendor-rules-unread", PASS, "a file of vendors' rules could not be read; it is ignored"
)

# --- machine and emulator -------------------------------------------------------------------------

MACHINE_MISSING = Code(
    "machine-missing", FAIL, "the destination's emulator lacks the guest's machine type"
)
EMULATOR_TOO_OLD = Code(
    "emulator-too-old",
    FAIL,
    "the destination's emulator (QEMU before 8.0) cannot migrate VFIO devices",
)
MACHINE_ALIAS = Code(
    "machine-alias", PASS, "the machine type is an alias; libvirt replaces it by its target"
)
MACHINE_DEPRECATED = Code(
    "machine-deprecated", PASS, "the machine type is deprecated and will be removed"
)
ARCH_MISMATCH = Code(
    "arch-mismatch", FAIL, "the emulator does not emulate the guest's architecture"
)
ARCH_UNDECIDED = Code(
    "arch-undecided",
    UNKNOWN,
    "the emulator may not emulate the guest's architecture, or the check was not tried on it",
)
EMULATOR_UNKNOWN = Code(
    "emulator-unknown", UNKNOWN, "the destination's emulator could not be queried"
)
COMPAT_UNKNOWN = Code(
    "compat-unknown",
    PASS,
    "the emulator (QEMU before 9.1) does not report the compat properties of machine types",
)
SKIP_VSC_CHECK = Code(
    "skip-vsc-check", PASS, "whether QEMU compares Vendor Specific Information, and why"
)
STOP_TIME = Code(
    "stop-time", PASS, "how much device state is sent while the guest stands still, as far as known"
)
MENDED_AHEAD = Code(
    "mended-ahead",
    PASS,
    "skip-vsc-check is set on a device of which a state is not known, as vsc-tolerant allows",
)
EMULATOR_UNVERIFIED = Code(
    "emulator-unverified",
    PASS,
    "the model was not verified on the release of the destination's emulator",
)

# --- trial ----------------------------------------------------------------------------------------

TRIAL_AGREES = Code("trial-agrees", PASS, "the emulator was tried and does what the model predicts")
TRIAL_REFUSES = Code(
    "trial-refuses",
    FAIL,
    "the emulator was tried and refuses, where the model predicts success",
)
TRIAL_DIFFERS = Code(
    "trial-differs",
    FAIL,
    "the emulator was tried and refuses in another way than the model predicts",
)
TRIAL_ACCEPTS = Code(
    "trial-accepts",
    TOLERATED,
    "the emulator was tried and accepts, where the model predicts a refusal",
)
TRIAL_UNAVAILABLE = Code("trial-unavailable", PASS, "a trial was requested and could not be made")

# --- readiness of the destination's device, in dry runs ------------------------------------------

DEVICE_ABSENT = Code(
    "device-absent", UNKNOWN, "the destination lacks the device now; it may be made yet"
)
DEVICE_IN_USE = Code("device-in-use", FAIL, "somebody has the destination's device open now")
DEVICE_UNBOUND = Code("device-unbound", UNKNOWN, "the device there is bound to no VFIO driver now")
DEVICE_PLAIN_DRIVER = Code(
    "device-plain-driver", PASS, "the device there is bound to vfio-pci itself"
)
DEVICE_GROUP = Code(
    "device-group",
    UNKNOWN,
    "the device's IOMMU group has others in it that the destination itself uses",
)
DEVICE_OTHER_KIND = Code(
    "device-other-kind", UNKNOWN, "the device there is of another model or type"
)
DEVICE_PLACE = Code("device-place", PASS, "NUMA node, IOMMU group and parent of the device")
POOL_LEFT = Code("pool-left", PASS, "the VFs left in a network that the guest takes one from")
POOL_EXHAUSTED = Code("pool-exhausted", FAIL, "a network has fewer VFs left than the guest takes")

# --- what the source's QEMU refuses to send -------------------------------------------------------

SOURCE_VIOMMU = Code(
    "source-viommu",
    FAIL,
    "the source's QEMU refuses to send a VFIO device behind a virtual IOMMU",
)
SOURCE_BOARD = Code("source-board", FAIL, "QEMU sends no VFIO device of the guest's board")
SOURCE_SEVERAL = Code(
    "source-several",
    FAIL,
    "the source's QEMU refuses to send several VFIO devices that do not all support P2P",
)
SOURCE_DIRTY_TRACKING = Code(
    "source-dirty-tracking",
    FAIL,
    "the source's QEMU refuses to send a VFIO device whose writes nothing tracks",
)
SOURCE_UNDECIDED = Code(
    "source-undecided",
    UNKNOWN,
    "the source's QEMU may refuse to send the guest; its release, or a fact, is not certain",
)

# --- device ---------------------------------------------------------------------------------------

PROPERTY_UNKNOWN = Code(
    "property-unknown", FAIL, "a property set on the device does not exist in the emulator"
)
PROPERTY_INVALID = Code(
    "property-invalid",
    FAIL,
    "a property set on the device has a value that QEMU rejects",
    REALISE,
)
MIGRATION_DISABLED = Code("migration-disabled", FAIL, "the device has enable-migration=off")
DEVICE_NOT_MIGRATABLE = Code(
    "device-not-migratable",
    FAIL,
    "the driver of the source's or the destination's device does not support migration",
)
FAILOVER_UNPLUGGED = Code(
    "failover-unplugged",
    PASS,
    "a failover (teaming) device is unplugged before migration; nothing is compared",
)

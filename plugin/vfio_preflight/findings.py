"""What the checks say: findings, the verdict they add up to, and the report that holds them."""

from __future__ import annotations

from typing import NamedTuple

from .guest.domain import GuestDevice
from .pci.state import ConfigState
from .qemu.vfio_pci import Mismatch
from .verdicts import FAIL, PASS, TOLERATED, UNKNOWN, worst


class Code(NamedTuple):
    """A stable finding code, the verdict it leads to, and its meaning for the documentation."""

    verdict: str
    meaning: str


CODES = {
    # config space
    "config-identical": Code(PASS, "every byte QEMU compares is equal on both hosts"),
    "vsc-body-tolerated": Code(
        TOLERATED, "Vendor Specific Information differs, in bytes that skip-vsc-check exempts"
    ),
    "vsc-body-differs": Code(
        FAIL, "Vendor Specific Information differs and this guest's machine type compares it"
    ),
    "vsc-check-undecided": Code(
        UNKNOWN, "Vendor Specific Information differs and it is not known whether QEMU compares it"
    ),
    "config-differs": Code(FAIL, "a compared byte outside Vendor Specific Information differs"),
    "config-size-differs": Code(FAIL, "256 bytes of configuration space against 4096"),
    "bar-size-differs": Code(
        UNKNOWN, "a BAR has another size; whether QEMU notices depends on the address in it"
    ),
    "pasid-undecided": Code(
        UNKNOWN, "QEMU may add a PASID capability to the device; whether both hosts do is not known"
    ),
    "realise-error": Code(FAIL, "QEMU on the destination refuses to realise the device"),
    "realise-abort": Code(FAIL, "QEMU on the destination would abort or crash on the device"),
    "realise-hang": Code(FAIL, "QEMU on the destination would hang on the device, for ever"),
    "load-abort": Code(
        FAIL, "QEMU on the destination would abort while it loads the device's state, or soon after"
    ),
    "source-not-realisable": Code(
        UNKNOWN, "the source's state cannot be that of a running guest: QEMU would not realise it"
    ),
    # states
    "source-unknown": Code(UNKNOWN, "it is not known what the source will send for the device"),
    "destination-unknown": Code(UNKNOWN, "it is not known what the destination's device presents"),
    "record-damaged": Code(UNKNOWN, "the guest's record, or its entry for a device, is damaged"),
    "record-stray": Code(PASS, "the record has an entry for a device the guest does not have"),
    "record-late": Code(
        PASS, "the record was made long after QEMU started; what changed before is not in it"
    ),
    "image-unread": Code(
        PASS, "the save image could not be read, or lacks the device; the record was used instead"
    ),
    "evidence-contradicts": Code(
        UNKNOWN, "two pieces of evidence of one device's state cannot both be right"
    ),
    "evidence-weak": Code(
        UNKNOWN, "a state's evidence is weaker than the policy demands; it does not count"
    ),
    "state-inferred": Code(
        PASS, "the destination's bytes were not seen; all that determines them is as at the source"
    ),
    "placement-assumed": Code(
        UNKNOWN, "where the guest sees the device is not known, and the verdict depends on it"
    ),
    "network-unresolved": Code(
        UNKNOWN, "it is not known whether one of the guest's networks hands out VFIO devices"
    ),
    "not-checked": Code(UNKNOWN, "the check could not be made; the on-error policy decided"),
    "guest-policy-unusable": Code(
        PASS, "a wish in the guest's own policy does not exist; it does not count"
    ),
    # machine and emulator
    "machine-missing": Code(FAIL, "the destination's emulator lacks the guest's machine type"),
    "emulator-too-old": Code(
        FAIL, "the destination's emulator (QEMU before 8.0) cannot migrate VFIO devices"
    ),
    "machine-alias": Code(
        PASS, "the machine type is an alias; libvirt replaces it by the type it stands for"
    ),
    "machine-deprecated": Code(PASS, "the machine type is deprecated and will be removed"),
    "emulator-unknown": Code(UNKNOWN, "the destination's emulator could not be asked"),
    "compat-unknown": Code(
        PASS, "the emulator (QEMU before 9.1) does not tell the compat properties of machine types"
    ),
    "skip-vsc-check": Code(PASS, "whether QEMU compares Vendor Specific Information, and why"),
    "emulator-unverified": Code(
        PASS, "the model was not verified on the release of the destination's emulator"
    ),
    # trial
    "trial-agrees": Code(PASS, "the emulator itself was tried and says what the model says"),
    "trial-refuses": Code(
        FAIL, "the emulator itself was tried and refuses; the model saw no reason"
    ),
    "trial-differs": Code(
        FAIL, "the emulator itself was tried and refuses otherwise than the model says"
    ),
    "trial-accepts": Code(
        TOLERATED, "the emulator itself was tried and accepts what the model would refuse"
    ),
    "trial-unavailable": Code(PASS, "a trial was wanted and could not be made"),
    # device
    "property-unknown": Code(FAIL, "a property set on the device does not exist in the emulator"),
    "property-invalid": Code(FAIL, "a property set on the device has a value QEMU does not take"),
    "migration-disabled": Code(FAIL, "the device has enable-migration=off"),
    "device-not-migratable": Code(
        FAIL, "the driver of the source's or the destination's device offers no migration"
    ),
    "failover-unplugged": Code(
        PASS, "a failover (teaming) device is unplugged before migration; nothing is compared"
    ),
}


class Finding(NamedTuple):
    """One fact.

    ``text`` is a sentence for an operator, ``remedy`` what can be done about it. ``mismatches`` are
    the bytes it speaks of, by offset; the first of a device's is the one QEMU would name.
    """

    code: str
    text: str
    remedy: str = ""
    mismatches: tuple[Mismatch, ...] = ()

    @property
    def verdict(self) -> str:
        """What this finding alone leads to."""
        return CODES[self.code].verdict


class DeviceReport(NamedTuple):
    """The findings on one device, and the states they rest on.

    ``mendable``: every failing byte is Vendor Specific Information, and the emulator has
    ``skip-vsc-check``. ``quote`` is the line QEMU on the destination would fail with, or empty.
    """

    device: GuestDevice
    source: ConfigState | None
    destination: ConfigState | None
    findings: tuple[Finding, ...]
    mendable: bool = False
    quote: str = ""

    @property
    def verdict(self) -> str:
        """The worst of its findings."""
        return worst(finding.verdict for finding in self.findings)


class Report(NamedTuple):
    """Everything known about a guest's move to a destination.

    ``emulator`` is a description for people, e.g. ``QEMU 10.0.2 (/usr/bin/qemu-system-x86_64)``.
    """

    guest: str
    uuid: str
    machine: str
    emulator: str
    findings: tuple[Finding, ...]
    devices: tuple[DeviceReport, ...]

    @property
    def verdict(self) -> str:
        """The worst of the guest's and its devices'."""
        own = [finding.verdict for finding in self.findings]
        return worst([*own, *(device.verdict for device in self.devices)])

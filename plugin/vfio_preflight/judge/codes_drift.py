"""Codes of findings on two builds of QEMU; :mod:`.codes` has them all."""

from __future__ import annotations

from .code import Code
from .verdicts import FAIL, PASS, UNKNOWN

DRIFT_REFUSED = Code(
    "drift-refused",
    FAIL,
    "a property differs between the two builds of QEMU, and QEMU is known to refuse that",
)
DRIFT_UNDECIDED = Code(
    "drift-undecided",
    UNKNOWN,
    "a property differs between the two builds of QEMU; what it does hangs on the guest",
)
DRIFT = Code(
    "drift",
    PASS,
    "a property differs between the two builds of QEMU; what it does is not known",
)
DRIFT_NOT_COMPARED = Code(
    "drift-not-compared", PASS, "the properties of the two builds of QEMU could not be compared"
)
ROM_SIZE_DIFFERS = Code(
    "rom-size-differs",
    FAIL,
    "the option ROM of an emulated device has another size on the destination",
)
ROM_FILE_NAMED = Code(
    "rom-file-named",
    FAIL,
    "the QEMU builds of the two hosts call the memory of a device's ROM file by different names",
)
SOURCE_EMULATOR_UNKNOWN = Code(
    "source-emulator-unknown",
    UNKNOWN,
    "the verdict depends on the release of the source's QEMU, which is not known",
)
TYPE_MISSING = Code(
    "type-missing", FAIL, "the destination's emulator lacks a device type that the guest uses"
)
TYPE_DEPRECATED = Code(
    "type-deprecated", PASS, "a device type or property of the guest's will be removed from QEMU"
)
SETTING_MISSING = Code(
    "setting-missing",
    UNKNOWN,
    "a property set on an emulated device does not exist in the destination's emulator",
)

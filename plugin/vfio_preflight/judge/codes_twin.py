"""Finding codes of the whole machine's trial; a part of the table in ``codes``."""

from __future__ import annotations

from .code import Code
from .verdicts import FAIL, PASS, UNKNOWN

TWIN_ACCEPTED = Code(
    "twin-accepted",
    PASS,
    "the destination's QEMU loads the guest's twin, as the source's QEMU saved it",
)
TWIN_REFUSED = Code(
    "twin-refused",
    FAIL,
    "the destination's QEMU does not load the guest's twin, as the source's QEMU saved it",
)
TWIN_BLOCKED = Code(
    "twin-blocked",
    FAIL,
    "the source's QEMU refuses to send the guest's twin, or ends with it as it is to send it",
)
TWIN_UNDECIDED = Code(
    "twin-undecided",
    UNKNOWN,
    "the guest's twin fails on the destination, for a reason that may not be the guest's",
)
TWIN_NOT_RUN = Code(
    "twin-not-run",
    PASS,
    "the guest's twin could not be tried: nothing is said of the guest's other devices",
)
TWIN_UNCOVERED = Code(
    "twin-uncovered",
    PASS,
    "what of the guest was not in its twin, and so was not tried",
)

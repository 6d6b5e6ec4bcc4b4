"""What a vendor's driver checks by itself when it takes over a device's state.

No rule makes a verdict ``fail``: rules say what is likely, by sources that contradict each other or
are about other releases. Source: ``etc/vendor-rules.d``, where each rule names its own.
"""

from __future__ import annotations

from ...guest.traits import ALWAYS, DIFFERS, Traits, VendorRule, module_of
from ...osutil.text import printable
from .. import codes
from ..context import Context
from ..facts import DeviceFacts
from ..findings import Finding

# The traits that a host reports have at most so many characters (host.traits); a guest's record can
# say anything.
_LENGTH = 128


def check_vendor(context: Context, facts: DeviceFacts) -> tuple[Finding, ...]:
    """A finding for each vendor's rule that applies to the device, by its traits on both sides."""
    # Without traits of the source's device it is not known which driver sends the state; a device
    # that is unplugged sends none.
    if facts.entry is None or context.is_unplugged_to_migrate:
        return ()
    there, here = facts.entry.traits, facts.traits
    return tuple(
        _finding(rule, there, here) for rule in context.rules if _applies(rule, there, here)
    )


def _applies(rule: VendorRule, there: Traits, here: Traits) -> bool:
    if rule.condition == ALWAYS:
        # By the source alone: libvirt may bind the destination's device only at the start.
        return rule.concerns(there)
    if not rule.concerns(there) or not rule.concerns(here):
        return False
    # The versions of two drivers say nothing about each other.
    if rule.trait == "driver-version" and module_of(there.driver) != module_of(here.driver):
        return False
    compared = str if rule.condition == DIFFERS else _branch
    a, b = compared(there.named(rule.trait)), compared(here.named(rule.trait))
    # What is missing on one side is unknown, which is no known difference.
    return bool(a and b) and a != b


def _branch(version: str) -> str:
    """The part of a dotted version before its first dot; empty if it is no such version."""
    major, dot, _ = version.partition(".")
    # srcversion:... and linux:... have no branches.
    return major if dot and major.isascii() and major.isdecimal() else ""


def _finding(rule: VendorRule, there: Traits, here: Traits) -> Finding:
    values = ""
    if rule.trait:
        a, b = (_shown(traits.named(rule.trait)) for traits in (there, here))
        # A record is made where the guest was started, which need not be the last host.
        values = f"{rule.trait} is {a} by the guest's record and {b} here: "
    code = codes.VENDOR_RULE_UNDECIDED if rule.undecided else codes.VENDOR_RULE
    return Finding(code, f"{values}{rule.text} ({rule.source}, {rule.date})", rule.remedy)


def _shown(value: str) -> str:
    return printable(value, _LENGTH) or "not known"

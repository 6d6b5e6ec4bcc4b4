"""The checks of the guest as a whole, each loaded where there is something to check.

The hook's start counts, and few guests have what these look for.
"""

from __future__ import annotations

from .facts import Facts
from .findings import Finding


def check_whole(facts: Facts) -> tuple[Finding, ...]:
    """Findings that are of no VFIO device."""
    return (*_unjudged(facts), *_guest(facts), *_drift(facts), *_twin(facts))


def _drift(facts: Facts) -> tuple[Finding, ...]:
    if facts.builds is None:
        return ()
    from .checks.drift import check_drift

    return check_drift(facts)


def _guest(facts: Facts) -> tuple[Finding, ...]:
    told = (facts.strays, facts.guest.unresolved, facts.image_problems, facts.rule_problems)
    if not any(told):
        return ()
    from .checks.guest import check_guest

    return check_guest(facts)


def _unjudged(facts: Facts) -> tuple[Finding, ...]:
    if facts.guest.devices and not facts.guest.unjudged:
        return ()
    from .checks.unjudged import check_unjudged

    return check_unjudged(facts.guest, facts.saved)


def _twin(facts: Facts) -> tuple[Finding, ...]:
    if facts.twin is None:
        return ()
    from .checks.twin import check_twin

    return check_twin(facts.twin)

"""Model and, where it is wanted, trial: what hook and command call to have a guest judged."""

from __future__ import annotations

from .configuration import ALWAYS, WHEN_UNVERIFIED
from .findings import Finding, Report
from .preflight import Facts, preflight
from .qemu.machines import EmulatorFacts
from .qemu.versions import is_verified, verified_versions


def examined(facts: Facts, wish: str, end: float) -> Report:
    """The model's report, and the trial's where ``wish`` (``[hook] trial``) wants it."""
    report = preflight(facts)
    emulator = facts.emulator
    if not isinstance(emulator, EmulatorFacts):
        return report
    verified = is_verified(emulator.version)
    tried = wish == ALWAYS or (wish == WHEN_UNVERIFIED and not verified)
    if not verified:
        report = report._replace(findings=(*report.findings, unverified(emulator, tried)))
    if tried:
        from .proof import proved

        return proved(report, facts.guest, emulator, end)
    return report


def unverified(emulator: EmulatorFacts, tried: bool) -> Finding:
    """The notice that the model was not checked against this emulator; to be tried if it is not."""
    known = ", ".join(verified_versions())
    text = f"the model was not verified on QEMU {emulator.version}; verified are {known}"
    remedy = "" if tried else "have the emulator itself tried: --trial, or trial in [hook]"
    return Finding("emulator-unverified", text, remedy)

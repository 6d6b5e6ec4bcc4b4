"""THE pipeline: facts -> report. Hook, dry run and save-image check all come through here.

    report = examine(facts, settings.trial, try_states)
    decision = decide(report, settings.policy, settings.vsc_tolerant)

The model judges first; where ``trial_mode`` demands it, the emulator itself is tried as well.
"""

from __future__ import annotations

from ..osutil.light import TYPE_CHECKING
from ..pci.state import Missing
from ..qemu.emulator.machines import EmulatorFacts
from ..qemu.model.versions import is_covered
from . import codes
from .facts import Facts
from .findings import Finding, Report
from .model import preflight
from .verdicts import ALWAYS, WHEN_UNVERIFIED

if TYPE_CHECKING:
    from .confirm import TryStates


def examine(facts: Facts, trial_mode: str, try_states: TryStates) -> Report:
    """The model's report, confirmed by a trial where ``trial_mode`` (``[hook] trial``) says so."""
    report = preflight(facts)
    emulator = facts.emulator
    # No emulator, no trial; EMULATOR_UNKNOWN is in the report already.
    if isinstance(emulator, Missing):
        return report
    verified = is_covered(emulator.version, facts.verified)
    tried = trial_mode == ALWAYS or (trial_mode == WHEN_UNVERIFIED and not verified)
    # Independent of the trial: a trial confirms one pair of states, not the model.
    if not verified:
        notice = unverified(emulator, facts.verified, tried)
        report = report._replace(findings=(*report.findings, notice))
    if tried:
        # Imported late: it brings the trial's modules, which few checks need.
        from .confirm import confirm

        return confirm(report, facts.guest, emulator, try_states)
    return report


def unverified(emulator: EmulatorFacts, verified: tuple[str, ...], tried: bool) -> Finding:
    """The notice that the model was not verified on this emulator's release."""
    text = f"the model was not verified on QEMU {emulator.version}; it was on {', '.join(verified)}"
    remedy = (
        ""
        if tried
        else "have the emulator itself tried: check --trial, or trial = always in [hook]"
    )
    return Finding(codes.EMULATOR_UNVERIFIED, text, remedy)

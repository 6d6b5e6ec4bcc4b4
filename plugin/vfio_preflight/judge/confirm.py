"""Confirming a report by a trial: the model's predictions against what the emulator itself does.

Where both exist they must agree on the outcome, on whose device is not realised, and on the line
that QEMU fails with. Where they differ, the trial is right, because it *is* QEMU, and
the disagreement is a finding with everything that a bug report needs.

Pure: ``try_states``, which runs the emulator, is passed in (``gather.trials``).
"""

from __future__ import annotations

import json
from collections.abc import Callable

from .. import __version__
from ..guest.domain import Guest
from ..osutil.light import NamedTuple
from ..pci.state import ConfigState
from ..qemu.emulator.machines import EmulatorFacts
from ..qemu.trial.case import to_case
from ..qemu.trial.endings import ABORT, CRASH, ERROR, FAIL, HANG, PASS, Result
from ..qemu.trial.setting import Setting
from . import codes
from .checks.config_space import REMEDY_TRY
from .checks.machine import SKIP_VSC_CHECK
from .codes import COMPARE, REALISE
from .codes import SOURCE as SOURCE_STAGE
from .context import context_of
from .findings import SOURCE, DeviceReport, Finding, Prediction, Report
from .setting import setting_of

VERBS = {
    PASS: "accepts",
    FAIL: "refuses",
    ERROR: "refuses",
    ABORT: "aborts on",
    CRASH: "crashes on",
    HANG: "hangs on",
}
# Stages of which predictions cannot be right, by how far QEMU came: one that loaded the state had
# realised both devices, and one that completed had no fault to find.
_REFUTED = {PASS: (REALISE, SOURCE_STAGE, COMPARE), FAIL: (REALISE, SOURCE_STAGE)}


class Attempt(NamedTuple):
    """A trial's result on one device, or why there is none."""

    result: Result | None
    reason: str = ""


# Source, destination, and what surrounds the device on the destination.
TryStates = Callable[[ConfigState, ConfigState, Setting], Attempt]


class Trial(NamedTuple):
    """A trial that came to a result, and everything that a bug report needs beside it."""

    emulator: EmulatorFacts
    setting: Setting
    source: ConfigState
    destination: ConfigState
    predicted: Prediction
    result: Result

    def sentence(self, rest: str) -> str:
        """A finding's text: what QEMU did, and ``rest``."""
        whose = "source's device" if self.result.side == SOURCE else "device"
        verb = VERBS[self.result.outcome]
        return f"QEMU {self.emulator.version}, tried, {verb} the {whose}{rest}"

    @property
    def case(self) -> str:
        """The bug report: versions, both verdicts, and the case for ``python -m conformance``."""
        facts, result = self.emulator, self.result
        case = to_case(self.source, self.setting, self.destination, self.setting)
        words = (result.outcome, result.side, repr(result.line))
        real = " ".join(word for word in words if word)
        build = f"{facts.version} {facts.package}".strip()
        return (
            f"vfio-preflight {__version__}, QEMU {build}, source {self.source.evidence}, predicted"
            f" {self.predicted}, real {real}, case {json.dumps(case, separators=(',', ':'))}"
        )


def confirm(report: Report, guest: Guest, emulator: EmulatorFacts, try_states: TryStates) -> Report:
    """``report`` with every device that was judged tried on the destination's emulator."""
    devices = tuple(_confirm(device, guest, emulator, try_states) for device in report.devices)
    return report._replace(devices=devices)


def _confirm(
    device: DeviceReport, guest: Guest, emulator: EmulatorFacts, try_states: TryStates
) -> DeviceReport:
    source, destination, predicted = device.source, device.destination, device.prediction
    # Without a prediction there is nothing to confirm, and a trial needs both states.
    if source is None or destination is None or predicted is None:
        return device
    setting = setting_of(context_of(guest, device.device, emulator))
    # What another QEMU sends, as a stream: the one that is tried would not make it.
    source = device.sent or source
    attempt = try_states(source, destination, setting)
    if attempt.result is None:
        return _with(device, _unavailable(attempt.reason))
    tried = Trial(emulator, setting, source, destination, predicted, attempt.result)
    confirmed = with_result(device, tried)
    # A mend must not rest on the model alone: it would change the guest's command line.
    if confirmed.mendable and confirmed.quote:
        return _mend_confirmed(confirmed, tried, try_states)
    return confirmed


def with_result(device: DeviceReport, tried: Trial) -> DeviceReport:
    """The report on a device, corrected by what QEMU did."""
    result = tried.result
    if tried.predicted.matches(result):
        return _agreed(device, tried)
    # Findings about stages that QEMU got past are refuted; those about settings stay.
    stages = _REFUTED.get(result.outcome, (REALISE,))
    refuted = [f for f in tried.predicted.findings if f.code.stage in stages]
    kept = tuple(f for f in device.findings if f not in refuted)
    # A model that was wrong about the device cannot say either that skip-vsc-check is enough.
    corrected = device._replace(findings=kept, mendable=False)
    if result.outcome == PASS:
        return _with(corrected._replace(quote=""), _accepts(tried))
    if result.side == SOURCE:
        return _with(corrected, _source_refused(tried))
    # A hang is a finding of its own: it blocks whatever the policy says.
    hangs = (_hangs(tried),) if result.outcome == HANG else ()
    return _with(corrected._replace(quote=result.line), *hangs, _refuses(tried))


def _agreed(device: DeviceReport, tried: Trial) -> DeviceReport:
    """As predicted; what the model left open is decided."""
    result = tried.result
    findings = device.findings
    # The trial has shown which value the property has.
    if result.outcome == PASS:
        findings = tuple(f for f in findings if f.code is not codes.VSC_CHECK_UNDECIDED)
    elif result.outcome == FAIL and not device.quote:
        decided = {codes.VSC_CHECK_UNDECIDED: codes.VSC_BODY_DIFFERS}
        findings = tuple(
            f._replace(code=decided[f.code], remedy=f.remedy.replace(REMEDY_TRY, ""))
            if f.code in decided
            else f
            for f in findings
        )
    confirmed = Finding(codes.TRIAL_AGREES, tried.sentence(", as predicted"))
    # A line about the source's device would mislead: the destination would not print it.
    quote = device.quote or ("" if result.side == SOURCE else result.line)
    return device._replace(findings=(*findings, confirmed), quote=quote)


def _mend_confirmed(device: DeviceReport, tried: Trial, try_states: TryStates) -> DeviceReport:
    """``device``, mendable only if the emulator accepts it with ``skip-vsc-check``."""
    environment = tried.setting.environment
    properties = {**environment.properties, SKIP_VSC_CHECK: "on"}
    typed = None if tried.setting.json is None else {**tried.setting.json, SKIP_VSC_CHECK: True}
    setting = tried.setting._replace(
        environment=environment._replace(properties=properties), json=typed
    )
    again = try_states(tried.source, tried.destination, setting)
    if again.result is None:
        note = _unavailable(f"with {SKIP_VSC_CHECK}=on: {again.reason}")
        return _with(device._replace(mendable=False), note)
    # The device stays as the model reported it, mendable.
    if again.result.outcome == PASS:
        return device
    # An empty prediction: success was expected with the property set.
    mended = tried._replace(setting=setting, predicted=Prediction(), result=again.result)
    return _with(device._replace(mendable=False), _refuses(mended))


def _with(device: DeviceReport, *findings: Finding) -> DeviceReport:
    return device._replace(findings=(*device.findings, *findings))


def _unavailable(reason: str) -> Finding:
    return Finding(codes.TRIAL_UNAVAILABLE, f"the emulator was not tried: {reason}")


def _refuses(tried: Trial) -> Finding:
    # QEMU's line first: it names the byte.
    line = f': "{tried.result.line}"' if tried.result.line else " without a message"
    if PASS in tried.predicted.outcomes:
        code, text = codes.TRIAL_REFUSES, f"{line}; the model predicts success"
    else:
        code, text = codes.TRIAL_DIFFERS, f"{line}; the model predicts {tried.predicted}"
    with_property = tried.setting.environment.properties.get(SKIP_VSC_CHECK)
    also = f" (with {SKIP_VSC_CHECK}={with_property})" if with_property else ""
    remedy = f"do not migrate to this emulator; please report: {tried.case}"
    return Finding(code, tried.sentence(text) + also, remedy)


def _hangs(tried: Trial) -> Finding:
    return Finding(codes.REALISE_HANG, tried.sentence(" forever"))


def _source_refused(tried: Trial) -> Finding:
    text = tried.sentence(f", so no guest can be running with it; {tried.result.line}")
    return Finding(
        codes.SOURCE_NOT_REALISABLE,
        text.rstrip("; "),
        f"capture the state of the source's device again, and please report: {tried.case}",
    )


def _accepts(tried: Trial) -> Finding:
    refuted = ", ".join(finding.code for finding in tried.predicted.findings)
    return Finding(
        codes.TRIAL_ACCEPTS,
        tried.sentence(f"; the model predicts {refuted}, and the emulator is right"),
        f"please report: {tried.case}",
    )

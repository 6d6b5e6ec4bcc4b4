"""The model predicts, the trial proves: has the destination's own emulator confirm a report.

Where both are at hand they must agree: in the outcome, in whose state it was, and in the line that
QEMU fails with. Where they do not, the trial is right, because it *is* QEMU, and the disagreement
is a finding with all that a bug report needs.
"""

from __future__ import annotations

import json
import time
from typing import NamedTuple

from . import __version__
from .checks.device import check_device, is_unplugged_to_migrate, with_globals
from .checks.machine import SKIP_VSC_CHECK
from .findings import DeviceReport, Finding, Report
from .guest.commandline import from_option
from .guest.domain import Guest, GuestDevice
from .pci.state import ConfigState
from .preflight import environment_of
from .qemu.case import to_case
from .qemu.executable import EmulatorError, trusted_executable
from .qemu.machines import EmulatorFacts
from .qemu.properties import JSON_TYPES
from .qemu.trial import ABORT, CRASH, ERROR, FAIL, HANG, PASS, Result, TrialUnavailable, trial
from .qemu.workbench import NOT_TRIED, Setting

# What the model's findings predict: that the destination's device, the source's, or the bytes are
# refused.
REALISES_NOT = {
    "realise-hang": (HANG,),
    "realise-abort": (ABORT, CRASH),
    "realise-error": (ERROR,),
    "property-invalid": (ERROR,),
}
SOURCE_REALISES_NOT = "source-not-realisable"
UNDECIDED = "vsc-check-undecided"
DIFFERS = ("vsc-body-differs", "config-differs", "config-size-differs")
PREDICTIONS = frozenset((*REALISES_NOT, SOURCE_REALISES_NOT, UNDECIDED, *DIFFERS))

VERBS = {
    PASS: "accepts",
    FAIL: "refuses",
    ERROR: "refuses",
    ABORT: "aborts on",
    CRASH: "crashes on",
    HANG: "hangs on",
}
# Seconds of the deadline that must be left for a trial to be begun: what a hang, which takes one of
# processor time, takes on a busy host.
LEAST = 3.0


class Trial(NamedTuple):
    """A trial's result on one device, or why there is none."""

    result: Result | None
    reason: str = ""


class Prediction(NamedTuple):
    """What the model's findings come to as a result; ``lines`` are of a failure, none for any."""

    outcomes: tuple[str, ...]
    side: str = ""
    lines: tuple[str, ...] = ()

    def holds(self, result: Result) -> bool:
        """Whether ``result`` is what was predicted."""
        if result.outcome not in self.outcomes:
            return False
        if result.outcome == FAIL:
            return not self.lines or result.line in self.lines
        return result.outcome == PASS or result.side == self.side

    def __str__(self) -> str:
        return _words("/".join(self.outcomes), self.side, *map(repr, self.lines))


class Tried(NamedTuple):
    """A device that the emulator was tried on, and all that a bug report needs beside it.

    ``findings`` are those that ``predicted`` sums up.
    """

    emulator: EmulatorFacts
    setting: Setting
    source: ConfigState
    destination: ConfigState
    findings: tuple[Finding, ...]
    predicted: Prediction
    result: Result

    def told(self, rest: str) -> str:
        """A finding's text: what QEMU did, and ``rest``."""
        whose = "source's device" if self.result.side == "source" else "device"
        how = f"tried on QEMU {self.emulator.version}"
        return f"{how}: it {VERBS[self.result.outcome]} the {whose}, {rest}"

    @property
    def case(self) -> str:
        """The bug report: versions, both verdicts, and the case for ``python -m conformance``."""
        facts, result = self.emulator, self.result
        case = to_case(self.source, self.setting, self.destination, self.setting)
        real = _words(result.outcome, result.side, repr(result.line))
        return (
            f"vfio-preflight {__version__}, QEMU {facts.version} {facts.package}, source"
            f" {self.source.evidence}, predicted {self.predicted}, real {real}, case"
            f" {json.dumps(case, separators=(',', ':'))}"
        )


def _words(*words: str) -> str:
    return " ".join(word for word in words if word)


def proved(report: Report, guest: Guest, emulator: EmulatorFacts, end: float) -> Report:
    """``report`` with every judged device tried on the destination's emulator.

    ``end`` is on the clock of ``time.monotonic()``; what does not fit before it is left out, and
    said to be.
    """
    devices = tuple(_proved(device, guest, emulator, end) for device in report.devices)
    return report._replace(devices=devices)


def _proved(
    device: DeviceReport, guest: Guest, emulator: EmulatorFacts, end: float
) -> DeviceReport:
    source, destination = device.source, device.destination
    effective = with_globals(guest, device.device, emulator)
    if source is None or destination is None or is_unplugged_to_migrate(effective):
        return device
    if any(f.code in ("evidence-weak", "placement-assumed") for f in device.findings):
        return device
    setting = _setting(guest, device.device, emulator)
    tried = _try(source, destination, setting, emulator, end)
    if tried.result is None:
        return _with(device, _unavailable(tried.reason))
    untried = _left_out(guest, device.device, emulator)
    found = tuple(f for f in device.findings if f.code in PREDICTIONS and f not in untried)
    expected = predicted(found, device.quote)
    facts = Tried(emulator, setting, source, destination, found, expected, tried.result)
    proven = with_result(device, facts)
    return _mend_proved(proven, facts, end) if proven.mendable and proven.quote else proven


def _left_out(guest: Guest, device: GuestDevice, emulator: EmulatorFacts) -> tuple[Finding, ...]:
    """Findings on properties that a trial leaves out, and so cannot refute."""
    properties = {name: given for name, given in device.properties.items() if name in NOT_TRIED}
    flags = tuple(entry for entry in guest.globals if entry.property in NOT_TRIED)
    rest = device._replace(properties=properties)
    return check_device(guest._replace(globals=flags), rest, emulator)


def _setting(guest: Guest, device: GuestDevice, emulator: EmulatorFacts) -> Setting:
    """What surrounds the device, given to QEMU as the guest gives it: ``-global``s apart."""
    known = emulator.resolve(guest.machine)
    flags = tuple((entry.driver, entry.property, entry.value) for entry in guest.globals)
    machine = known.name if known else guest.machine
    given = device.properties
    # libvirt gives its devices as JSON; one before 8.0 does not, and for its alone there is -set.
    in_json = all(value.form in JSON_TYPES for value in given.values())
    typed = {name: from_option(value.value, value.form) for name, value in given.items()}
    environment = environment_of(guest, device, emulator)._replace(
        properties={name: value.value for name, value in given.items()}
    )
    return Setting(machine, device.driver, environment, flags, typed if in_json else None)


def _try(
    source: ConfigState,
    destination: ConfigState,
    setting: Setting,
    emulator: EmulatorFacts,
    end: float,
) -> Trial:
    if end - time.monotonic() < LEAST:
        return Trial(None, "no time was left")
    try:
        executable = trusted_executable(emulator.path)
        return Trial(trial(source, destination, setting, executable, deadline=end))
    except (EmulatorError, TrialUnavailable) as error:
        return Trial(None, str(error))


def predicted(found: tuple[Finding, ...], quote: str) -> Prediction:
    """What these findings on a device, and the line that goes with them, predict of QEMU."""
    codes = [finding.code for finding in found]
    for code, outcomes in REALISES_NOT.items():
        if code in codes:
            return Prediction(outcomes, "destination")
    if SOURCE_REALISES_NOT in codes:
        return Prediction((ERROR, ABORT, CRASH, HANG), "source")
    undecided = (f.mismatches[0].line for f in found if f.code == UNDECIDED and f.mismatches)
    lines = tuple(line for line in (quote, *undecided) if line)
    if any(code in DIFFERS for code in codes):
        return Prediction((FAIL,), lines=lines)
    return Prediction((PASS, FAIL) if UNDECIDED in codes else (PASS,), lines=lines)


def with_result(device: DeviceReport, tried: Tried) -> DeviceReport:
    """The report on a device, corrected by what QEMU did."""
    result = tried.result
    if tried.predicted.holds(result):
        return _agreed(device, tried)
    refuted = [f for f in tried.findings if f.code in _refuted(result)]
    kept = tuple(f for f in device.findings if f not in refuted)
    corrected = device._replace(findings=kept, mendable=False)
    if result.outcome == PASS:
        return _with(corrected._replace(quote=""), _accepts(tried))
    if result.side == "source":
        return _with(corrected, _source_refused(tried))
    hangs = (_hangs(tried),) if result.outcome == HANG else ()
    return _with(corrected._replace(quote=result.line), *hangs, _refuses(tried))


def _refuted(result: Result) -> frozenset[str]:
    """Codes of predictions that cannot be right, given what QEMU came to before it ended."""
    if result.outcome == PASS:
        return PREDICTIONS
    if result.outcome == FAIL:
        return frozenset((*REALISES_NOT, SOURCE_REALISES_NOT))
    return frozenset(REALISES_NOT)


def _agreed(device: DeviceReport, tried: Tried) -> DeviceReport:
    """As predicted; what the model left open is decided."""
    result = tried.result
    findings = device.findings
    if result.outcome == PASS:
        findings = tuple(f for f in findings if f.code != UNDECIDED)
    elif result.outcome == FAIL and not device.quote:
        decided = {UNDECIDED: "vsc-body-differs"}
        findings = tuple(f._replace(code=decided.get(f.code, f.code)) for f in findings)
    agrees = Finding("trial-agrees", tried.told("as predicted"))
    quote = device.quote or ("" if result.side == "source" else result.line)
    return device._replace(findings=(*findings, agrees), quote=quote)


def _mend_proved(device: DeviceReport, tried: Tried, end: float) -> DeviceReport:
    """``device``, mendable only if the emulator takes it with ``skip-vsc-check``."""
    environment = tried.setting.environment
    properties = {**environment.properties, SKIP_VSC_CHECK: "on"}
    typed = None if tried.setting.json is None else {**tried.setting.json, SKIP_VSC_CHECK: True}
    setting = tried.setting._replace(
        environment=environment._replace(properties=properties), json=typed
    )
    again = _try(tried.source, tried.destination, setting, tried.emulator, end)
    if again.result is None:
        note = _unavailable(f"with {SKIP_VSC_CHECK}=on: {again.reason}")
        return _with(device._replace(mendable=False), note)
    if again.result.outcome == PASS:
        return device
    mended = tried._replace(setting=setting, predicted=Prediction((PASS,)), result=again.result)
    return _with(device._replace(mendable=False), _refuses(mended))


def _with(device: DeviceReport, *findings: Finding) -> DeviceReport:
    return device._replace(findings=(*device.findings, *findings))


def _unavailable(reason: str) -> Finding:
    return Finding("trial-unavailable", f"the emulator was not tried: {reason}")


def _refuses(tried: Tried) -> Finding:
    line = tried.result.line or "without a word"
    if PASS in tried.predicted.outcomes:
        code, text = "trial-refuses", f"though the model sees no reason; {line}"
    else:
        code, text = "trial-differs", f"though the model predicts {tried.predicted}; {line}"
    with_property = tried.setting.environment.properties.get(SKIP_VSC_CHECK)
    also = f" (with {SKIP_VSC_CHECK}={with_property})" if with_property else ""
    remedy = f"do not migrate to this emulator; please report: {tried.case}"
    return Finding(code, tried.told(text) + also, remedy)


def _hangs(tried: Tried) -> Finding:
    return Finding("realise-hang", tried.told("for ever"))


def _source_refused(tried: Tried) -> Finding:
    return Finding(
        SOURCE_REALISES_NOT,
        tried.told(f"so no guest there can be running with it; {tried.result.line}").rstrip("; "),
        f"capture the state of the source's device again, and please report: {tried.case}",
    )


def _accepts(tried: Tried) -> Finding:
    codes = ", ".join(finding.code for finding in tried.findings)
    return Finding(
        "trial-accepts",
        tried.told(f"though the model predicts {codes}; the emulator is right"),
        f"please report: {tried.case}",
    )

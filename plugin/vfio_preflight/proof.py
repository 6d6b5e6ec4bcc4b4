"""The model predicts, the trial proves: has the destination's own emulator confirm a report.

Where both are at hand they must agree. Where they do not, the trial is right, because it *is* QEMU,
and the disagreement is a finding with all that a bug report needs.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from . import __version__
from .checks.device import is_unplugged_to_migrate
from .findings import DeviceReport, Finding, Report
from .guest.domain import Guest
from .pci.state import ConfigState
from .preflight import environment_of
from .qemu.executable import EmulatorError, trusted_executable
from .qemu.machines import EmulatorFacts
from .qemu.trial import HANG, PASS, Result, TrialUnavailable, trial
from .qemu.workbench import Setting
from .verdicts import FAIL

# What the trial overrules: findings of the config-space check that say no.
OVERRULED = (
    "vsc-body-differs",
    "vsc-check-undecided",
    "config-differs",
    "config-size-differs",
    "realise-error",
    "realise-abort",
    "realise-hang",
)
# Seconds of the deadline that must be left for a trial to be begun.
LEAST = 1.0


class Trial(NamedTuple):
    """A trial's result on one device, or why there is none."""

    result: Result | None
    reason: str = ""


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
    if source is None or destination is None or is_unplugged_to_migrate(device.device):
        return device
    environment = environment_of(guest, device.device, emulator)
    flags = tuple((entry.driver, entry.property, entry.value) for entry in guest.globals)
    setting = Setting(guest.machine, device.device.driver, environment, flags)
    tried = _try(source, destination, setting, emulator, end)
    if tried.result is None:
        note = Finding("trial-unavailable", f"the emulator was not tried: {tried.reason}")
        return device._replace(findings=(*device.findings, note))
    return _with(device, tried.result, emulator)


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


def _with(device: DeviceReport, result: Result, emulator: EmulatorFacts) -> DeviceReport:
    accepts = result.outcome == PASS
    refused = any(f.code in OVERRULED and f.verdict == FAIL for f in device.findings)
    undecided = any(f.code == "vsc-check-undecided" for f in device.findings)
    if accepts and not refused:
        findings = tuple(f for f in device.findings if f.code != "vsc-check-undecided")
        return device._replace(findings=(*findings, _agrees(emulator, "accepts")))
    if accepts:
        kept = tuple(f for f in device.findings if f.code not in OVERRULED)
        return device._replace(
            findings=(*kept, _overruled(device, result, emulator)), quote="", mendable=False
        )
    if refused or undecided:
        quote = device.quote or result.line
        return device._replace(
            findings=(*device.findings, _agrees(emulator, "refuses")), quote=quote
        )
    return device._replace(
        findings=(*device.findings, _refuses(device, result, emulator)), quote=result.line
    )


def _agrees(emulator: EmulatorFacts, verb: str) -> Finding:
    text = f"tried on QEMU {emulator.version}: it {verb} the device, as predicted"
    return Finding("trial-agrees", text)


def _refuses(device: DeviceReport, result: Result, emulator: EmulatorFacts) -> Finding:
    what = {HANG: "hangs"}.get(result.outcome, f"says no ({result.outcome})")
    return Finding(
        "trial-refuses",
        f"tried on QEMU {emulator.version}: it {what}, though the model sees no reason;"
        f" {result.line or 'without a word'}",
        f"do not migrate to this emulator; please report: {_case(device, result, emulator)}",
    )


def _overruled(device: DeviceReport, result: Result, emulator: EmulatorFacts) -> Finding:
    predicted = ", ".join(f.code for f in device.findings if f.code in OVERRULED)
    return Finding(
        "trial-accepts",
        f"tried on QEMU {emulator.version}: it accepts the device, though the model predicts"
        f" {predicted}; the emulator is right",
        f"please report: {_case(device, result, emulator)}",
    )


def _case(device: DeviceReport, result: Result, emulator: EmulatorFacts) -> str:
    """What a bug report needs, on one line: versions, surroundings, both config spaces."""
    source = device.source.config.hex() if device.source else ""
    destination = device.destination.config.hex() if device.destination else ""
    return (
        f"vfio-preflight {__version__}, QEMU {emulator.version} {emulator.package},"
        f" {device.device.driver} {device.device.placement}, outcome {result.outcome},"
        f" source {source}, destination {destination}"
    )

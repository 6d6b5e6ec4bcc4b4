"""Report + configuration -> decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .findings import DeviceReport, Report
from .pci.space import identity
from .verdicts import BLOCK, DEFAULT_POLICY, FAIL, MEND, STRICTNESS

HANGS = "a device that hangs QEMU is blocked whatever the policy"


class Decision(NamedTuple):
    """What is to be done: ``action``, the aliases to mend, and why mending was not possible."""

    action: str
    mend: tuple[str, ...] = ()
    note: str = ""


def decide(report: Report, policy: Mapping[str, str], vsc_tolerant: tuple[str, ...]) -> Decision:
    """Apply ``policy`` (verdict -> action). ``vsc_tolerant`` are ``vendor:device`` patterns.

    Every finding's verdict is asked for what it wants, and the strictest wish is granted: a device
    that fails and may pass does not carry along what is unknown and must not. A guest is
    mended only as a whole: one failing device that cannot be mended blocks it.

    No wish lets pass what is known to hang QEMU: libvirt would wait for it.
    """
    findings = [*report.findings, *(f for device in report.devices for f in device.findings)]
    verdicts = {report.verdict, *(finding.verdict for finding in findings)}
    wishes = {policy.get(verdict, DEFAULT_POLICY[verdict]) for verdict in verdicts}
    wanted = max(wishes, key=STRICTNESS.index)
    if wanted not in (MEND, BLOCK) and any(finding.code == "realise-hang" for finding in findings):
        return Decision(BLOCK, (), HANGS)
    if wanted != MEND:
        return Decision(wanted)
    obstacle = next(iter(_obstacles(report, vsc_tolerant)), None)
    if obstacle is not None:
        return Decision(BLOCK, (), f"not mended: {obstacle}")
    failing = (device for device in report.devices if device.verdict == FAIL)
    return Decision(MEND, tuple(d.device.alias for d in failing if d.device.alias))


def _obstacles(report: Report, vsc_tolerant: tuple[str, ...]) -> list[str]:
    own = [f.text for f in report.findings if f.verdict == FAIL]
    failing = [device for device in report.devices if device.verdict == FAIL]
    return own + [why for device in failing for why in _unmendable(device, vsc_tolerant)]


def _unmendable(device: DeviceReport, vsc_tolerant: tuple[str, ...]) -> list[str]:
    name = device.device.alias or device.device.key
    if any(f.verdict == FAIL and f.code != "vsc-body-differs" for f in device.findings):
        return [f"more than Vendor Specific Information differs on {name}"]
    if device.device.kind == "commandline" or device.device.alias is None:
        return [f"{name} stands on the QEMU command line, out of reach of <qemu:override>"]
    if not device.mendable:
        return [
            f"skip-vsc-check cannot be set on {name}: the emulator lacks it or was not seen to"
            " accept the device with it, the guest's XML sets it itself, or the device's alias is"
            " not certain"
        ]
    if device.destination is None or not is_tolerant(device, vsc_tolerant):
        return [f"{name} is not listed under vsc-tolerant"]
    return []


def is_tolerant(device: DeviceReport, patterns: tuple[str, ...]) -> bool:
    """Whether ``vendor:device`` of both states is listed; ``10de:*`` lists all of a vendor."""
    states = [state for state in (device.source, device.destination) if state is not None]
    names = [identity(state.config) for state in states]
    return all(name in patterns or f"{name[:4]}:*" in patterns for name in names)

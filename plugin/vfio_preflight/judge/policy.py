"""Report + configuration -> decision."""

from __future__ import annotations

from collections.abc import Mapping

from ..osutil.light import NamedTuple
from ..pci.space import identity
from . import codes
from .findings import DeviceReport, Finding, Report
from .verdicts import (
    BLOCK,
    CHOICES,
    DEFAULT_POLICY,
    FAIL,
    MEND,
    NO,
    STRICTER,
    STRICTNESS,
)

HANGS = "a device that hangs QEMU is blocked whatever the policy"


class Decision(NamedTuple):
    """The decision: ``action``, the aliases to mend, and why mending was not possible."""

    action: str
    mend: tuple[str, ...] = ()
    note: str = ""


def decide(report: Report, policy: Mapping[str, str], vsc_tolerant: tuple[str, ...]) -> Decision:
    """Apply ``policy`` (verdict -> action). ``vsc_tolerant`` are ``vendor:device`` patterns.

    Each finding's verdict asks for an action, and the strictest one is taken: a device that fails
    and may pass does not make something unknown pass that must not. A guest is mended only as a
    whole: one failing device that cannot be mended blocks it.

    No policy lets pass what is known to hang QEMU: libvirt would wait for it.
    """
    # Every finding counts, not only the worst of each device.
    findings = [*report.findings, *(f for each in report.devices for f in _asking(each))]
    verdicts = {report.verdict, *(finding.verdict for finding in findings)}
    # A guest's policy may name only some verdicts; the others keep their default.
    actions = {policy.get(verdict, DEFAULT_POLICY[verdict]) for verdict in verdicts}
    strictest = max(actions, key=STRICTNESS.index)
    # BLOCK is as strict already; MEND is decided below, where a hang is an obstacle, too.
    if strictest not in (MEND, BLOCK) and any(finding.code.blocks_always for finding in findings):
        return Decision(BLOCK, (), HANGS)
    ahead = _ahead(report, vsc_tolerant) if policy.get(FAIL) == MEND else ()
    if strictest != MEND:
        return Decision(strictest, ahead if strictest != BLOCK else ())
    # One obstacle is enough: QEMU refuses the whole guest for one device.
    obstacle = next(iter(_obstacles(report, vsc_tolerant)), None)
    if obstacle is not None:
        return Decision(BLOCK, (), f"not mended: {obstacle}")
    failing = (device for device in report.devices if device.verdict == FAIL)
    return Decision(MEND, (*(d.device.alias for d in failing if d.device.alias), *ahead))


def _ahead(report: Report, vsc_tolerant: tuple[str, ...]) -> tuple[str, ...]:
    """Devices of which a state is not known, and which the operator vouched for."""
    return tuple(
        device.device.alias
        for device in report.devices
        if device.device.alias
        and device.device.kind != "commandline"
        and device.ahead
        and all(_is_listed(name, vsc_tolerant) for name in device.ahead)
    )


def with_mended_ahead(report: Report, decision: Decision) -> Report:
    """``report``, in which a device that is mended without its states being known says so."""
    devices = tuple(
        device._replace(findings=(*device.findings, _mended_ahead(device)))
        if device.ahead and device.device.alias in decision.mend
        else device
        for device in report.devices
    )
    return report._replace(devices=devices)


def _mended_ahead(device: DeviceReport) -> Finding:
    unknown = "what the source sends" if device.source is None else "what the device presents here"
    return Finding(
        codes.MENDED_AHEAD,
        f"skip-vsc-check is set beforehand: {unknown} is not known, and {device.ahead[0]} is listed"
        " under vsc-tolerant; all other bytes are still compared",
    )


def _asking(device: DeviceReport) -> list[Finding]:
    """The device's findings that ask for an action of their own."""
    # Where the model predicts a refusal, an earlier one adds no doubt: it confirms the model, and
    # must not keep a mend, which removes its cause, from being made.
    known = device.verdict == FAIL
    return [f for f in device.findings if not (known and f.code is codes.REFUSED_BEFORE)]


def with_guest_policy(
    report: Report, policy: Mapping[str, str], requested: Mapping[str, str], override: str
) -> tuple[Report, dict[str, str]]:
    """The host's ``policy`` overridden by the guest's, and ``report`` with what does not count.

    ``override`` is one of ``OVERRIDES``: whoever may write a guest's metadata, who may be its
    tenant, may ask for more than the host does; for less only where the operator allows it.
    An action that does not exist is ignored: the guest is still checked.
    """
    if override == NO:
        return report, dict(policy)
    # The action must be one that is allowed for this verdict: unknown cannot be mended.
    usable = {v: a for v, a in requested.items() if a in CHOICES.get(v, ())}
    unusable = [f"{v[:40]}={a[:40]!a}" for v, a in requested.items() if v not in usable]
    if unusable:
        known = "; ".join(f"{verdict}: {', '.join(c)}" for verdict, c in CHOICES.items())
        more = f" (and {len(unusable) - 1} more)" if len(unusable) > 1 else ""
        finding = Finding(
            codes.GUEST_POLICY_UNUSABLE,
            f"<policy {unusable[0]}>{more} in the guest's metadata is not supported and is ignored",
            f"correct it; supported are {known}",
        )
        report = report._replace(findings=(*report.findings, finding))
    if override == STRICTER:
        report, usable = _stricter(report, policy, usable)
    return report, {**policy, **usable}


def _stricter(
    report: Report, policy: Mapping[str, str], requested: Mapping[str, str]
) -> tuple[Report, dict[str, str]]:
    """What of ``requested`` is no less strict than ``policy``, and ``report`` with what is less."""
    host = {**DEFAULT_POLICY, **policy}
    less = {
        verdict: action
        for verdict, action in requested.items()
        if STRICTNESS.index(action) < STRICTNESS.index(host[verdict])
    }
    if less:
        asked = ", ".join(f"{verdict}={action}" for verdict, action in less.items())
        instead = ", ".join(f"{verdict}={host[verdict]}" for verdict in less)
        finding = Finding(
            codes.GUEST_POLICY_REFUSED,
            f"<policy> in the guest's metadata asks for {asked}, which is less strict than this"
            f" host's {instead}, and is ignored",
            "have the operator of this host change its policy; or set guest-override = yes there,"
            " which lets whoever may write a guest's metadata decide",
        )
        report = report._replace(findings=(*report.findings, finding))
    return report, {v: a for v, a in requested.items() if v not in less}


def _obstacles(report: Report, vsc_tolerant: tuple[str, ...]) -> list[str]:
    own = [f.text for f in report.findings if f.verdict == FAIL]
    failing = [device for device in report.devices if device.verdict == FAIL]
    return own + [why for device in failing for why in _unmendable(device, vsc_tolerant)]


def _unmendable(device: DeviceReport, vsc_tolerant: tuple[str, ...]) -> list[str]:
    name = device.device.name
    failing = [finding.code for finding in device.findings if finding.verdict == FAIL]
    # skip-vsc-check has an effect on VSC bytes only.
    if any(code is not codes.VSC_BODY_DIFFERS for code in failing):
        return [f"more than Vendor Specific Information differs on {name}"]
    # libvirt applies overrides to its own devices only.
    if device.device.kind == "commandline" or device.device.alias is None:
        return [f"{name} is on the QEMU command line, where <qemu:override> does not apply"]
    if not device.mendable:
        return [
            f"skip-vsc-check cannot be set on {name}: the emulator lacks it or was not seen to"
            " accept the device with it, the guest's XML sets it itself, or the device's alias is"
            " not certain"
        ]
    # The vendor's promise is needed in addition: a guest may depend on the VSC's content.
    if device.destination is None or not is_tolerant(device, vsc_tolerant):
        return [f"{name} is not listed under vsc-tolerant"]
    return []


def is_tolerant(device: DeviceReport, patterns: tuple[str, ...]) -> bool:
    """Whether ``vendor:device`` of both states is listed; ``10de:*`` covers a whole vendor."""
    # Both sides: IDs that differ belong to two devices, and the promise covers only one of them.
    states = [state for state in (device.source, device.destination) if state is not None]
    names = [identity(state.config) for state in states]
    return all(_is_listed(name, patterns) for name in names)


def _is_listed(name: str, patterns: tuple[str, ...]) -> bool:
    return name in patterns or f"{name[:4]}:*" in patterns

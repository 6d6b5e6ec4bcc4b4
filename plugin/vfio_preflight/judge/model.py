"""The model's judgement: facts -> report, without an emulator.

    >>> preflight(facts).devices[0].verdict
    'fail'

For each device: its context on the destination, the checks of the guest's own settings, and, where
both states are known, the comparison of the two as the destination's QEMU would make it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..guest.domain import Guest, GuestDevice
from ..guest.placement import possible
from ..pci.space import identity
from ..pci.state import DAMAGED, NOT_MIGRATABLE, UNKNOWN, ConfigState, Missing, State
from ..qemu.emulator.machines import EmulatorFacts
from ..qemu.model.properties import UNTRIED
from ..qemu.model.values import ERROR
from ..qemu.model.vfio_pci import Environment, PropertyError
from . import codes
from .checks.arch import check_arch
from .checks.blockers import check_blockers
from .checks.builds import check_builds
from .checks.config_space import (
    REMEDY_MEND,
    REMEDY_MEND_COMMANDLINE,
    REMEDY_NO_PROPERTY,
    Verdict,
    check_config_space,
)
from .checks.device import check_device, invalid_properties
from .checks.evidence import check_evidence, check_inferred, check_strength
from .checks.machine import SKIP_VSC_CHECK, Effective, check_machine, skip_vsc_check
from .checks.pasid import check_pasid
from .context import Context, context_of
from .facts import DeviceFacts, Facts
from .findings import DESTINATION, DeviceReport, Finding, Prediction, Report
from .undecided import settle
from .verdicts import PASS, worst
from .whole import check_whole

SOURCE_CODES = {
    UNKNOWN: codes.SOURCE_UNKNOWN,
    DAMAGED: codes.RECORD_DAMAGED,
    NOT_MIGRATABLE: codes.DEVICE_NOT_MIGRATABLE,
}
DESTINATION_CODES = {**SOURCE_CODES, UNKNOWN: codes.DESTINATION_UNKNOWN}


def _check_history(context: Context, facts: DeviceFacts) -> tuple[Finding, ...]:
    if not facts.refused:
        return ()
    # Imported where there is something to check, like the next one: the hook's start counts.
    from .checks.history import check_history

    return check_history(context, facts)


def _check_vendor(context: Context, facts: DeviceFacts) -> tuple[Finding, ...]:
    if not context.rules:
        return ()
    from .checks.vendor import check_vendor

    return check_vendor(context, facts)


def _check_atomics(context: Context, facts: DeviceFacts) -> tuple[Finding, ...]:
    if not any(each and each.atomics for each in map(_state, (facts.source, facts.destination))):
        return ()
    from .checks.atomics import check_unknown_atomics

    return check_unknown_atomics(context, facts)


def _check_rom_file(context: Context, facts: DeviceFacts) -> tuple[Finding, ...]:
    if "romfile" not in context.properties:
        return ()
    from .checks.romfile import check_rom_file

    return check_rom_file(context, facts)


def _check_downtime(context: Context, facts: DeviceFacts) -> tuple[Finding, ...]:
    if facts.entry is None or not facts.entry.stop_copy_length:
        return ()
    from .checks.downtime import check_downtime

    return check_downtime(context, facts)


# What is checked of each device, whether its states are known or not: a new check goes in here.
CHECKS: tuple[Callable[[Context, DeviceFacts], tuple[Finding, ...]], ...] = (
    _check_history,
    check_device,
    check_evidence,
    _check_atomics,
    _check_rom_file,
    _check_vendor,
    _check_downtime,
)


def preflight(facts: Facts) -> Report:
    """Judge every device of the guest, and the guest as a whole."""
    guest = facts.guest
    # Without an emulator the model still compares, with skip-vsc-check not known.
    emulator = None if isinstance(facts.emulator, Missing) else facts.emulator
    contexts = [
        context_of(guest, known.device, emulator, facts.sender)
        .sent_by(known.entry.qemu if known.entry else "")
        ._replace(rules=facts.rules, bandwidth=facts.bandwidth)
        for known in facts.devices
    ]
    own = (*check_whole(facts), *check_blockers(facts, contexts))
    return Report(
        guest.name,
        guest.uuid,
        guest.machine,
        _describe(guest, emulator),
        (*_emulator_findings(facts), *own),
        tuple(_judge(facts, known, context) for known, context in zip(facts.devices, contexts)),
        guest.unjudged,
    )


def _emulator_findings(facts: Facts) -> list[Finding]:
    machine = check_machine(facts.guest, facts.emulator)
    arch = check_arch(facts.guest, facts.emulator)
    # An emulator of another architecture lacks the machine type, too: that follows from it.
    return sorted((*machine, *arch), key=lambda finding: finding.code is not codes.ARCH_MISMATCH)


def _describe(guest: Guest, emulator: EmulatorFacts | None) -> str:
    return f"QEMU {emulator.version} ({emulator.path})" if emulator else f"{guest.emulator}"


def _judge(facts: Facts, known: DeviceFacts, context: Context) -> DeviceReport:
    """The report on one device."""
    own = tuple(finding for check in CHECKS for finding in check(context, known))
    source, destination = _state(known.source), _state(known.destination)
    # A mend that QEMU refused before would be refused again.
    vain = any(refused.mended for refused in known.refused)
    # virtio-net unplugs the device before migrating, so QEMU never compares its bytes.
    if context.is_unplugged_to_migrate:
        return DeviceReport(known.device, source, destination, own)
    if source is None or destination is None:
        # A destination that hangs QEMU must be found even if the source's state is not known.
        findings = (*own, *_absences(known), *_fatal_alone(context, destination))
        ahead = _identities(known) if _would_help(context) and not vain else ()
        return DeviceReport(known.device, source, destination, findings, ahead=ahead)
    # From here on the settled states alone: a trial must not decide what they do not tell.
    source, destination, undecided = settle(source, destination)
    effective = skip_vsc_check(context)
    # check_strength needs the verdict that the states would lead to, so it comes after.
    judged = _with_invalid(_placed(context, source, destination, effective), context, own)
    if any(finding.verdict != PASS for finding in undecided):
        # What was compared is not all that QEMU compares.
        kept = (each for each in judged.findings if each.code is not codes.CONFIG_IDENTICAL)
        judged = judged._replace(findings=tuple(kept))
    if vain:
        judged = judged._replace(mendable=False)
    own = (*own, *check_inferred(destination), *undecided)
    own = (*own, Finding(codes.SKIP_VSC_CHECK, _value(effective)))
    verdict = worst(finding.verdict for finding in judged.findings)
    weak = check_strength(source, destination, facts.evidence, verdict)
    # Weak evidence decides nothing, except that a hang is never risked.
    if weak:
        return DeviceReport(
            known.device, source, destination, (*weak, *_always_blocking(judged), *own)
        )
    findings = (*judged.findings, *own)
    report = DeviceReport(known.device, source, destination, findings, *judged[1:4])
    return report._replace(sent=judged.sent)


def _absences(known: DeviceFacts) -> tuple[Finding, ...]:
    """Findings for the states that are missing."""
    sides = ((known.source, SOURCE_CODES), (known.destination, DESTINATION_CODES))
    return tuple(
        Finding(table[side.kind], side.reason, side.remedy)
        for side, table in sides
        if isinstance(side, Missing)
    )


def _fatal_alone(context: Context, destination: ConfigState | None) -> tuple[Finding, ...]:
    """What blocks in any case, by the destination's state alone, whatever the source sends."""
    if destination is None:
        return ()
    # Compared with itself: only a refusal to realise can come of it.
    return _always_blocking(_compare(context, destination, destination, skip_vsc_check(context)))


def _always_blocking(judged: Verdict) -> tuple[Finding, ...]:
    return tuple(finding for finding in judged.findings if finding.code.blocks_always)


def _with_invalid(judged: Verdict, context: Context, own: tuple[Finding, ...]) -> Verdict:
    """``judged``, predicting an error where a check of the device's own found an invalid property.

    The model knows few properties, the emulator reports all of them: what the model raised is among
    ``own`` already. A trial leaves out properties that name something of the host, and so cannot
    refute findings about them.
    """
    # The emulator's own property list is more complete than the model's.
    if not any(finding.code is codes.PROPERTY_INVALID for finding in own):
        return judged
    judged = judged._replace(findings=_without_invalid(judged.findings))
    # UNTRIED: a trial omits these, so the emulator cannot refute the finding.
    tried = tuple(invalid_properties(context, besides=UNTRIED))
    if not tried:
        return judged
    earlier = _without_invalid(judged.prediction.findings) if judged.prediction else ()
    prediction = Prediction((ERROR,), DESTINATION, findings=(*earlier, *tried))
    return judged._replace(prediction=prediction)


def _without_invalid(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    return tuple(f for f in findings if f.code is not codes.PROPERTY_INVALID)


def _placed(
    context: Context, source: ConfigState, destination: ConfigState, effective: Effective
) -> Verdict:
    """The comparison at the device's place in the guest, or at every possible one if not known."""
    device = context.device
    # Without an address libvirt will choose; every bus that the guest can have is tried.
    places = possible(context.guest.express) if device.assumption else (device.placement,)
    found = {
        place: _compare(context.placed(place), source, destination, effective) for place in places
    }
    verdicts = {place: worst(f.verdict for f in judged.findings) for place, judged in found.items()}
    # The verdicts agree in most cases, and then the placement need not be known.
    if len(set(verdicts.values())) > 1:
        assumed = _placement_assumed(device, verdicts)
        return Verdict((assumed, *_always_blocking(found[device.placement])))
    # Mended only if that helps at each possible place.
    mendable = all(judged.mendable for judged in found.values())
    return found[device.placement]._replace(mendable=mendable)


def _placement_assumed(device: GuestDevice, verdicts: Mapping[str, str]) -> Finding:
    each = ", ".join(f"{verdict} at {place}" for place, verdict in verdicts.items())
    return Finding(
        codes.PLACEMENT_ASSUMED,
        f"the verdict depends on where the guest sees the device ({device.assumption}): {each}",
        "judge the guest by complete XML (virsh dumpxml): with an <address> for the device, and the"
        " <controller> of its bus",
    )


def _compare(
    context: Context, source: ConfigState, destination: ConfigState, effective: Effective
) -> Verdict:
    device, emulator = context.device, context.emulator
    has_property = _has_property(device, emulator)
    remedy = _remedy(device, identity(destination.config)) if has_property else REMEDY_NO_PROPERTY

    def judge(sender: Environment) -> Verdict:
        # The destination's masks count; the source's have no effect on the check.
        here = context.environment
        return check_config_space(source, destination, here, effective.value, remedy, sender)

    try:
        found = check_builds(context, source, destination, judge)
    except PropertyError as error:
        invalid = Finding(codes.PROPERTY_INVALID, str(error), "correct it in the guest")
        prediction = Prediction((ERROR,), DESTINATION, findings=(invalid,))
        return Verdict((invalid,), prediction=prediction)
    return found._replace(
        findings=(*found.findings, *check_pasid(context)),
        mendable=found.mendable and _can_be_set(context),
    )


def _can_be_set(context: Context) -> bool:
    """Whether the hook can set ``skip-vsc-check`` on the device."""
    device = context.device
    return (
        _has_property(device, context.emulator)
        # A property in the guest's XML is the operator's decision and is not overridden.
        and SKIP_VSC_CHECK not in device.properties
        # An override for a wrong alias is ignored by libvirt without an error.
        and _alias_is_certain(context.guest, device)
    )


def _has_property(device: GuestDevice, emulator: EmulatorFacts | None) -> bool:
    # An unknown emulator is taken to have the property; EMULATOR_UNKNOWN is reported anyway.
    return emulator is None or SKIP_VSC_CHECK in emulator.properties.get(device.driver, {})


def _would_help(context: Context) -> bool:
    """Whether ``skip-vsc-check`` can be set without the states being known, and is not in force."""
    # Of an emulator that was not queried the property may not exist: QEMU would not start with it.
    asked = context.emulator is not None
    return asked and _can_be_set(context) and skip_vsc_check(context).value is not True


def _identities(known: DeviceFacts) -> tuple[str, ...]:
    """``vendor:device`` by the states there are; else by the destination's physical device."""
    states = (_state(known.source), _state(known.destination))
    found = tuple(identity(state.config) for state in states if state is not None)
    return found or tuple(filter(None, (known.parent,)))


def _alias_is_certain(guest: Guest, device: GuestDevice) -> bool:
    """An unresolved network may become a hostdev and shift all numbers libvirt gives after it."""
    return not guest.unresolved or (device.alias or "").startswith("ua-")


def _remedy(device: GuestDevice, vendor_device: str) -> str:
    # libvirt applies <qemu:override> to devices of its own only.
    if device.kind == "commandline" or device.alias is None:
        return REMEDY_MEND_COMMANDLINE
    return REMEDY_MEND.format(identity=vendor_device)


def _state(state: State) -> ConfigState | None:
    return None if isinstance(state, Missing) else state


def _value(effective: Effective) -> str:
    value = {True: "on", False: "off", None: "not known"}[effective.value]
    return f"skip-vsc-check is {value} ({effective.origin})"

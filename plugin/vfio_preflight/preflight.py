"""The pipeline: guest + source states + destination -> report.

Hook, dry run, image check and fleet matrix all come through :func:`preflight`; they differ in where
the facts come from and in what becomes of the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .checks.config_space import (
    REMEDY_MEND,
    REMEDY_MEND_COMMANDLINE,
    REMEDY_NO_PROPERTY,
    Verdicts,
    check_config_space,
)
from .checks.device import check_device, is_unplugged_to_migrate, with_globals
from .checks.evidence import check_inferred, check_strength
from .checks.machine import SKIP_VSC_CHECK, Effective, check_machine, skip_vsc_check
from .checks.pasid import check_pasid
from .findings import DeviceReport, Finding, Report
from .guest.addresses import is_mdev
from .guest.domain import Guest, GuestDevice
from .guest.placement import possible
from .pci.space import identity
from .pci.state import ANY_EVIDENCE, ConfigState, Missing, State
from .qemu.machines import EmulatorFacts
from .qemu.versions import Behaviour, behaviour
from .qemu.vfio_pci import Environment, PropertyError
from .verdicts import worst

INVALID = "property-invalid"


class Facts(NamedTuple):
    """What is known of both sides. Keys of the mappings are ``GuestDevice.key``.

    ``emulator`` is the destination's, or the finding that says why it could not be asked.
    ``remarks`` are findings made while the facts were collected, ``noted`` those on a device.
    ``evidence`` is the weakest that counts.
    """

    guest: Guest
    source: Mapping[str, State]
    destination: Mapping[str, State]
    emulator: EmulatorFacts | Finding
    remarks: tuple[Finding, ...] = ()
    noted: Mapping[str, tuple[Finding, ...]] = {}
    evidence: str = ANY_EVIDENCE


def preflight(facts: Facts) -> Report:
    """Judge every device of the guest, and the guest as a whole."""
    guest = facts.guest
    emulator = facts.emulator if isinstance(facts.emulator, EmulatorFacts) else None
    unasked = () if isinstance(facts.emulator, EmulatorFacts) else (facts.emulator,)
    return Report(
        guest.name,
        guest.uuid,
        guest.machine,
        _describe(guest, emulator),
        (*check_machine(guest, emulator), *unasked, *facts.remarks),
        tuple(_judge(facts, device, emulator) for device in guest.devices),
    )


def _describe(guest: Guest, emulator: EmulatorFacts | None) -> str:
    return f"QEMU {emulator.version} ({emulator.path})" if emulator else f"{guest.emulator}"


def _judge(facts: Facts, device: GuestDevice, emulator: EmulatorFacts | None) -> DeviceReport:
    source, destination = facts.source[device.key], facts.destination[device.key]
    own = (*check_device(facts.guest, device, emulator), *facts.noted.get(device.key, ()))
    states = (_state(source), _state(destination))
    if is_unplugged_to_migrate(with_globals(facts.guest, device, emulator)):
        return DeviceReport(device, *states, own)
    absent = tuple(_absent(side) for side in (source, destination) if isinstance(side, Missing))
    if isinstance(destination, Missing):
        return DeviceReport(device, *states, (*own, *absent))
    effective = skip_vsc_check(facts.guest, device, emulator)
    if isinstance(source, Missing):
        alone = _compare(facts.guest, device, emulator, destination, destination, effective)
        return DeviceReport(device, *states, (*own, *absent, *_hangs(alone)))
    judged = _placed(facts.guest, device, emulator, source, destination, effective)
    if any(finding.code == INVALID for finding in own):
        # The model stumbles over what has been told already.
        judged = judged._replace(findings=tuple(f for f in judged.findings if f.code != INVALID))
    own = (*own, *check_inferred(destination), Finding("skip-vsc-check", _told(effective)))
    found = worst(finding.verdict for finding in judged.findings)
    weak = check_strength(source, destination, facts.evidence, found)
    if weak:
        return DeviceReport(device, *states, (*weak, *_hangs(judged), *own))
    return DeviceReport(device, *states, (*judged.findings, *own), judged.mendable, judged.quote)


def _hangs(judged: Verdicts) -> tuple[Finding, ...]:
    """What counts however little else is known: it is not for QEMU to find out."""
    return tuple(finding for finding in judged.findings if finding.code == "realise-hang")


def _placed(
    guest: Guest,
    device: GuestDevice,
    emulator: EmulatorFacts | None,
    source: ConfigState,
    destination: ConfigState,
    effective: Effective,
) -> Verdicts:
    """The comparison where the guest sees the device, or wherever it may, if that is not known."""
    found = {
        place: _compare(
            guest, device._replace(placement=place), emulator, source, destination, effective
        )
        for place in (possible(guest.express) if device.assumption else (device.placement,))
    }
    verdicts = {place: worst(f.verdict for f in judged.findings) for place, judged in found.items()}
    if len(set(verdicts.values())) > 1:
        told = (_placement_assumed(device, verdicts), *_hangs(found[device.placement]))
        return Verdicts(told)
    mendable = all(judged.mendable for judged in found.values())
    return found[device.placement]._replace(mendable=mendable)


def _placement_assumed(device: GuestDevice, verdicts: Mapping[str, str]) -> Finding:
    told = ", ".join(f"{verdict} at {place}" for place, verdict in verdicts.items())
    return Finding(
        "placement-assumed",
        f"{device.assumption}: {device.placement} would be assumed, but the verdict depends on it:"
        f" {told}",
        "judge the guest by complete XML (virsh dumpxml): with an <address> for the device, and the"
        " <controller> of its bus",
    )


def _compare(
    guest: Guest,
    device: GuestDevice,
    emulator: EmulatorFacts | None,
    source: ConfigState,
    destination: ConfigState,
    effective: Effective,
) -> Verdicts:
    environment = environment_of(guest, device, emulator)
    has_property = emulator is None or SKIP_VSC_CHECK in emulator.properties.get(device.driver, {})
    remedy = _remedy(device, identity(destination.config)) if has_property else REMEDY_NO_PROPERTY
    try:
        found = check_config_space(source, destination, environment, effective.value, remedy)
    except PropertyError as error:
        return Verdicts((Finding(INVALID, str(error), "correct it in the guest"),))
    can_be_set = (
        has_property
        and SKIP_VSC_CHECK not in device.properties
        and _alias_is_certain(guest, device)
    )
    findings = (*found.findings, *check_pasid(guest, device, emulator))
    return found._replace(findings=findings, mendable=found.mendable and can_be_set)


def environment_of(
    guest: Guest, device: GuestDevice, emulator: EmulatorFacts | None
) -> Environment:
    """What surrounds a guest's device on the destination, as the model wants it."""
    properties = with_globals(guest, device, emulator).properties
    return Environment(
        placement=device.placement,
        express_root=guest.express,
        properties={name: value.value for name, value in properties.items()},
        behaviour=behaviour(emulator.version) if emulator else Behaviour(),
        mdev=device.kind == "mdev" or (device.host is not None and is_mdev(device.host)),
    )


def _alias_is_certain(guest: Guest, device: GuestDevice) -> bool:
    """An open network may become a hostdev and shift every number libvirt gives after it."""
    return not guest.unresolved or (device.alias or "").startswith("ua-")


def _remedy(device: GuestDevice, vendor_device: str) -> str:
    if device.kind == "commandline" or device.alias is None:
        return REMEDY_MEND_COMMANDLINE
    return REMEDY_MEND.format(identity=vendor_device)


def _state(state: State) -> ConfigState | None:
    return state if isinstance(state, ConfigState) else None


def _absent(missing: Missing) -> Finding:
    return Finding(missing.code, missing.reason, missing.remedy)


def _told(effective: Effective) -> str:
    value = {True: "on", False: "off", None: "not known"}[effective.value]
    return f"skip-vsc-check is {value} ({effective.origin})"

"""Facts for a move of a guest to a host that is known by its ``vfio-preflight host`` alone.

The counterpart of :mod:`.here`: nothing is asked of the host, and nothing read on this one but the
vendors' rules.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..configuration import Configuration
from ..guest.domain import Guest, GuestDevice
from ..guest.record import Record, RecordEntry
from ..guest.traits import Traits
from ..host.sources.inferred import infer
from ..host.sources.request import Sent
from ..host.states import unless_blocked, unnamed
from ..judge.facts import Builds, DeviceFacts, Facts
from ..pci.state import UNKNOWN, ConfigState, Missing, State
from ..qemu.emulator.machines import EmulatorFacts
from ..qemu.emulator.verified import verified_versions
from .builds import builds_of
from .here import REMEDY_RECORD, record_of, recorded_state, rules_for
from .hostfacts import HostFacts

REMEDY_STATE = "on that host, put a state file of the device into /var/lib/vfio-preflight/states"


def settings_there(there: HostFacts, settings: Configuration) -> Configuration:
    """The settings by which the hook of that host decides; all else is this host's."""
    own = there.settings
    return settings._replace(
        policy=own.policy,
        guest_override=own.guest_override,
        vsc_tolerant=own.vsc_tolerant,
        evidence=own.evidence,
    )


def facts_there(
    guest: Guest,
    there: HostFacts,
    settings: Configuration,
    source: Mapping[str, State] | None = None,
    root: str = "/",
) -> Facts:
    """Facts for a move of ``guest`` to ``there``; ``source`` as for ``facts_here``."""
    record, problem = record_of(guest)
    rules, rule_problems = rules_for(guest, record, settings, root)
    remedy = REMEDY_RECORD.format(guest=guest.name)
    devices = []
    for device in guest.devices:
        entry = record.dated(device.key)
        sent = (source or {}).get(device.key) or recorded_state(entry, problem, remedy)
        here = _state(device, sent, entry, there)
        # Without a rule the traits are not looked at.
        traits = _traits(device, there) if rules else Traits()
        devices.append(DeviceFacts(device, sent, here, entry, traits=traits))
    facts = Facts(
        guest,
        tuple(devices),
        _emulator(guest.emulator, there),
        verified_versions(),
        tuple(sorted(record.entries.keys() - {device.key for device in guest.devices})),
        evidence=settings.evidence,
        rules=rules,
        rule_problems=rule_problems,
    )
    return facts._replace(builds=_builds(guest, record, there))


def _builds(guest: Guest, record: Record, there: HostFacts) -> Builds | Missing | None:
    known = there.emulators.get(guest.emulator)
    # What could not be asked has a finding of its own.
    if record.build is None or known is None or isinstance(known.facts, Missing):
        return None
    if known.types is None:
        return Missing(UNKNOWN, f"the facts of {there.host} do not have its QEMU's device types")
    return builds_of(record.build, guest, known.types)


def networks_there(there: HostFacts, name: str) -> bool | None:
    """Whether network ``name`` hands out VFs there; None where there is none of that name."""
    pool = there.inventory.pool(name)
    return None if pool is None else pool.hands_out


def _traits(device: GuestDevice, there: HostFacts) -> Traits:
    known = there.inventory.devices.get(device.host or "")
    return known.traits if known else Traits()


def _state(device: GuestDevice, sent: State, entry: RecordEntry | None, there: HostFacts) -> State:
    if device.host is None:
        return unnamed(device)
    presented = there.presented.get(device.host)
    if presented is None:
        return Missing(
            UNKNOWN, f"the destination's device: {there.host} has no device {device.host}"
        )
    state = presented.state
    if isinstance(state, Missing):
        return _inferred(device, sent, entry, there) or state._replace(
            reason=f"the destination's device: {state.reason}", remedy=REMEDY_STATE
        )
    dated = state._replace(origin=f"{state.origin}, on {there.host} at {there.time}")
    return unless_blocked(device.host, dated, presented.offers)


def _inferred(
    device: GuestDevice, sent: State, entry: RecordEntry | None, there: HostFacts
) -> State | None:
    """The source's state, where the traits are equal; as ``sources.inferred`` has it."""
    here = _traits(device, there)
    if not isinstance(sent, ConfigState) or entry is None or not here.vendor or not here.type:
        return None
    return infer(Sent(sent, entry.traits), here).state


def _emulator(path: str, there: HostFacts) -> EmulatorFacts | Missing:
    known = there.emulators.get(path)
    if known is not None:
        return known.facts
    reason = f"the facts of {there.host} have no emulator {path or 'at all'}"
    return Missing(UNKNOWN, reason, f"there, run: vfio-preflight host --emulator {path or 'PATH'}")

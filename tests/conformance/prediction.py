"""What the project says of a case, in the words of a trial's result."""

from __future__ import annotations

from vfio_preflight.guest.domain import Global, Guest, GuestDevice
from vfio_preflight.guest.placement import PORT, ROOT_PORT
from vfio_preflight.guest.properties import Property
from vfio_preflight.judge.checks.machine import skip_vsc_check
from vfio_preflight.judge.context import context_of
from vfio_preflight.qemu.emulator.machines import EmulatorFacts
from vfio_preflight.qemu.model.atomics import compare_ports
from vfio_preflight.qemu.model.vfio_pci import Environment, Refusal, VirtualConfig, compare, realise
from vfio_preflight.qemu.trial.trial import ERROR, FAIL, PASS, Result

from .cases import Case, Device

_ORIGIN = "conformance"


def predict(case: Case, facts: EmulatorFacts, sender: EmulatorFacts) -> Result:
    """Outcome, side and line as :func:`vfio_preflight.qemu.trial.trial.trial` gives them.

    ``line`` is empty where the project does not claim to know it: for what follows the config
    space of a smaller size in the stream.
    """
    there = realise(case.destination.state, environment(case, case.destination, facts))
    if isinstance(there, Refusal):
        return _refused(there, "destination")
    sent = realise(case.source.state, environment(case, case.source, sender))
    if isinstance(sent, Refusal):
        return _refused(sent, "source")
    port = compare_ports(
        *(case.source.state, environment(case, case.source, sender)),
        *(case.destination.state, environment(case, case.destination, facts)),
    )
    # The root port's section precedes the device's.
    return Result(FAIL, line=port.line) if port else _compared(sent, there)


def environment(case: Case, device: Device, facts: EmulatorFacts) -> Environment:
    """The model's environment for one side's device, as the pipeline makes it."""
    guest = _guest(case, device)
    context = context_of(guest, guest.devices[0], facts)
    effective = skip_vsc_check(context)
    assert effective.value is not None, effective.origin
    return context.environment._replace(skip_vsc_check=effective.value)


def _guest(case: Case, device: Device) -> Guest:
    properties = {name: Property(value, _ORIGIN) for name, value in device.properties}
    placement = case.setting(device).environment.placement
    kind = "mdev" if device.mdev else "pci"
    port = PORT if placement == ROOT_PORT else ""
    shown = GuestDevice(
        *("device", kind, None, "device", device.driver, placement, properties), port=port
    )
    wanted = tuple(Global(*entry) for entry in case.globals)
    express = case.placement != "i440fx"
    return Guest("", "", case.machine_type, "", "", "", (shown,), wanted, express, None)


def _refused(refusal: Refusal, side: str) -> Result:
    return Result(refusal.kind, side, refusal.reason if refusal.kind == ERROR else "")


def _compared(sent: VirtualConfig, there: VirtualConfig) -> Result:
    common = min(len(sent.config), len(there.config))
    cut = VirtualConfig(*(array[:common] for array in there))
    found = compare(sent.config[:common], cut)
    if found:
        return Result(FAIL, line=found[0].line)
    return Result(PASS if len(sent.config) == len(there.config) else FAIL)

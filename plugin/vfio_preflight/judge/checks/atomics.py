"""AtomicOps: the root port above a device is compared too, and says what the host's root can do.

Two hosts whose roots complete other widths are refused however alike their devices and drivers are.
Source: ``qemu.model.atomics``.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...pci.atomics import to_text
from ...pci.state import ConfigState
from ...qemu.model.atomics import ROOT_PORT, compare_ports, reaching
from ...qemu.model.values import Mismatch
from .. import codes
from ..context import Context
from ..facts import DeviceFacts
from ..findings import FAIL, PASS, Finding, Prediction
from .config_space import Verdict

REMEDY = (
    "choose a host whose root ports complete the same AtomicOps (lspci -vv: AtomicOpsCap, of the"
    " root port above the device); or, if the guest needs no AtomicOps, start it anew with"
    " multifunction='on' in the device's <address>: then QEMU leaves the port as it is"
)


def check_unknown_atomics(context: Context, facts: DeviceFacts) -> tuple[Finding, ...]:
    """A notice that one side has AtomicOps, where it is not known what the other has."""
    return tuple(_unknown(context, facts))


def _unknown(context: Context, facts: DeviceFacts) -> Iterator[Finding]:
    source, here = facts.source, facts.destination
    if not isinstance(source, ConfigState) or not isinstance(here, ConfigState):
        return
    for state, environment, other, whose in (
        (source, context.sender, here, "destination"),
        (here, context.environment, source, "source"),
    ):
        if other.atomics is None and state.atomics and reaching(state, environment):
            yield Finding(
                codes.NOT_DECIDED,
                f"which AtomicOps the {whose}'s root completes is not known, and was not compared;"
                f" the other host's completes {to_text(state.atomics)} bits",
            )


def with_atomics(
    found: Verdict, context: Context, source: ConfigState, destination: ConfigState
) -> Verdict:
    """``found``, and what the root ports say, which QEMU compares before the device itself."""
    predicted = found.prediction
    # A device that is not realised changes no port.
    if predicted is None or not set(predicted.outcomes) <= {PASS, FAIL}:
        return found
    mismatch = compare_ports(source, context.sender, destination, context.environment)
    if mismatch is None:
        return found
    finding = _differ(context, source, destination, mismatch)
    # A trial puts the device below a port of the usual kind, whatever the guest's is.
    usual = (each._replace(port=ROOT_PORT) for each in (context.sender, context.environment))
    tried = compare_ports(source, next(usual), destination, next(usual))
    lines = dict.fromkeys((mismatch.line, tried.line if tried else mismatch.line))
    return found._replace(
        findings=(finding, *(f for f in found.findings if f.code is not codes.CONFIG_IDENTICAL)),
        mendable=False,
        quote=mismatch.line,
        prediction=Prediction((FAIL,), lines=tuple(lines), findings=(finding, *predicted.findings)),
    )


def _differ(
    context: Context, source: ConfigState, destination: ConfigState, mismatch: Mismatch
) -> Finding:
    sent, here = reaching(source, context.sender), reaching(destination, context.environment)
    return Finding(
        codes.ATOMIC_OPS_DIFFER,
        f"AtomicOps of the root port above it, offset {mismatch.offset:#x}: source"
        f" {mismatch.stream:02x}, destination {mismatch.device:02x}: the guest's"
        f" {context.environment.port} says in Device Capabilities 2 what the host's root completes:"
        f" {_bits(sent)} on the source, {_bits(here)} here",
        REMEDY,
    )


def _bits(widths: int) -> str:
    return f"{' and '.join(to_text(widths).split())} bits" if widths else "no width"

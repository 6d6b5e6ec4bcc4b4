"""``started begin``: devices are captured at a cold start, and judged again on a migration.

On a migration this is the second gate. The destination's QEMU has realised its devices, and no
memory was sent: exit 1 ends the migration with the reason, and the guest runs on at the source.
Nothing can be mended here, since the properties are set; but what was read of an mdev or vGPU goes
into the catalogue, so that the next attempt is mended at ``migrate begin``.

A cold start is never failed: its devices are read for the record, and that is all. Neither is a
restore, of which no attempt is waiting.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..gather.here import facts_here
from ..gather.started import as_started, captures, presented
from ..gather.trials import trials
from ..guest.domain import Guest, read_guest
from ..guest.xml import parse_domain
from ..host.captures import keep
from ..host.networks import hands_out_devices
from ..host.processes import Process, find_process
from ..judge.codes import REALISE
from ..judge.findings import Report
from ..judge.pipeline import examine
from ..judge.policy import Decision
from ..judge.verdicts import BLOCK, MEND, NEVER
from ..pci.state import State
from ..report.schema import as_dict
from ..report.text import refusal
from . import attempt, expected
from .gate import Gate, decided, remember
from .supervise import Outcome
from .telling import told

# What becomes of a guest that the policy would have mended, and that in a few words: what to do.
MENDED_NEXT = (
    "a device cannot be mended once its QEMU runs; what it presents goes into the catalogue, so"
    " that the next attempt can be mended at migrate begin: migrate again"
)
NOT_MENDED = (
    "a device cannot be mended once its QEMU runs, and migrate begin would not see the difference"
    " the next time either: put what the device presents into a state file on the destination, then"
    " migrate again"
)
TO_DO = {
    MENDED_NEXT: "migrate again: the hook can mend it then",
    NOT_MENDED: "put a state file of the device there, then migrate again",
}


def started(gate: Gate, xml: bytes) -> Outcome:
    """The outcome of ``started begin`` for ``xml``."""
    guest = read_guest(parse_domain(xml), hands_out_devices)
    process = find_process(guest.name, guest.uuid)
    if process is None or not guest.devices:
        return Outcome(0)
    runtime = gate.settings.runtime
    if not process.incoming:
        attempt.drop(runtime, gate.guest)
        found = captures(guest, process)
        if found:
            keep(runtime, gate.guest, process.instance, found)
        return Outcome(0)
    if not attempt.take(runtime, gate.guest, xml, process.age):
        return Outcome(0)
    return _second_gate(gate, as_started(guest, process), process)


def _second_gate(gate: Gate, guest: Guest, process: Process) -> Outcome:
    report, decision = gate.decide(guest, lambda: _examine(gate, guest, presented(guest, process)))
    if decision.action == MEND:
        decision = Decision(BLOCK, (), _next_attempt(gate, guest))
    shown = as_dict(report, decision)
    if decision.action != BLOCK:
        return told(Outcome(0), "started", shown)
    # QEMU will have said nothing by "release end": there is nothing to learn from this attempt.
    expected.drop(gate.settings.runtime, gate.guest)
    lines = refusal(shown, "migration", TO_DO.get(decision.note, ""))
    err = ("\n".join(lines) + "\n").encode("utf-8", "replace")
    return told(Outcome(1, err=err), "started", shown)


def _next_attempt(gate: Gate, guest: Guest) -> str:
    """What another attempt comes to, now that the catalogue has what it takes of the devices.

    It takes none that sysfs shows or that the operator has a state file of.
    """
    _, decision = gate.decide(guest, lambda: _examine(gate, guest, None))
    return MENDED_NEXT if decision.mend else NOT_MENDED


def _examine(
    gate: Gate, guest: Guest, destination: Mapping[str, State] | None
) -> tuple[Report, Decision]:
    """Judge the guest by what its devices present, or by what ``migrate begin`` would see."""
    settings = gate.settings
    # The builds of QEMU were compared at "migrate begin", and here is no time to ask one.
    facts = facts_here(guest, settings, gate.end, destination=destination, builds=False)
    remember(facts, settings.catalogue)
    # No trial: libvirt holds the guest's lock meanwhile, and with it "virsh list".
    report = examine(facts, NEVER, trials(guest.emulator, gate.end))
    if destination is not None:
        report = _realised(report)
    return decided(report, guest, settings)


def _realised(report: Report) -> Report:
    """``report`` without what the running QEMU refutes: it has realised the devices."""
    devices = tuple(
        device._replace(findings=tuple(f for f in device.findings if f.code.stage != REALISE))
        for device in report.devices
    )
    return report._replace(devices=devices)

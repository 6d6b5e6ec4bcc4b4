"""A report as plain data: JSON of schema 1, the source of every output.

What the hook prints, what ``check`` shows, the annotation and what another host answers all start
from a :class:`ReportDict`. Finding codes and keys are stable.
"""

from __future__ import annotations

from collections.abc import Iterable

from .. import __version__
from ..guest.domain import Guest
from ..guest.unjudged import Unjudged
from ..judge.checks.unjudged import known_refusals
from ..judge.findings import DeviceReport, Finding, Report
from ..judge.policy import Decision
from ..judge.verdicts import worst
from ..osutil.light import TypedDict
from ..pci.registers import locate
from ..pci.space import identity
from ..pci.state import ConfigState
from ..qemu.model.vfio_pci import Mismatch

SCHEMA = 1


class MismatchDict(TypedDict):
    """A byte that differs: its place, both values, and the line QEMU prints for it."""

    offset: int
    where: str
    register: str
    source: int
    destination: int
    line: str


class _FindingRequired(TypedDict):
    code: str
    verdict: str
    text: str


class FindingDict(_FindingRequired, total=False):
    """A finding; ``remedy`` and ``mismatches`` only where there are any."""

    remedy: str
    mismatches: list[MismatchDict]


class StateDict(TypedDict):
    """A state that a verdict is based on; ``size`` in bytes of configuration space."""

    evidence: str
    origin: str
    size: int


class _DeviceRequired(TypedDict):
    key: str
    kind: str
    host: str | None
    alias: str | None
    driver: str
    placement: str
    identity: str | None
    verdict: str
    mendable: bool
    qemu: str
    source: StateDict | None
    destination: StateDict | None
    findings: list[FindingDict]


class DeviceDict(_DeviceRequired, total=False):
    """A device; ``source`` and ``destination`` are None where the state is not known.

    ``qemu`` is the line QEMU would fail with, or empty. ``alias`` is what QEMU will know the device
    by on the destination; ``name``, only where it differs, what the guest's XML calls it.
    """

    name: str


class UnjudgedDict(TypedDict):
    """A device of the host's that the guest uses and that nothing is said of.

    ``kind`` is stable, ``what`` says what it is, ``host`` is its name on the host or empty, and
    ``reason`` says why it is not judged. ``known`` is what is known of its migration, and
    ``refused`` who is known to refuse it in which words; either may be empty.
    """

    kind: str
    what: str
    host: str
    alias: str | None
    reason: str
    known: str
    refused: str


class ReportDict(TypedDict):
    """A report; ``action`` is None where nothing is about to migrate.

    ``verdict`` is that of what was judged, which is all of ``devices`` and nothing of ``unjudged``.
    With no device in ``devices`` nothing was judged, and the verdict is ``unknown`` or ``fail``,
    never ``pass``; the finding ``nothing-judged`` says so. ``unjudged`` was added within schema 1:
    a report from another host may lack it, and is read by :func:`completed`.
    """

    schema: int
    version: str
    guest: str
    uuid: str
    machine: str
    emulator: str
    verdict: str
    action: str | None
    note: str
    findings: list[FindingDict]
    devices: list[DeviceDict]
    unjudged: list[UnjudgedDict]


def as_dict(report: Report, decision: Decision | None) -> ReportDict:
    """``report`` and what policy makes of it, None where nothing is about to migrate."""
    # Built by hand: a field added to the internal tuples must not change the schema.
    return {
        "schema": SCHEMA,
        "version": __version__,
        "guest": report.guest,
        "uuid": report.uuid,
        "machine": report.machine,
        "emulator": report.emulator,
        "verdict": report.verdict,
        "action": decision.action if decision else None,
        "note": decision.note if decision else "",
        # No config: findings on the guest have no bytes to locate.
        "findings": [_finding(finding, None) for finding in report.findings],
        "devices": [_device(device) for device in report.devices],
        "unjudged": unjudged(report.unjudged),
    }


def completed(report: ReportDict, guest: Guest) -> ReportDict:
    """A report from another host on ``guest``, with what its hook did not see or does not say.

    It judged a stand-in without most other devices, and may be of an older release, which has no
    list of what it does not judge.
    """
    return {**with_findings(report, known_refusals(guest)), "unjudged": unjudged(guest.unjudged)}


def with_findings(report: ReportDict, findings: Iterable[Finding]) -> ReportDict:
    """``report`` with findings on the guest that it does not have, and the verdict of all."""
    told = {finding["text"] for finding in report["findings"]}
    added = [_finding(finding, None) for finding in findings if finding.text not in told]
    verdict = worst([report["verdict"], *(finding["verdict"] for finding in added)])
    return {**report, "verdict": verdict, "findings": [*report["findings"], *added]}


def unjudged(devices: Iterable[Unjudged]) -> list[UnjudgedDict]:
    """Devices that are not judged, as JSON has them."""
    return [
        {
            "kind": device.kind.name,
            "what": device.kind.what,
            "host": device.host,
            "alias": device.alias,
            "reason": device.kind.reason,
            "known": device.kind.known,
            "refused": device.kind.refusal,
        }
        for device in devices
    ]


def _device(report: DeviceReport) -> DeviceDict:
    # The destination's identity first, as that is the device that the guest will get.
    known = report.destination or report.source
    config = known.config if known else None
    device: DeviceDict = {
        "key": report.device.key,
        "kind": report.device.kind,
        "host": report.device.host,
        "alias": report.device.alias,
        "driver": report.device.driver,
        "placement": report.device.placement,
        "identity": identity(config) if config else None,
        "verdict": report.verdict,
        "mendable": report.mendable,
        "qemu": report.quote,
        "source": _state(report.source),
        "destination": _state(report.destination),
        "findings": [_finding(finding, config) for finding in report.findings],
    }
    if report.device.written not in (None, report.device.alias):
        device["name"] = report.device.name
    return device


def _state(state: ConfigState | None) -> StateDict | None:
    if state is None:
        return None
    return {"evidence": state.evidence, "origin": state.origin, "size": len(state.config)}


def _finding(finding: Finding, config: bytes | None) -> FindingDict:
    found: FindingDict = {
        "code": str(finding.code),
        "verdict": finding.verdict,
        "text": finding.text,
    }
    # Absent rather than empty, to keep the dry run's answer small: it travels in an error message.
    if finding.remedy:
        found["remedy"] = finding.remedy
    if finding.mismatches and config is not None:
        found["mismatches"] = [_mismatch(mismatch, config) for mismatch in finding.mismatches]
    return found


def _mismatch(mismatch: Mismatch, config: bytes) -> MismatchDict:
    # Located in the destination's layout, which is the one whose masks QEMU applies.
    place = locate(config, mismatch.offset)
    return {
        "offset": mismatch.offset,
        "where": place.where,
        "register": place.register,
        "source": mismatch.stream,
        "destination": mismatch.device,
        "line": mismatch.line,
    }

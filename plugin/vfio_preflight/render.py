"""A report for machines (a JSON-able dict, schema 1) and, from the same dict, for people.

All output for people starts from :func:`to_dict`: what the hook prints, what ``check`` shows and
what came from another host as JSON look alike. Finding codes and the dict's keys are stable.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import __version__
from .findings import DeviceReport, Finding, Report
from .pci.registers import locate
from .pci.space import identity
from .pci.state import ConfigState
from .policy import Decision
from .qemu.vfio_pci import Mismatch
from .verdicts import BLOCK, FAIL, MEND, UNKNOWN

SCHEMA = 1
# Bytes of one finding that are listed one by one for people; JSON has all.
LISTED = 8
# Characters of a reason that the log has; annotation and refusal have all.
LOGGED = 300

HEADLINES = {
    "pass": "QEMU on the destination will accept the devices",
    "tolerated": "QEMU on the destination will accept the devices, though some bytes differ",
    "unknown": "it is not known whether QEMU on the destination will accept the devices",
    "fail": "QEMU on the destination would refuse the guest",
}

# What each evidence means for the verdict that rests on it.
EVIDENCE = {
    "stream": "the bytes QEMU itself sends or saved: as certain as can be",
    "vfio": "read from the device through VFIO, as QEMU reads it",
    "catalogue": "seen on a device of the same type, driver and firmware: right as far as these"
    " determine it",
    "inferred": "not seen at all: the source's, because type, driver and firmware are the same",
    "sysfs": "the physical device, with VFIO's view worked out: what a driver adds is not in it",
    "file": "an operator's word: as true as it is current",
}

Json = dict[str, Any]


def to_dict(report: Report, decision: Decision | None) -> Json:
    """``report`` and what policy makes of it, None where nothing is about to migrate."""
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
        "findings": [_finding(finding, None) for finding in report.findings],
        "devices": [_device(device) for device in report.devices],
    }


def _device(report: DeviceReport) -> Json:
    known = report.destination or report.source
    config = known.config if known else None
    return {
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


def _state(state: ConfigState | None) -> Json | None:
    if state is None:
        return None
    return {"evidence": state.evidence, "origin": state.origin, "size": len(state.config)}


def _finding(finding: Finding, config: bytes | None) -> Json:
    found: Json = {"code": finding.code, "verdict": finding.verdict, "text": finding.text}
    if finding.remedy:
        found["remedy"] = finding.remedy
    if finding.mismatches and config is not None:
        found["mismatches"] = [_mismatch(mismatch, config) for mismatch in finding.mismatches]
    return found


def _mismatch(mismatch: Mismatch, config: bytes) -> Json:
    place = locate(config, mismatch.offset)
    return {
        "offset": mismatch.offset,
        "where": place.where,
        "register": place.register,
        "source": mismatch.stream,
        "destination": mismatch.device,
        "line": mismatch.line,
    }


# --- for people ---------------------------------------------------------------------------------


def name(device: Json) -> str:
    """``hostdev0 (0000:06:00.4, guest 0000:05:00.0)``."""
    shown = device["alias"] or device["key"]
    address = guest_address(device)
    where = [part for part in (device["host"], f"guest {address}" if address else "") if part]
    return f"{shown} ({', '.join(where)})" if where else str(shown)


def guest_address(device: Json) -> str:
    """The device's PCI address in the guest, empty where that is not known."""
    key = str(device["key"])
    return key if key.count(":") == 2 else ""


def headline(report: Json) -> str:
    """One line that is complete in itself: what, where, why, what to do."""
    verdict = report["verdict"]
    opening = f"guest '{report['guest']}' ({report['machine']}): {verdict}"
    reason = next(_reasons(report), None)
    if reason is None:
        return f"{opening}: {HEADLINES[verdict]}"
    device, finding = reason
    parts = [finding["text"]]
    if device and device["qemu"]:
        parts.append(f'QEMU would fail with "{device["qemu"]}"')
    parts += [f"{word}: {text}" for word, text in _advice(report, finding) if text]
    return f"{opening}: {name(device) + ': ' if device else ''}{'; '.join(parts)}"


def _advice(report: Json, finding: Json) -> tuple[tuple[str, str], ...]:
    return ("note", report["note"]), ("to do", finding.get("remedy", ""))


def _reasons(report: Json) -> Iterator[tuple[Json | None, Json]]:
    """Findings that lead to the report's verdict, with the device they are about."""
    if report["verdict"] == "pass":
        return
    for device in (None, *report["devices"]):
        for finding in (device or report)["findings"]:
            if finding["verdict"] == report["verdict"]:
                yield device, finding


def refusal(report: Json, what: str) -> list[str]:
    """What the hook prints when it blocks ``what`` (``migration``, ``restore``)."""
    return [f"vfio-preflight: {what} blocked: {headline(report)}", *details(report)]


def details(report: Json) -> list[str]:
    """Everything, a fact a line, indented by what it belongs to."""
    lines = [f"  guest {report['guest']}, machine type {report['machine']}, {report['emulator']}"]
    lines += _finding_lines(report["findings"], "  ")
    for device in report["devices"]:
        lines.append(f"  {name(device)}: {device['verdict']}{_evidence(device)}")
        lines += _finding_lines(device["findings"], "    ")
        if device["qemu"]:
            lines.append(f"    QEMU would fail with: {device['qemu']}")
    lines += [f"  evidence {grade}: {meaning}" for grade, meaning in evidence_used(report).items()]
    lines += [f"  to do for {subjects}: {remedy}" for remedy, subjects in remedies(report).items()]
    if report["note"]:
        lines.append(f"  note: {report['note']}")
    return lines


def evidence_used(report: Json) -> dict[str, str]:
    """The evidence that the report rests on, best first, and what each means."""
    states = [device[side] for device in report["devices"] for side in ("source", "destination")]
    used = {state["evidence"] for state in states if state}
    return {grade: meaning for grade, meaning in EVIDENCE.items() if grade in used}


def remedies(report: Json) -> dict[str, str]:
    """What can be done, each thing once, with those it would help; nothing if we mend."""
    if report["action"] == MEND:
        return {}
    found: dict[str, list[str]] = {}
    for device in (None, *report["devices"]):
        subject = (device["alias"] or device["key"]) if device else "the guest"
        for finding in (device or report)["findings"]:
            if finding.get("remedy"):
                found.setdefault(finding["remedy"], []).append(subject)
    return {remedy: ", ".join(dict.fromkeys(subjects)) for remedy, subjects in found.items()}


def _evidence(device: Json) -> str:
    sides = [(side, device[side]) for side in ("source", "destination") if device[side]]
    known = [f"{side} state: {state['evidence']}, {state['origin']}" for side, state in sides]
    return f" [{'; '.join(known)}]" if known else ""


def _finding_lines(findings: list[Json], indent: str) -> list[str]:
    lines: list[str] = []
    for finding in findings:
        lines.append(f"{indent}{finding['code']}: {finding['text']}")
        lines += [f"{indent}  {line}" for line in mismatch_lines(finding)]
    return lines


def mismatch_lines(finding: Json) -> list[str]:
    """The bytes of a finding one by one, where it has more than the one its text names."""
    mismatches = finding.get("mismatches", [])
    if len(mismatches) < 2:
        return []
    lines = [
        f"{m['offset']:#05x} {m['where']}, {m['register']}:"
        f" source {m['source']:02x}, destination {m['destination']:02x}"
        for m in mismatches[:LISTED]
    ]
    if len(mismatches) > LISTED:
        lines.append(f"... and {len(mismatches) - LISTED} more bytes (--format json lists all)")
    return lines


def summary(report: Json) -> str:
    """The line for the log: verdict, action, codes, and why where it is not known to go well."""
    shown = [*(f["code"] for f in report["findings"])]
    shown += [f"{d['alias'] or d['key']}={_worst_code(d)}" for d in report["devices"]]
    action = {BLOCK: "blocked", MEND: "mended"}.get(report["action"], report["action"])
    line = f"guest '{report['guest']}': {report['verdict']}, {action} [{' '.join(shown)}]"
    reason = next(_reasons(report), None)
    if report["verdict"] not in (UNKNOWN, FAIL) or reason is None:
        return line
    device, finding = reason
    why = f"{name(device)}: {finding['text']}" if device else finding["text"]
    return f"{line}: {why if len(why) <= LOGGED else why[:LOGGED] + '...'}"


def _worst_code(device: Json) -> str:
    codes = [f["code"] for f in device["findings"] if f["verdict"] == device["verdict"]]
    return codes[0] if codes else str(device["verdict"])

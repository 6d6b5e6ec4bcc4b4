"""A report as text: the hook's refusal, the log line, and ``check``'s output without rich."""

from __future__ import annotations

from collections.abc import Iterator

from ..judge.verdicts import BLOCK, FAIL, MEND, UNKNOWN
from ..osutil.text import printable
from .schema import DeviceDict, FindingDict, ReportDict, StateDict

# Bytes of one finding that text lists one by one; JSON has all.
LISTED = 8
# syslog truncates long messages, and the full reason is in the annotation or the refusal.
# Characters of a reason that go into the log; annotation and refusal have all.
LOGGED = 300

_LOGGED_ACTIONS = {BLOCK: "blocked", MEND: "mended"}
HEADLINES = {
    "pass": "QEMU on the destination will accept the devices",
    "tolerated": "QEMU on the destination will accept the devices, though some bytes differ",
    "unknown": "it is not known whether QEMU on the destination will accept the devices",
    "fail": "QEMU would refuse the guest",
}

# What each grade of evidence means for the verdict that rests on it.
EVIDENCE = {
    "stream": "the bytes that QEMU itself sends or saved: exact",
    "vfio": "read from the device through VFIO, as QEMU reads it",
    "catalogue": "read from a device with the same type, driver and firmware: right as far as these"
    " determine it",
    "inferred": "not read: assumed to be the source's, because type, driver and firmware are equal",
    "sysfs": "the physical device, with VFIO's view worked out: what a driver adds is missing",
    "file": "supplied by the operator; may be out of date",
}


def name(device: DeviceDict) -> str:
    """``hostdev0 (0000:06:00.4, guest 0000:05:00.0)``."""
    # A command-line device without an id has no alias.
    shown = device["alias"] or device["key"]
    address = guest_address(device)
    where = [part for part in (device["host"], f"guest {address}" if address else "") if part]
    return f"{shown} ({', '.join(where)})" if where else str(shown)


def guest_address(device: DeviceDict) -> str:
    """The device's PCI address in the guest, empty where that is not known."""
    key = str(device["key"])
    # A key that is no guest address, such as commandline:ID, has another number of colons.
    return key if key.count(":") == 2 else ""


def headline(report: ReportDict) -> str:
    """One line that is complete in itself: what, where, why, what to do."""
    verdict = report["verdict"]
    opening = f"guest '{report['guest']}' ({report['machine']}): {verdict}"
    # The first reason only: virsh prints the whole of stderr, so details follow on other lines.
    reason = next(_reasons(report), None)
    if reason is None:
        return printable(f"{opening}: {HEADLINES[verdict]}")
    device, finding = reason
    parts = [finding["text"]]
    if device and device["qemu"]:
        parts.append(f'QEMU would fail with "{device["qemu"]}"')
    parts += [f"{word}: {text}" for word, text in _advice(report, finding) if text]
    return printable(f"{opening}: {name(device) + ': ' if device else ''}{'; '.join(parts)}")


def _advice(report: ReportDict, finding: FindingDict) -> tuple[tuple[str, str], ...]:
    # The note says why mending failed, which explains the action better than the remedy does.
    return ("note", report["note"]), ("to do", finding.get("remedy", ""))


def _reasons(report: ReportDict) -> Iterator[tuple[DeviceDict | None, FindingDict]]:
    """Findings that lead to the report's verdict, with the device concerned."""
    if report["verdict"] == "pass":
        return
    # None first: a finding on the guest as a whole concerns all its devices.
    for device in (None, *report["devices"]):
        for finding in (device or report)["findings"]:
            if finding["verdict"] == report["verdict"]:
                yield device, finding


def refusal(report: ReportDict, what: str) -> list[str]:
    """What the hook prints when it blocks ``what`` (``migration``, ``restore``)."""
    # libvirt puts all of stderr into one error message: the first line must be complete in itself.
    return [f"vfio-preflight: {what} blocked: {headline(report)}", *details(report)]


def details(report: ReportDict) -> list[str]:
    """All facts, one a line, indented below what they belong to."""
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
    # Names, paths and texts are the guest's, the emulator's or a file's.
    return [printable(line) for line in lines]


def evidence_used(report: ReportDict) -> dict[str, str]:
    """The grades of evidence that the report rests on, best first, and what each means."""
    states = [state for device in report["devices"] for _, state in _states(device)]
    used = {state["evidence"] for state in states}
    return {grade: meaning for grade, meaning in EVIDENCE.items() if grade in used}


def remedies(report: ReportDict) -> dict[str, str]:
    """What can be done, each remedy once, with those it helps; nothing if the guest is mended."""
    # A mended guest passes, so nothing is left to be done.
    if report["action"] == MEND:
        return {}
    found: dict[str, list[str]] = {}
    for device in (None, *report["devices"]):
        subject = (device["alias"] or device["key"]) if device else "the guest"
        for finding in (device or report)["findings"]:
            if finding.get("remedy"):
                found.setdefault(finding["remedy"], []).append(subject)
    # Each subject once, although several findings of a device can have the same remedy.
    return {remedy: ", ".join(dict.fromkeys(subjects)) for remedy, subjects in found.items()}


def _evidence(device: DeviceDict) -> str:
    known = [
        f"{side} state: {state['evidence']}, {state['origin']}" for side, state in _states(device)
    ]
    return f" [{'; '.join(known)}]" if known else ""


def _states(device: DeviceDict) -> Iterator[tuple[str, StateDict]]:
    """The states that are known, each with its side."""
    for side, state in (("source", device["source"]), ("destination", device["destination"])):
        if state:
            yield side, state


def _finding_lines(findings: list[FindingDict], indent: str) -> list[str]:
    lines: list[str] = []
    for finding in findings:
        lines.append(f"{indent}{finding['code']}: {finding['text']}")
        lines += [f"{indent}  {line}" for line in mismatch_lines(finding)]
    return lines


def mismatch_lines(finding: FindingDict) -> list[str]:
    """The bytes of a finding one by one, where it has more than the one its text names."""
    mismatches = finding.get("mismatches", [])
    # One byte is quoted in the finding's text already.
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


def summary(report: ReportDict) -> str:
    """The line for the log: verdict, action, codes, and the reason unless QEMU will accept."""
    shown = [*(f["code"] for f in report["findings"])]
    # One code for a device keeps the line short; the report has all of them.
    shown += [f"{d['alias'] or d['key']}={_worst_code(d)}" for d in report["devices"]]
    action = _LOGGED_ACTIONS.get(report["action"] or "", report["action"])
    line = f"guest '{report['guest']}': {report['verdict']}, {action} [{' '.join(shown)}]"
    line = printable(line)
    reason = next(_reasons(report), None)
    # Successful checks are logged without a reason, as most lines of the log are of this kind.
    if report["verdict"] not in (UNKNOWN, FAIL) or reason is None:
        return line
    device, finding = reason
    why = f"{name(device)}: {finding['text']}" if device else finding["text"]
    return f"{line}: {printable(why, LOGGED)}"


def _worst_code(device: DeviceDict) -> str:
    codes = [f["code"] for f in device["findings"] if f["verdict"] == device["verdict"]]
    return codes[0] if codes else str(device["verdict"])

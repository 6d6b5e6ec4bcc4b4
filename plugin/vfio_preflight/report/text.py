"""A report as text: the hook's refusal, the log line, and ``check``'s output without rich."""

from __future__ import annotations

from collections.abc import Iterator

from ..judge import codes
from ..judge.remedies import in_short
from ..judge.verdicts import BLOCK, FAIL, MEND, UNKNOWN
from ..osutil.text import printable
from .firstline import compose, first_line, reasons, short_guest, short_name, to_do
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
    """``hostdev0 (0000:06:00.4, guest 0000:05:00.0)``; with the destination's alias if it differs.

    ``hostdev2 (hostdev1 at the destination, 0000:06:00.4, guest 0000:05:00.0)``.
    """
    shown, address = short_name(device), guest_address(device)
    there = device["alias"] if device["alias"] != shown else None
    parts = (
        f"{there} at the destination" if there else "",
        device["host"],
        f"guest {address}" if address else "",
    )
    where = [part for part in parts if part]
    return f"{shown} ({', '.join(where)})" if where else shown


def guest_address(device: DeviceDict) -> str:
    """The device's PCI address in the guest, empty where that is not known."""
    key = str(device["key"])
    # A key that is no guest address, such as commandline:ID, has another number of colons.
    return key if key.count(":") == 2 else ""


def headline(report: ReportDict) -> str:
    """The verdict and what led to it, in one short line (``firstline``)."""
    return first_line(report["verdict"], report, title(report))


def refusal(report: ReportDict, what: str, remedy: str = "") -> list[str]:
    """What the hook prints when it blocks ``what`` (``migration``, ``restore``).

    ``remedy`` is what to do, in the first line, where that is not what the finding says.
    """
    # libvirt puts all of stderr into one error message: the first line must be complete in itself.
    return [first_line(blocked(what), report, title(report), remedy), *details(report)]


def blocked(what: str) -> str:
    """How every refusal of the hook's begins."""
    return f"vfio-preflight: {what} blocked"


def unchecked(what: str, guest: str, failure: str, remedy: str) -> list[str]:
    """What the hook prints when it blocks a guest that it could not check, for ``failure``.

    ``remedy`` is what to do in full; it follows the first line, as the failure does.
    """
    text = f"the check could not be made: {' '.join(failure.split())}"
    subjects = (f"guest {short_guest(guest)}: ", "")
    first = compose(blocked(what), subjects, (text,), to_do(in_short(codes.NOT_CHECKED, guest)))
    return [first, printable(f"  guest {guest}: {text}"), f"  to do: {remedy}"]


def details(report: ReportDict) -> list[str]:
    """All facts, one a line, indented below what they belong to."""
    lines = [f"  guest {report['guest']}, machine type {report['machine']}, {report['emulator']}"]
    lines += _finding_lines(report["findings"], "  ")
    for device in report["devices"]:
        lines.append(f"  {name(device)}: {device['verdict']}{_evidence(device)}")
        lines += _finding_lines(device["findings"], "    ")
        if device["qemu"]:
            lines.append(f"    QEMU would fail with: {device['qemu']}")
    lines += [f"  not judged: {line}" for line in unjudged_lines(report)]
    lines += [f"  evidence {grade}: {meaning}" for grade, meaning in evidence_used(report).items()]
    lines += [f"  to do for {subjects}: {remedy}" for remedy, subjects in remedies(report).items()]
    if report["note"]:
        lines.append(f"  note: {report['note']}")
    # Names, paths and texts are the guest's, the emulator's or a file's.
    return [printable(line) for line in lines]


def unjudged_lines(report: ReportDict) -> list[str]:
    """The guest's devices that are not judged: what each is, why, and what is known of it.

    Who refuses one is said by a finding.
    """
    lines = []
    # A report of an older release has no such list.
    for device in report.get("unjudged", []):
        names = ", ".join(filter(None, (device["alias"], device["host"])))
        what = f"{device['what']} ({names})" if names else device["what"]
        lines.append("; ".join(filter(None, (f"{what}: {device['reason']}", device["known"]))))
    return lines


def title(report: ReportDict) -> str:
    """What the verdict means, in words; that there was nothing to judge, where that is so."""
    if any(finding["code"] == codes.NOTHING_JUDGED for finding in report["findings"]):
        return "no VFIO PCI device: nothing was checked"
    others = len(report.get("unjudged", []))
    more = f"; {others} other device{'s' if others > 1 else ''} not judged" if others else ""
    return f"{HEADLINES[report['verdict']]}{more}"


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
        subject = short_name(device) if device else "the guest"
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
    shown += [f"{short_name(d)}={_worst_code(d)}" for d in report["devices"]]
    action = _LOGGED_ACTIONS.get(report["action"] or "", report["action"])
    line = f"guest '{report['guest']}': {report['verdict']}, {action} [{' '.join(shown)}]"
    line = printable(line)
    reason = next(reasons(report), None)
    # Successful checks are logged without a reason, as most lines of the log are of this kind.
    if report["verdict"] not in (UNKNOWN, FAIL) or reason is None:
        return line
    device, finding = reason
    why = f"{name(device)}: {finding['text']}" if device else finding["text"]
    return f"{line}: {printable(why, LOGGED)}"


def _worst_code(device: DeviceDict) -> str:
    codes = [f["code"] for f in device["findings"] if f["verdict"] == device["verdict"]]
    return codes[0] if codes else str(device["verdict"])

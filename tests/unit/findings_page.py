"""Writes docs/FINDINGS.md: every finding's text as printed. ``make findings`` runs it.

PYTHONPATH=plugin:tests python -m unit.findings_page > docs/FINDINGS.md
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from unit.findings_examples import EXAMPLES, Example
from vfio_preflight.judge.codes import CODES, Code
from vfio_preflight.judge.verdicts import BLOCK
from vfio_preflight.report.schema import DeviceDict, FindingDict, ReportDict, as_dict
from vfio_preflight.report.text import mismatch_lines, name, refusal

CASE = r"case \{.*"
PAGE = "docs/FINDINGS.md"
HEAD = """\
# Findings, as they are printed

Made by `make findings`, of what the code says about made-up guests; a unit test holds it to that.
Of each finding: what it means, the first line of a refusal for it, its text as it stands below,
with the bytes where they are several, and what to do. A first line has 200 bytes at most; all the
rest follows it. libvirt puts its own words before it: "Hook script execution failed: internal
error: Child process (… GUEST OPERATION begin -) unexpected exit status 1: ".
"""
SECTIONS = {
    "fail": "QEMU would refuse the guest",
    "unknown": "It is not known whether QEMU would accept the guest",
    "tolerated": "QEMU will accept the guest, though some bytes differ",
    "pass": "Nothing that is in the way",
}


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(line for verdict in SECTIONS for line in _section(verdict))])


def _section(verdict: str) -> Iterator[str]:
    yield f"## {verdict}: {SECTIONS[verdict]}\n"
    for code in sorted(CODES.values()):
        if code.verdict == verdict:
            yield from _entry(code, EXAMPLES[code]())


def _entry(code: Code, example: Example) -> Iterator[str]:
    report = as_dict(*example)
    device, finding = find(report, code)
    yield f"### {code}\n"
    yield f"{code.meaning}\n"
    lines = [first_line(report, device, finding)] if code.verdict != "pass" else []
    lines += [f"{name(device)}:" if device else "guest:", f"  {code}: {finding['text']}"]
    lines += [f"    {line}" for line in mismatch_lines(finding)]
    lines += [f"  to do: {finding['remedy']}"] if finding.get("remedy") else []
    # A bug report has all bytes of both devices.
    yield "\n".join(f"    {re.sub(CASE, 'case {…}', line)}" for line in lines) + "\n"


def find(report: ReportDict, code: str) -> tuple[DeviceDict | None, FindingDict]:
    """The finding of this code in a report, and whose it is. Raises LookupError without one."""
    for device in (None, *report["devices"]):
        for finding in (device or report)["findings"]:
            if finding["code"] == code:
                return device, finding
    raise LookupError(code)


def first_line(report: ReportDict, device: DeviceDict | None, finding: FindingDict) -> str:
    """The first line of a refusal for this finding, whatever else was found beside it."""
    alone: ReportDict = {**report, "verdict": finding["verdict"], "action": BLOCK}
    alone["findings"] = [] if device else [finding]
    alone["devices"] = [{**device, "findings": [finding]}] if device else []
    return refusal(alone, "migration")[0]


if __name__ == "__main__":
    sys.stdout.write(page())

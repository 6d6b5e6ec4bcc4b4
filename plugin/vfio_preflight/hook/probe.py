"""The dry run's request to the destination's hook, and the reply.

``vfio-preflight check GUEST --to URI`` has the destination itself judge the guest: it sends, as an
*offline* migration, a stopped placeholder with the guest's XML. libvirt then runs ``migrate begin``
on the destination and nothing else: no QEMU, no memory. The hook recognises the placeholder by its
name and by the ``<probe>`` in its metadata, always refuses it, and answers in the refusal, in
several parts if libvirt's error message is too short for it.
"""

from __future__ import annotations

import binascii
import json
import zlib

from ..osutil.light import TYPE_CHECKING
from ..report.schema import ReportDict

if TYPE_CHECKING:
    from collections.abc import Callable

    from lxml import etree

    from ..judge.facts import Facts
    from ..judge.findings import Report
    from ..judge.policy import Decision

MARK = "vfio-preflight-reply"
# Characters of an answer that certainly fit into libvirt's error message with its own words.
PART = 600


class Readiness:
    """Whether the devices are there and free now, for a report on the guest of a ``<domain>``.

    For the question alone, and not in the hook's decision: a migration is not judged by it.
    """

    def __init__(self, root: etree._Element) -> None:
        self._root = root
        self._add: Callable[..., tuple[Report, Decision | None]] | None = None

    def noted(self, report: Report, facts: Facts) -> Report:
        """``report``, after a look at what this host has."""
        from ..guest.pools import networks_asked
        from ..host.inventory import read_inventory
        from ..judge.checks.readiness import with_readiness

        here = (facts, read_inventory(), networks_asked(self._root))
        self._add = lambda told, decision: with_readiness(told, decision, *here)
        return report

    def added(self, report: Report, decision: Decision) -> tuple[Report, Decision | None]:
        """``report`` with the findings, if it came to a look, and what is left of the decision."""
        return self._add(report, decision) if self._add else (report, decision)


def reply(part: int, report: ReportDict) -> bytes:
    """The part of the answer that the request names, or the last: mark, part, parts, text."""
    text = encode(report)
    parts = [text[at : at + PART] for at in range(0, len(text), PART)]
    # A part beyond the end comes from a requester that counted the parts of another report.
    part = min(part, len(parts) - 1)
    return f"{MARK} {part} {len(parts)} {parts[part]}\n".encode()


def encode(report: ReportDict) -> str:
    """A report as one word of printable characters."""
    # Compressed: each part costs an offline migration.
    packed = zlib.compress(json.dumps(report, separators=(",", ":")).encode(), 9)
    # base64 has no white space, so libvirt's message can be split at spaces.
    return binascii.b2a_base64(packed, newline=False).decode()


def decode(text: str) -> ReportDict:
    """The report in :func:`encode`'s word. Raises ValueError if it is none."""
    try:
        report: ReportDict = json.loads(zlib.decompress(binascii.a2b_base64(text)))
    except (binascii.Error, zlib.error) as error:
        raise ValueError(str(error)) from error
    if not isinstance(report, dict):
        raise ValueError("not a report")
    return report

"""The changed XML that goes back to libvirt: our ``<report>``, and the overrides that mend.

The output is parsed back and must differ from the input by our metadata element alone (and, when
mending, by the override).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from lxml import etree

from .. import __version__
from ..guest.mend import Mend, add_override, only_ours_changed
from ..guest.metadata import find_ours, set_report
from ..guest.xml import parse_domain, to_bytes
from ..osutil.text import printable
from ..report.schema import FindingDict, ReportDict

# Ties a refused restore to its attempt (hook.refusals).
TOKEN = "token"


def annotated(
    xml: bytes, report: ReportDict | None, mends: tuple[Mend, ...] = (), token: str = ""
) -> bytes:
    """``xml`` with ``mends``, and with ``report`` unless that is None.

    Raises RuntimeError if the result differs from ``xml`` in anything else.
    """
    root = parse_domain(xml)
    for mend in mends:
        add_override(root, mend)
    if report is not None:
        set_report(root, report_element(report, token))
    changed = to_bytes(root)
    # Both sides are parsed anew: what is compared is what libvirt sent and what it will get.
    if not only_ours_changed(parse_domain(xml), parse_domain(changed), mends):
        raise RuntimeError("the changed XML differs in more than the annotation")
    return changed


def token_of(xml: bytes) -> str | None:
    """The token in the XML's ``<report>``, None without one. Raises GuestError."""
    ours = find_ours(parse_domain(xml))
    report = None if ours is None else next(ours.iterchildren("{*}report"), None)
    return None if report is None else report.get(TOKEN)


def report_element(report: ReportDict, token: str) -> etree._Element:
    """The ``<report>`` element of our metadata."""
    element = etree.Element(
        "report",
        schema=str(report["schema"]),
        version=__version__,
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        # Which host wrote the report: the annotation travels on with the next migration.
        host=os.uname().nodename,
        verdict=report["verdict"],
        action=report["action"] or "",
    )
    if token:
        element.set(TOKEN, token)
    _add_findings(element, report["findings"])
    for device in report["devices"]:
        # lxml refuses control characters and lone surrogates, and the names are the guest's.
        key = printable(device["key"])
        child = etree.SubElement(element, "device", key=key, verdict=device["verdict"])
        if device["alias"]:
            child.set("alias", printable(device["alias"]))
        if device["host"]:
            child.set("host", printable(device["host"]))
        for side, state in (("source", device["source"]), ("destination", device["destination"])):
            if state:
                child.set(side, state["evidence"])
        _add_findings(child, device["findings"])
    for other in report["unjudged"]:
        child = etree.SubElement(element, "unjudged", kind=other["kind"])
        if other["alias"]:
            child.set("alias", printable(other["alias"]))
        if other["host"]:
            child.set("host", other["host"])
    return element


def _add_findings(element: etree._Element, findings: Sequence[FindingDict]) -> None:
    for finding in findings:
        child = etree.SubElement(
            element, "finding", code=finding["code"], verdict=finding["verdict"]
        )
        child.text = printable(finding["text"])

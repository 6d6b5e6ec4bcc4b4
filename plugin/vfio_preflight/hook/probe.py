"""The dry run's question to the destination's hook, and its answer.

``vfio-preflight check GUEST --to URI`` has the destination itself judge the guest: it sends, as an
*offline* migration, a stopped stand-in with the guest's XML. libvirt then runs ``migrate begin`` on
the destination and nothing else: no QEMU, no memory. The hook knows the stand-in by its name and by
the ``<probe>`` in its metadata, always refuses it, and answers in the refusal, a part at a time if
libvirt's error message has no room for all of it.
"""

from __future__ import annotations

import binascii
import json
import zlib
from typing import cast

from lxml import etree

from ..guest.domain import Guest
from ..guest.xml import name_of
from ..judge.verdicts import ALWAYS
from ..report.schema import ReportDict

NAME_PREFIX = "vfio-preflight-probe-"
ELEMENT = "probe"
MARK = "vfio-preflight-reply"
# Characters of an answer that certainly fit into libvirt's error message with its own words.
PART = 600


def is_probe(guest: Guest) -> bool:
    """Whether the XML is a dry run's stand-in, not a guest."""
    return guest.name.startswith(NAME_PREFIX) and _part(guest) is not None


def requested_trial(guest: Guest) -> str:
    """The trial mode that the operator asked for; empty for the host's own setting."""
    element = _element(guest)
    return ALWAYS if element is not None and element.get("trial") == ALWAYS else ""


def _element(guest: Guest) -> etree._Element | None:
    children = guest.metadata if guest.metadata is not None else ()
    return next((child for child in children if name_of(child) == ELEMENT), None)


def _part(guest: Guest) -> int | None:
    element = _element(guest)
    if element is None:
        return None
    text = element.get("part", "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0


def reply(guest: Guest, report: ReportDict) -> bytes:
    """The part of the answer that the stand-in asks for: mark, part, parts, text."""
    text = encode(report)
    parts = [text[at : at + PART] for at in range(0, len(text), PART)]
    part = min(_part(guest) or 0, len(parts) - 1)
    return f"{MARK} {part} {len(parts)} {parts[part]}\n".encode()


def encode(report: ReportDict) -> str:
    """A report as one word of printable characters."""
    packed = zlib.compress(json.dumps(report, separators=(",", ":")).encode(), 9)
    return binascii.b2a_base64(packed, newline=False).decode()


def decode(text: str) -> ReportDict:
    """The report in :func:`encode`'s word. Raises ValueError if it is none."""
    try:
        value = json.loads(zlib.decompress(binascii.a2b_base64(text)))
    except (binascii.Error, zlib.error) as error:
        raise ValueError(str(error)) from error
    if not isinstance(value, dict):
        raise ValueError("not a report")
    return cast(ReportDict, value)

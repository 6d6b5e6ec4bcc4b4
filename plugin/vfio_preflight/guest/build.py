"""In the record: what the build of QEMU that runs the guest makes of its devices.

    <emulator version="10.0.2" machine="pc-q35-9.0" on="a" time="2026-11-28T12:00:00Z"
              process="..." encoding="typical1+zlib+base64">eJxj...</emulator>

It is of the QEMU that runs the guest now, where a device's entry stays that of the first host. It
travels as it is, and is taken apart (``qemu.emulator.sent``) only where it is compared.
"""

from __future__ import annotations

import re

from lxml import etree

from ..osutil.light import NamedTuple

ELEMENT = "emulator"
_ATTRIBUTES = ("version", "package", "machine", "on", "time", "process", "encoding")
_MAX_TEXT = 1 << 16
# As in record.py: what XML cannot hold.
_NOT_XML = r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]"


class RecordedBuild(NamedTuple):
    """``version`` and ``package`` are the build's, ``on`` the host and ``time`` when it was
    recorded (ISO 8601, UTC). ``process`` names the QEMU process, as in a device's entry. ``text``
    is in the form that ``encoding`` names.
    """

    version: str
    package: str
    machine: str
    on: str
    time: str
    process: str
    encoding: str
    text: str


def write_build(record: etree._Element, build: RecordedBuild) -> None:
    """Add ``<emulator>`` to a ``<record>``."""
    element = etree.SubElement(record, ELEMENT)
    for name in _ATTRIBUTES:
        value = getattr(build, name)
        if value:
            element.set(name, re.sub(_NOT_XML, "?", value))
    element.text = build.text


def read_build(record: etree._Element) -> RecordedBuild | None:
    """The ``<emulator>`` of a ``<record>``; None without one, or with one of absurd size."""
    element = next(record.iterchildren(f"{{*}}{ELEMENT}"), None)
    if element is None or len(element.text or "") > _MAX_TEXT:
        return None
    attributes = {name: element.get(name, "") for name in _ATTRIBUTES}
    return RecordedBuild(**attributes, text=element.text or "")

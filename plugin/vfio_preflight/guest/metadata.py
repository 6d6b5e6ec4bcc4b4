"""Our one element in a guest's ``<metadata>``: the operator's policy, the record, the last report.

    <preflight:preflight xmlns:preflight="urn:vfio-preflight:1">
      <policy fail="block" unknown="annotate"/>
      <record schema="1" .../>
      <report schema="1" .../>
    </preflight:preflight>

libvirt keeps one element for each namespace, and adds or takes away the namespace of everything in
it (``virDomainSetMetadata``, ``virDomainGetMetadata``): children are known by their local names.
What is not understood is kept.
"""

from __future__ import annotations

from lxml import etree

from ..osutil.light import NamedTuple
from .record import Record, RecordEntry, RecordError, parse_record, write_record
from .xml import name_of, parse_fragment

__all__ = [
    "ELEMENT",
    "NAMESPACE",
    "PREFIX",
    "PROBE",
    "PROBE_NAME_PREFIX",
    "Probe",
    "Record",
    "RecordEntry",
    "RecordError",
    "find_ours",
    "from_get_metadata",
    "last_moved",
    "read_policy",
    "read_probe",
    "read_record",
    "set_record",
    "set_report",
    "to_set_metadata",
    "write_record",
]

NAMESPACE = "urn:vfio-preflight:1"
PREFIX = "preflight"
ELEMENT = "preflight"
_TAG = f"{{{NAMESPACE}}}{ELEMENT}"
# A dry run's placeholder for a guest (``hook.probe``) has this in its metadata, and such a name.
PROBE = "probe"
PROBE_NAME_PREFIX = "vfio-preflight-probe-"
# <metadata> may be anywhere in a <domain>; libvirt writes it after these.
_BEFORE_METADATA = ("name", "uuid", "genid", "title", "description", "hwuuid")


class Probe(NamedTuple):
    """A dry run's request: the part of the answer; the trial mode, empty for the host's own; the
    migration's bandwidth in MiB/s, 0 where it is not known."""

    part: int
    trial: str = ""
    bandwidth: int = 0


def find_ours(root: etree._Element) -> etree._Element | None:
    """Return our element of a ``<domain>``, or None. Of several the first counts, as to libvirt."""
    # Found by namespace, as libvirt does; the prefix is the operator's or libvirt's choice.
    return root.find(f"metadata/{_TAG}")


def read_policy(ours: etree._Element | None) -> dict[str, str]:
    """Return the attributes of ``<policy>``, as written; empty where there is none."""
    policy = _child(ours, "policy")
    return {} if policy is None else {str(name): str(value) for name, value in policy.items()}


def read_probe(name: str, ours: etree._Element | None) -> Probe | None:
    """Return the request in a dry run's placeholder domain; None for a guest.

    A part that is not a number is the first.
    """
    probe = _child(ours, PROBE)
    # Both are required: metadata can be copied into the definition of a real guest.
    if probe is None or not name.startswith(PROBE_NAME_PREFIX):
        return None
    return Probe(
        _number(probe.get("part", "0"), 5),
        probe.get("trial", ""),
        _number(probe.get("bandwidth", "0"), 8),
    )


def _number(text: str, digits: int) -> int:
    # isascii() too: isdigit() is also true for digits of other scripts and superscripts. Limited:
    # int() raises ValueError for thousands of digits (CPython 3.11).
    return int(text) if text.isascii() and text.isdigit() and len(text) <= digits else 0


def read_record(ours: etree._Element | None) -> Record | None:
    """Return the record of our element; None where there is none.

    Raises RecordError for a record that cannot be read as a whole; a damaged entry costs only its
    device (``RecordEntry.damage``).
    """
    element = _child(ours, "record")
    # Not None where the record is empty: that it was recorded at all is information, too.
    return None if element is None else parse_record(element)


def last_moved(ours: etree._Element | None) -> str:
    """When the guest last came in by a migration or a restore that was judged; empty if never.

    The report is written as it begins, before the QEMU starts that runs the guest since then.
    """
    report = _child(ours, "report")
    return "" if report is None else report.get("time", "")


def set_record(root: etree._Element, record: etree._Element) -> None:
    """Put ``<record>`` into a ``<domain>``, in place of the one it has."""
    _replace(_ours_in(root), record)


def set_report(root: etree._Element, report: etree._Element) -> None:
    """Put ``<report>`` into a ``<domain>``, in place of the one it has."""
    _replace(_ours_in(root), report)


def to_set_metadata(record: etree._Element, previous: etree._Element | None = None) -> str:
    """Return what ``virDomainSetMetadata`` wants as its XML to store ``record``.

    The caller gives :data:`PREFIX` as key and :data:`NAMESPACE` as uri; libvirt adds them itself.
    ``previous`` is our element as it was: its other children are kept.
    """
    # Without a namespace: libvirt adds the one it is given as uri, and the prefix, itself.
    bare = etree.Element(ELEMENT)
    for child in previous if previous is not None else ():
        bare.append(_without_namespace(child))
    _replace(bare, record)
    return etree.tostring(bare, encoding="unicode")


def from_get_metadata(xml: str) -> etree._Element:
    """Return our element from what ``virDomainGetMetadata`` gave for :data:`NAMESPACE`.

    Raises GuestError if that is not XML.
    """
    return parse_fragment(xml.encode())


def _child(ours: etree._Element | None, name: str) -> etree._Element | None:
    # libxml2 looks for it: others may have put any number of elements there.
    return None if ours is None else next(ours.iterchildren(f"{{*}}{name}"), None)


def _replace(ours: etree._Element, child: etree._Element) -> None:
    """Put ``child`` where the first of its name stands, drop others of that name, or append it."""
    old = list(ours.iterchildren(f"{{*}}{name_of(child)}"))
    if not old:
        ours.append(child)
        return
    # The tail holds the indentation that libvirt wrote; the rest of the XML stays as it was.
    child.tail = old[0].tail
    ours.replace(old[0], child)
    # A second <record> or <report> can only come from an edit by hand.
    for each in old[1:]:
        ours.remove(each)


def _ours_in(root: etree._Element) -> etree._Element:
    ours = find_ours(root)
    if ours is None:
        metadata = root.find("metadata")
        # At the place where libvirt itself writes it.
        if metadata is None:
            metadata = etree.Element("metadata")
            root.insert(_metadata_position(root), metadata)
        ours = etree.SubElement(metadata, _TAG, nsmap={PREFIX: NAMESPACE})
    return ours


def _metadata_position(root: etree._Element) -> int:
    leading = [i for i, child in enumerate(root) if name_of(child) in _BEFORE_METADATA]
    return leading[-1] + 1 if leading else 0


def _without_namespace(element: etree._Element) -> etree._Element:
    # Imported here: the hook reads metadata at every event but copies it only when it writes.
    from copy import deepcopy

    copy = deepcopy(element)
    # lxml copies the white space behind the element with it.
    copy.tail = None
    for each in copy.iter(f"{{{NAMESPACE}}}*"):
        each.tag = name_of(each)
    # Unused declarations remain after the tags were renamed.
    etree.cleanup_namespaces(copy)
    return copy

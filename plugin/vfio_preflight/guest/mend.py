"""Adding the override that avoids a failure to domain XML; checking that nothing else changed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import zip_longest

from lxml import etree

from ..osutil.light import NamedTuple
from .metadata import ELEMENT, NAMESPACE
from .xml import QEMU_NS, GuestError

_OVERRIDE = f"{{{QEMU_NS}}}override"
_DEVICE = f"{{{QEMU_NS}}}device"
_FRONTEND = f"{{{QEMU_NS}}}frontend"
_PROPERTY = f"{{{QEMU_NS}}}property"
_OURS = f"{{{NAMESPACE}}}{ELEMENT}"


class Mend(NamedTuple):
    """A boolean QEMU property set on the device with this alias through ``<qemu:override>``."""

    alias: str
    name: str
    value: bool


def add_override(root: etree._Element, mend: Mend) -> None:
    """Set the property in ``<qemu:override>`` of a ``<domain>``, which is created if missing.

    An override of the same property for the same device is replaced; others stay. libvirt knows
    the types string, signed, unsigned, bool (``true``, ``false``) and remove. It ignores an alias
    that no device has, and QEMU fails on a property that it lacks: the caller has checked both.
    Raises GuestError for the property ``id``, which libvirt refuses to override.
    """
    if mend.name == "id":
        raise GuestError("libvirt does not let the property 'id' be overridden")
    # All previous ones, since libvirt applies overrides in order and the last one wins.
    for old in _properties(root, mend):
        _remove(old)
    etree.SubElement(_frontend(root, mend.alias), _PROPERTY, _attributes(mend))


def only_ours_changed(
    before: etree._Element, after: etree._Element, mends: Collection[Mend] = ()
) -> bool:
    """Return whether two ``<domain>`` elements differ in nothing but our metadata and ``mends``.

    White space between elements, the order of attributes and namespace prefixes do not count;
    everything else does, comments included. ``after`` must hold each mend.
    """
    # A mend that is not there would make the rest of the comparison say nothing about it.
    if not all(_holds(after, mend) for mend in mends):
        return False
    ignored = _ignored(before, mends), _ignored(after, mends)
    # Compared as text first, which libxml2 does: a million elements of other applications' metadata
    # would take seconds to walk. Other prefixes, orders or blanks are rare.
    if _without(before, ignored[0]) == _without(after, ignored[1]):
        return True
    walks = zip_longest(_content(before, ignored[0]), _content(after, ignored[1]))
    return all(one == other for one, other in walks)


def _without(root: etree._Element, ignored: set[etree._Element]) -> bytes:
    """The text of ``root`` without what is ignored, which is taken out and put back."""
    taken = []
    for element in ignored:
        parent = element.getparent()
        # What is inside of another one goes with that.
        if parent is not None and parent not in ignored:
            taken.append((parent, parent.index(element), element))
    # The last ones first, so that each is put back where it was.
    taken.sort(key=lambda each: each[1])
    for parent, _, element in reversed(taken):
        parent.remove(element)
    text = etree.tostring(root, encoding="utf-8")
    for parent, at, element in taken:
        parent.insert(at, element)
    return text


def _attributes(mend: Mend) -> dict[str, str]:
    return {"name": mend.name, "type": "bool", "value": "true" if mend.value else "false"}


def _overridden(root: etree._Element, alias: str) -> list[etree._Element]:
    """Return the override entries of a device; all of them count, the last one most."""
    entries = root.findall(f"{_OVERRIDE}/{_DEVICE}")
    return [entry for entry in entries if entry.get("alias") == alias]


def _frontend(root: etree._Element, alias: str) -> etree._Element:
    entries = _overridden(root, alias)
    # An alias can have several <qemu:device>; behind the last one nothing can override ours.
    device = entries[-1] if entries else _new_device(root, alias)
    frontend = device.find(_FRONTEND)
    return etree.SubElement(device, _FRONTEND) if frontend is None else frontend


def _new_device(root: etree._Element, alias: str) -> etree._Element:
    override = root.find(_OVERRIDE)
    if override is None:
        override = etree.SubElement(root, _OVERRIDE, nsmap={"qemu": QEMU_NS})
    return etree.SubElement(override, _DEVICE, alias=alias)


def _remove(element: etree._Element) -> None:
    parent = element.getparent()
    if parent is not None:
        parent.remove(element)


def _properties(root: etree._Element, mend: Mend) -> list[etree._Element]:
    return [
        element
        for device in _overridden(root, mend.alias)
        for element in device.iterfind(f"{_FRONTEND}/{_PROPERTY}")
        if element.get("name") == mend.name
    ]


def _holds(root: etree._Element, mend: Mend) -> bool:
    # Exactly one: a second property of that name could set another value.
    return [dict(each.attrib) for each in _properties(root, mend)] == [_attributes(mend)]


def _ignored(root: etree._Element, mends: Collection[Mend]) -> set[etree._Element]:
    """Return the elements that may differ, and those that only hold such elements."""
    # Only our own element: other applications keep theirs in <metadata>.
    ignored = set(root.findall(f"metadata/{_OURS}"))
    for mend in mends:
        ignored.update(_properties(root, mend))
    # Innermost first, since an element is hollow only if its children are ignored already.
    for path in (
        "metadata",
        f"{_OVERRIDE}/{_DEVICE}/{_FRONTEND}",
        f"{_OVERRIDE}/{_DEVICE}",
        _OVERRIDE,
    ):
        ignored.update(each for each in root.findall(path) if _is_hollow(each, ignored))
    return ignored


def _is_hollow(element: etree._Element, ignored: set[etree._Element]) -> bool:
    # First, and only up to the first: there can be any number of other applications' elements.
    if not all(child in ignored for child in element):
        return False
    # A child's tail is text of its parent.
    texts = [element.text, *(child.tail for child in element)]
    return not any(text and text.strip() for text in texts)


def _content(element: etree._Element, ignored: set[etree._Element]) -> Iterator[tuple[object, ...]]:
    """Yield all that an element holds, in order, without what is ignored and blank text."""
    children = [child for child in element if child not in ignored]
    text = element.text or ""
    yield (
        element.tag,
        # The target of a processing instruction, which has no attributes.
        getattr(element, "target", None),
        sorted(element.attrib.items()),
        # Blank text counts as content where there are no child elements that it could indent.
        text if text.strip() or not children else "",
    )
    for child in element:
        if child not in ignored:
            yield from _content(child, ignored)
        if child.tail and child.tail.strip():
            yield (child.tail,)
    # Marks the end of the element: without it, siblings and children would look alike.
    yield ()

"""Parsing and writing domain XML: bounded, no network, no entities, no change of what is kept.

>>> root = parse_domain(b"<domain type='kvm'><name>g1</name></domain>")
>>> to_bytes(root)
b"<domain type='kvm'>..."
"""

from __future__ import annotations

import re

from lxml import etree

from ..errors import PreflightError
from ..osutil.text import printable

# Four times what fits through libvirt's RPC (REMOTE_STRING_MAX, 4 MiB).
MAX_XML = 16 * 1024 * 1024
# libxml2 compares each attribute of an element with all others: 50,000 take seconds. libvirt's own
# elements have a dozen, and ours no more than 30.
MAX_ATTRIBUTES = 512
QEMU_NS = "http://libvirt.org/schemas/domain/qemu/1.0"
_DOMAIN_TYPES = ("kvm", "qemu")


class GuestError(PreflightError):
    """Domain XML that cannot be judged: not XML, not a QEMU domain, or invalid where it matters."""


class LimitError(GuestError):
    """Domain XML that is too large to be judged: of the guest it is not known what will happen."""


def parse_domain(xml: bytes) -> etree._Element:
    """Return the ``<domain>`` element of libvirt domain XML.

    Raises LimitError for more than :data:`MAX_XML` bytes or an element of more than
    :data:`MAX_ATTRIBUTES` attributes, GuestError for anything else that is not one QEMU or KVM
    domain. Document types are refused, so that no entity is ever expanded.
    """
    _require_bounded(xml)
    if not xml.strip():
        raise GuestError("the domain XML is empty")
    root = _parse(xml)
    if root.tag != "domain":
        found = _shown(root.tag)
        raise GuestError(f"the XML is not a libvirt domain: its root element is <{found}>")
    kind = root.get("type", "")
    if kind not in _DOMAIN_TYPES:
        # Other drivers (lxc, xen, bhyve) also have <domain>; the check is about QEMU alone.
        raise GuestError(f"the domain has type {_shown(kind)!r}; only kvm and qemu run QEMU")
    return root


def to_bytes(root: etree._Element) -> bytes:
    """Return the document of ``root`` as UTF-8 without an XML declaration, as libvirt writes it."""
    # The declaration would make no difference to libvirt, but to a comparison of the bytes.
    return etree.tostring(root.getroottree(), encoding="utf-8", xml_declaration=False)


def parse_fragment(xml: bytes) -> etree._Element:
    """Return the root of any small XML document, such as one ``virDomainGetMetadata`` returned.

    Raises GuestError as :func:`parse_domain` does, for size, syntax and document types.
    """
    _require_bounded(xml)
    return _parse(xml)


def name_of(element: etree._Element) -> str:
    """Return the local name of an element; the empty string for comments and the like."""
    tag: object = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def _require_bounded(xml: bytes) -> None:
    """Raise LimitError for what would take libxml2 long, before it sees it."""
    # libxml2 builds the tree in memory, several times the text's size.
    if len(xml) > MAX_XML:
        raise LimitError(f"the domain XML is too large: more than {MAX_XML} bytes are not read")
    # Most XML has not so many attributes altogether, and is not searched.
    if xml.count(b"=") > MAX_ATTRIBUTES and any(map(_is_overloaded, xml.split(b"<"))):
        raise LimitError(
            f"an element of the domain XML has over {MAX_ATTRIBUTES} attributes, which are not read"
        )


def _is_overloaded(markup: bytes) -> bool:
    """Whether what follows a "<" is a tag with more attributes than are read."""
    if markup.count(b"=") <= MAX_ATTRIBUTES:
        return False
    # Up to the ">" that ends the tag: the text behind it may hold any number of "=".
    tag = re.match(rb"""(?:[^>"']|"[^"]*"|'[^']*')*""", markup)
    return tag is not None and len(re.findall(rb"""=\s*["']""", tag[0])) > MAX_ATTRIBUTES


def _parse(xml: bytes) -> etree._Element:
    parser = etree.XMLParser(
        # Entities: /etc/shadow in a message (XXE), or billions of characters from a few lines.
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        # Keeps libxml2's own limits on depth and on the size of a text.
        huge_tree=False,
        # CDATA sections stay as written: the XML may be handed back to libvirt.
        strip_cdata=False,
    )
    try:
        root = etree.fromstring(xml, parser)
    except (etree.LxmlError, LookupError, ValueError) as error:
        why = getattr(error, "msg", None) or error  # without "(<string>, line 1)"
        # Its own limits on depth and on the size of a text, for which huge_tree is the way out.
        if "XML_PARSE_HUGE" in str(why) or "huge text node" in str(why):
            raise LimitError(f"the domain XML is too large: {_shown(why)}") from error
        raise GuestError(f"the domain XML is not well-formed: {_shown(why)}") from error
    # With a DTD, attribute defaults could add what the XML does not show.
    doctype: str = getattr(root.getroottree().docinfo, "doctype", "")
    if doctype:
        raise GuestError("the domain XML has a DOCTYPE, which libvirt never writes; it is refused")
    return root


def _shown(text: object) -> str:
    return printable(str(text), 200)

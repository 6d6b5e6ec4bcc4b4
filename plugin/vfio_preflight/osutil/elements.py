"""Single elements of an XML document, without the tree that lxml would build of it.

For what runs for every guest of a host: expat is there with Python, and loads in no time.

>>> elements(b"<network><forward mode='nat'/></network>", ("forward",))
[('network/forward', {'mode': 'nat'})]
"""

from __future__ import annotations

from collections.abc import Collection


def elements(xml: bytes, names: Collection[str]) -> list[tuple[str, dict[str, str]]]:
    """Path from the root and attributes of every element of these names, in document order.

    Namespaces are not told apart: a path has the names as written. Raises ValueError for what is
    not well-formed or has a document type.
    """
    # Imported here: most guests need no parser at all.
    from xml.parsers import expat

    found: list[tuple[str, dict[str, str]]] = []
    path: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        path.append(name)
        if name in names:
            found.append(("/".join(path), attributes))

    def refuse(*_: object) -> None:
        # As guest.xml does: no entity is ever expanded.
        raise ValueError("the XML has a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _name: path.pop()
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(xml, True)
    except expat.ExpatError as error:
        raise ValueError(str(error)) from error
    return found

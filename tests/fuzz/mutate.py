"""Mutations of domain XML that keep it XML: what bytes turned at random hardly ever are.

    >>> mutate(b"<domain>…</domain>", random.Random(1))
    b"<domain>…"

A step takes an element away, repeats it, moves it, or gives it another attribute or text; values
come from the XML itself and from :data:`VALUES`. What cannot be parsed comes back as it is.
"""

from __future__ import annotations

import copy
import random

from lxml import etree

STEPS = 4
# What the hook reads values as: addresses, numbers, switches, names, JSON, our own record.
VALUES = (
    "",
    "0",
    "-1",
    "0x10000",
    "99999999999999999999",
    "on",
    "off",
    "yes",
    "no",
    "pci",
    "mdev",
    "hostdev",
    "network",
    "vfio-pci",
    "vfio-ap",
    "subsystem",
    "unassigned",
    "skip-vsc-check",
    "enable-migration",
    "0000:06:00.4",
    "0000:00:05.0",
    "c2177883-f1bb-47f0-914d-32a22e3a8805",
    "hostdev0",
    "ua-x",
    "ua-\u009b31m\u202e\u2028",
    "\U0001f600" * 300,
    "../../../etc/passwd",
    "/dev/null",
    "$(reboot)",
    "%n%s{0}{name}",
    "block",
    "allow",
    "mend",
    "vfio",
    "ff" * 256,
    '{"driver":"vfio-pci","host":"0000:06:00.4","id":"\\ud800"}',
    '{"driver":"vfio-pci","sysfsdev":"/sys/bus/pci/devices/0000:06:00.4","addr":"0x9"}',
    "vfio-pci,host=06:00.4,id=x,,y,bus=pcie.0,addr=0x9.0x1",
    "-device",
    "-global",
    "vfio-pci.skip-vsc-check=on",
    "pc-q35-9.0",
    "pc-i440fx-10.0",
    "virt-9.0",
    "/usr/bin/qemu-system-x86_64",
)


def mutate(xml: bytes, chance: random.Random) -> bytes:
    """``xml`` after one to :data:`STEPS` steps."""
    try:
        root = etree.fromstring(xml, etree.XMLParser(resolve_entities=False, no_network=True))
    except (etree.LxmlError, ValueError):
        return xml
    for _ in range(chance.randint(1, STEPS)):
        elements = [element for element in root.iter() if isinstance(element.tag, str)]
        try:
            chance.choice(_STEPS)(chance.choice(elements), elements, chance)
        # What XML cannot hold: a value of another element's comes as it is.
        except ValueError:
            continue
    return etree.tostring(root, encoding="utf-8")


def _remove(element: etree._Element, _all: list[etree._Element], _chance: random.Random) -> None:
    parent = element.getparent()
    if parent is not None:
        parent.remove(element)


def _repeat(element: etree._Element, _all: list[etree._Element], chance: random.Random) -> None:
    parent = element.getparent()
    if parent is not None:
        for _ in range(chance.choice((1, 1, 2, 40))):
            parent.append(copy.deepcopy(element))


def _move(element: etree._Element, every: list[etree._Element], chance: random.Random) -> None:
    chance.choice(every).append(copy.deepcopy(element))


def _set(element: etree._Element, every: list[etree._Element], chance: random.Random) -> None:
    other = chance.choice(every)
    names = [str(name) for name in (*element.attrib, *other.attrib)] or ["type"]
    element.set(chance.choice(names), _value(other, chance))


def _drop(element: etree._Element, _all: list[etree._Element], chance: random.Random) -> None:
    if len(element.attrib):
        del element.attrib[chance.choice(list(element.attrib))]


def _rename(element: etree._Element, every: list[etree._Element], chance: random.Random) -> None:
    element.tag = chance.choice(every).tag


def _write(element: etree._Element, every: list[etree._Element], chance: random.Random) -> None:
    element.text = _value(chance.choice(every), chance)


def _value(other: etree._Element, chance: random.Random) -> str:
    own = [str(value) for value in other.attrib.values()]
    return chance.choice(own) if own and chance.random() < 0.5 else chance.choice(VALUES)


_STEPS = (_remove, _repeat, _move, _set, _set, _set, _drop, _rename, _write)

"""All device types of a build of QEMU, as values: what each has by default, and what machine types
set.

    >>> facts.lineage("virtio-net-pci")[:3]
    ['virtio-net-pci', 'virtio-net-pci-base', 'virtio-net-pci-base-type']
    >>> effective(facts, "pc-q35-9.0", "pcie-root-port")["x-pcie-ext-tag"]
    Value(text='off', origin='pci-device')

Where ``machines.EmulatorFacts`` has what VFIO devices need, for every call of the hook, this has
everything, and is read only where two builds are compared. A type is taken apart when it is asked
for: few of six hundred are.

A default that QMP does not tell (features of a CPU model, for one) is not known, and so neither is
what the property's value will be. Compat entries that name an interface reach nobody here: QEMU has
none.

Pure: the facts are collected by ``typefacts``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...osutil.light import NamedTuple
from ..model.properties import PropertyError, parse_bool, parse_integer

# What follows the number of a "size", by its power of 1024.
_SUFFIXES = "bkmgtpe"
# Devices of two objects: the one that -device names hands its properties on to another one, which
# has compat entries of its own. Named after it, but for these.
_PARTS = {
    "virtio-vga": "virtio-gpu-device",
    "virtio-vga-gl": "virtio-gpu-gl-device",
    "vhost-user-vga": "vhost-user-gpu",
    "qemu-xhci": "base-xhci",
    "nec-usb-xhci": "base-xhci",
}
_TRANSPORTS = ("-pci", "-pci-transitional", "-pci-non-transitional")


class TypeFacts(NamedTuple):
    """What a build says of its device types; as it is kept, without repetitions.

    ``listed`` are all distinct properties (name, type, default), ``sets`` the distinct sets of them
    (numbers, with blanks between), ``types`` which set each type that can be made has. ``parents``
    are of all device types. ``entries`` are all distinct compat entries, ``machines`` which each
    machine type has, in QEMU's order. ``compat_props_known`` is False for a build that does not
    tell them (QEMU before 9.1). ``directories`` are where it looks for firmware, in order, and
    ``roms`` the sizes in bytes of the option ROMs that it finds there.
    """

    version: str
    package: str
    compat_props_known: bool
    listed: Sequence[Sequence[str | bool | int | None]]
    sets: Sequence[str]
    types: Mapping[str, int]
    parents: Mapping[str, str]
    entries: Sequence[Sequence[str]]
    machines: Mapping[str, str]
    directories: Sequence[str]
    roms: Mapping[str, int]

    def has(self, qom_type: str) -> bool:
        """Whether ``-device`` or a board can make a device of this type."""
        return qom_type in self.types

    def properties(self, qom_type: str) -> dict[str, tuple[str, str | bool | int | None]]:
        """The type and the default of each property; empty for a type that there is not."""
        if qom_type not in self.types:
            return {}
        chosen = (self.listed[int(n)] for n in self.sets[self.types[qom_type]].split())
        return {str(name): (str(kind), default) for name, kind, default in chosen}

    def lineage(self, qom_type: str) -> list[str]:
        """The type and its ancestors."""
        line: list[str] = []
        # QOM has no cycles, but what answered may not be QEMU.
        while qom_type and qom_type not in line:
            line.append(qom_type)
            qom_type = self.parents.get(qom_type, "")
        return line

    def compat(self, machine: str) -> list[tuple[str, str, str]]:
        """The compat entries of a machine type, in QEMU's order."""
        chosen = (self.entries[int(n)] for n in self.machines.get(machine, "").split())
        return [(qom_type, name, value) for qom_type, name, value in chosen]

    def part(self, qom_type: str) -> str:
        """The type of the object that a device hands its properties on to, or empty."""
        if qom_type in _PARTS:
            return _PARTS[qom_type] if _PARTS[qom_type] in self.types else ""
        stem = next((qom_type[: -len(t)] for t in _TRANSPORTS if qom_type.endswith(t)), "")
        found = (name for name in (f"{stem}-device", stem) if stem and name in self.types)
        return next(found, "")


class Value(NamedTuple):
    """The value of a property, in one notation for all builds; ``origin`` is the type that a compat
    entry names which sets it, empty for the build's default."""

    text: str
    origin: str = ""


def effective(facts: TypeFacts, machine: str, qom_type: str) -> dict[str, Value]:
    """What a device of ``qom_type`` has where nobody sets anything, as far as that is known.

    QEMU goes through the compat entries in order, for each object that is or descends from the type
    that an entry names, so the last one wins. Of a device of two objects the inner one is made
    first, and the outer one's entries are set on top of it.

    Source: ``object_apply_global_props()``, qom/object.c; ``device_post_init()``,
    hw/core/qdev.c; ``virtio_instance_init_common()``, hw/virtio/virtio.c.
    """
    compat = facts.compat(machine)
    part = facts.part(qom_type)
    inner = _effective(facts, compat, part) if part else {}
    found = _effective(facts, compat, qom_type)
    for name, value in inner.items():
        if name in found and not found[name].origin:
            found[name] = value
    return found


def _effective(
    facts: TypeFacts, compat: list[tuple[str, str, str]], qom_type: str
) -> dict[str, Value]:
    properties = facts.properties(qom_type)
    found = {
        name: Value(normal(kind, default))
        for name, (kind, default) in properties.items()
        if default is not None
    }
    line = frozenset(facts.lineage(qom_type))
    for named, name, text in compat:
        if named in line and name in properties:
            found[name] = Value(normal(properties[name][0], text), named)
    return found


def normal(kind: str, value: str | bool | int) -> str:
    """``value`` of a property of type ``kind`` in one notation: on and off, and decimal numbers.

    >>> normal("bool", "true"), normal("uint8", "0x11"), normal("size", "64k")
    ('on', '17', '65536')
    """
    if isinstance(value, (bool, int)):
        return ("off", "on")[value] if isinstance(value, bool) else str(value)
    try:
        if kind == "bool":
            return ("off", "on")[parse_bool(value)]
        if kind == "size":
            return str(_size(value))
        if kind.startswith(("int", "uint")):
            return str(parse_integer(value, signed=kind.startswith("int")))
    except (PropertyError, ValueError):
        return value
    return value


def _size(text: str) -> int:
    """A size as ``qemu_strtosz()`` reads it, but for fractions."""
    if text[-1:].isalpha() and not text.startswith("0x"):
        return int(text[:-1]) << 10 * _SUFFIXES.index(text[-1].lower())
    return int(text, 0)

"""What an emulator offers, as values, and the questions that are put to it.

    >>> facts.resolve("q35").name
    'pc-q35-10.0'
    >>> facts.compat_value(facts.machines["pc-q35-9.0"], "vfio-pci", "skip-vsc-check")
    'false'
    >>> newest_machine(facts, like="pc-q35-11.1").name
    'pc-q35-10.0'

Pure: no file, no process. The facts are collected by ``qemu.emulator``.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...osutil.light import NamedTuple
from ..model.boards import BOARDS, canonical

# vfio-pci-nohotplug is what libvirt uses for display=on with ramfb.
VFIO_TYPES = ("vfio-pci", "vfio-pci-nohotplug")
"""The QOM types behind every VFIO device of PCI that libvirt or an operator can ask for."""

CompatEntry = tuple[str, str, str]
"""QOM type, property and value, as ``query-machines`` gives them."""


class Property(NamedTuple):
    """A property of a QOM type; ``default`` is None where QEMU names none."""

    type: str
    default: bool | int | str | None


class MachineType(NamedTuple):
    """A machine type of an emulator.

    ``compat`` holds, in QEMU's order, the compatibility properties that reach a VFIO device; it is
    empty where the emulator does not report them (``EmulatorFacts.compat_props_known``).
    """

    name: str
    alias: str | None
    deprecated: bool
    is_default: bool
    compat: tuple[CompatEntry, ...]


class EmulatorFacts(NamedTuple):
    """What an emulator says of itself.

    ``path`` is the path that was asked for, ``version`` like "10.0.2", ``package`` the builder's
    own version or "". ``properties`` and ``lineage`` (a QOM type and its ancestors) are keyed by
    the QOM types in ``VFIO_TYPES`` that the emulator has. ``compat_props_known`` is False for an
    emulator that does not list compatibility properties (QEMU before 9.1): then what a machine
    type sets is not known, which is not the same as nothing. ``target`` is the architecture that
    it emulates, by QEMU's name (``SysEmuTarget``), empty where it was not asked.
    """

    path: str
    version: str
    package: str
    machines: Mapping[str, MachineType]
    properties: Mapping[str, Mapping[str, Property]]
    lineage: Mapping[str, tuple[str, ...]]
    compat_props_known: bool
    target: str = ""

    def resolve(self, name: str) -> MachineType | None:
        """Return the machine type with this name or alias, or None if the emulator has none."""
        if name in self.machines:
            return self.machines[name]
        return next((m for m in self.machines.values() if m.alias == name), None)

    def compat_value(self, machine: MachineType, qom_type: str, name: str) -> str | None:
        """Return what ``machine`` sets the property ``name`` of a ``qom_type`` device to, or None.

        None means that the machine type leaves the property alone, that the device has no such
        property, or that the emulator does not report it (see ``compat_props_known``). The value is
        text that QEMU has yet to parse: "off" and "false" both occur.

        QEMU walks the whole list for every object and sets each entry whose type the object is or
        descends from, so the last entry that applies wins, however general its type. The list
        runs from the newest release to the oldest, so an older release overrides a newer one.
        Source: ``object_apply_global_props()``, qom/object.c; ``compat_props_add()`` and its
        callers, hw/i386/pc_q35.c.
        """
        if name not in self.properties.get(qom_type, {}):
            return None
        types = self.lineage.get(qom_type, (qom_type,))
        values = [value for type_, key, value in machine.compat if key == name and type_ in types]
        # Later entries overwrite earlier ones in object_apply_global_props().
        return values[-1] if values else None


class MachineName(NamedTuple):
    """A machine type's name taken apart, to compare it with others of its board.

    ``pc-q35-rhel9.4.0`` is board "pc-q35", vendor "rhel", version (9, 4, 0). Ubuntu names releases
    by word: ``pc-q35-noble-v2`` is vendor "ubuntu" and version (release, 2). ``variant`` is what
    else the name says, as "hpb". A name without a version has version ().
    """

    board: str
    vendor: str
    version: tuple[int, ...]
    variant: str


# In the order of their dates: the index serves as version.
_UBUNTU_RELEASES = (
    *("trusty", "utopic", "vivid", "wily", "xenial", "yakkety", "zesty", "artful", "bionic"),
    *("cosmic", "disco", "eoan", "focal", "groovy", "hirsute", "impish", "jammy", "kinetic"),
    *("lunar", "mantic", "noble", "oracular", "plucky", "questing", "resolute"),
)


def parse_machine_name(name: str) -> MachineName:
    """Take a machine type's name apart; a name of an unknown form is a board without version."""
    return _ubuntu_name(name) or _numbered_name(name) or _worded_name(name)


def _ubuntu_name(name: str) -> MachineName | None:
    parts = name.split("-")
    where = next((i for i, part in enumerate(parts) if part in _UBUNTU_RELEASES), 0)
    # Index 0 would leave no name for the board.
    if not where:
        return None
    release = _UBUNTU_RELEASES.index(parts[where])
    rest = parts[where + 1 :]
    revisions = [int(part[1:]) for part in rest if part[0:1] == "v" and _is_number(part[1:])]
    variant = "-".join(part for part in rest if not _is_number(part[1:]))
    board = canonical("-".join(parts[:where]))
    # What has no "vN" is the first of its release.
    return MachineName(board, "ubuntu", (release, *(revisions or [1])), variant)


def _numbered_name(name: str) -> MachineName | None:
    board, _, last = name.rpartition("-")
    # Red Hat has no hyphen between the two: pc-q35-rhel9.4.0.
    vendor = last.rstrip("0123456789.")
    numbers = last[len(vendor) :].split(".")
    if not board or not all(map(_is_number, numbers)) or not (vendor.isalpha() or not vendor):
        return None
    return MachineName(canonical(board), vendor, tuple(map(int, numbers)), "")


def _worded_name(name: str) -> MachineName:
    for board in BOARDS:
        if name.startswith(f"{board.name}-"):
            return MachineName(board.name, name[len(board.name) + 1 :], (), "")
    return MachineName(canonical(name), "", (), "")


def _is_number(text: str) -> bool:
    # isdigit() alone is true for superscripts, which int() refuses.
    return text.isascii() and text.isdigit()


def newest_machine(facts: EmulatorFacts, like: str) -> MachineType | None:
    """Return the newest versioned machine type of the board that ``like`` is of, or None.

    One of the same vendor is preferred, then one of upstream QEMU, then any.
    """
    wanted = parse_machine_name(like)

    def rank(name: MachineName) -> tuple[bool, bool, tuple[int, ...], bool]:
        return (name.vendor == wanted.vendor, not name.vendor, name.version, not name.variant)

    names = {machine: parse_machine_name(machine) for machine in facts.machines}
    peers = [name for name, n in names.items() if n.board == wanted.board and n.version]
    if not peers:
        return None
    return facts.machines[max(peers, key=lambda name: rank(names[name]))]


def is_newer(name: str, than: str) -> bool:
    """Whether two machine types are of one board and vendor, and ``name`` is the newer."""
    left, right = parse_machine_name(name), parse_machine_name(than)
    # Versions of two vendors are not comparable: rhel9.4.0 is not newer than upstream's 9.1.
    return left[:2] == right[:2] and left.version > right.version


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """Sort key that puts "pc-q35-9.2" before "pc-q35-10.0"."""
    marked = "".join(f"\0{char}" if _boundary(name, i) else char for i, char in enumerate(name))
    return tuple((int(p), "") if _is_number(p) else (-1, p) for p in marked.split("\0"))


def _boundary(name: str, i: int) -> bool:
    return i > 0 and _is_number(name[i]) != _is_number(name[i - 1])

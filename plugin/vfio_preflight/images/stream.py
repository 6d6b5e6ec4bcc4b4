"""The configuration spaces inside a QEMU migration stream, found from its end.

A stream is what ``migrate`` writes to a file and what a libvirt save image carries. Behind guest
RAM come the devices' sections, then the *vmdescription*, JSON that lists these sections with the
sizes of their fields::

    RAM ... | section | section | ... | section | 00 | 06 | be32 length | JSON |

So nothing of RAM has to be read: the description is taken from the tail, and the sections are
followed back from it, each one checked at both ends before the next is looked for::

    with open(path, "rb", buffering=0) as file:
        stream = read_stream(file, path)
    stream.vfio["0000:00:01.0:00.0"].config

A guest controls the content of its RAM, and after a crash a file may end with anything. Therefore
bytes are never searched for: they are where the sizes say, between the marks that QEMU writes
there, or they are not returned.

Devices are named by their path: domain and number of the root bus, then slot and function on every
bus from there on (``pcibus_get_dev_path``); ``guest.topology`` translates it.

Source: QEMU 10.0.2, ``migration/savevm.c``, ``migration/vmstate.c``, ``hw/pci/pci.c``; seen on
7.2, 10.0 and 11.1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from ..osutil.light import TYPE_CHECKING, NamedTuple
from ..pci.state import UNKNOWN, ConfigState, Missing, State
from .sections import BadSectionError, Place, find_place, number
from .tail import Readable, StreamError, Tail

if TYPE_CHECKING:
    from typing import Any

__all__ = ["Section", "Stream", "StreamError", "read_machine", "read_stream", "read_tail"]

MAGIC = b"QEVM"
VERSION = 3
QEMU_VM_EOF = 0x00
QEMU_VM_SECTION_FULL = 0x04
QEMU_VM_VMDESCRIPTION = 0x06
QEMU_VM_CONFIGURATION = 0x07
QEMU_VM_SECTION_FOOTER = 0x7E

HEAD = 512  # bytes in which the machine type stands
MAX_SLACK = 1 << 20  # zeros that may follow a stream, as padding to a block's end leaves them
MAX_DESCRIPTION = 16 << 20  # 50 KB for a small guest, and for each CPU some 10 KB more
# A guest has some hundreds; more is not QEMU's description.
_MAX_SECTIONS = 100_000
# Exceptions raised when a description's values are not of the expected types.
_NOT_QEMUS = (
    *(ValueError, LookupError, TypeError, AttributeError),
    *(OverflowError, RecursionError, MemoryError),
)
_DESCRIPTION_MARKS = bytes([QEMU_VM_EOF, QEMU_VM_VMDESCRIPTION])
_FOOTER = 5
_VFIO = "vfio"

_INCOMPLETE = (
    "it does not end as a migration stream does: it was cut short, or something was put behind it,"
    " or it lies on a larger block device, or its machine has suppress-vmdesc=on"
)


class Section(NamedTuple):
    """A device's section as the description has it.

    ``name`` is as in ``0000:00:02.0/vfio``; ``version`` is None where it is not described; ``size``
    is that of the body in bytes; ``place`` is None where no configuration space is in it.
    """

    name: str
    instance: int
    version: int | None
    size: int
    place: Place | None


class Stream(NamedTuple):
    """The PCI devices in a stream, by path: a config state, or why there is none.

    ``vfio`` are those of vfio-pci, ``emulated`` QEMU's own. BARs are not in a stream. ``machine``
    is the machine type, empty where the stream's beginning was not available. ``sections`` are the
    sections of all devices, in the stream's order.
    """

    machine: str
    vfio: Mapping[str, State]
    emulated: Mapping[str, State]
    sections: tuple[Section, ...]


def read_stream(file: Readable, origin: str, start: int = 0, slack: int = MAX_SLACK) -> Stream:
    """The stream from ``start`` to the end of a seekable, best unbuffered, binary ``file``.

    ``origin`` names the file in states and errors. The first bytes and the tail are read: less
    than a megabyte for a guest of 30 CPUs, however large its RAM. Up to ``slack`` bytes of zeros
    may follow the stream; where the file was not made for it, not even these should be allowed,
    because the end of an older stream may precede them. Raises StreamError for anything but
    a complete stream with a description.
    """
    tail = Tail(file, origin, start)
    # A Tail of its own for the head: the window of the other one stays at the file's end.
    machine = read_machine(Tail(file, origin, start, min(start + HEAD, tail.end)))
    return _read(tail, machine, slack)


def read_tail(file: Readable, origin: str) -> Stream:
    """The same for a file that holds only the last part of a stream; ``machine`` stays empty."""
    return _read(Tail(file, origin), "", MAX_SLACK)


def read_machine(head: Tail) -> str:
    """The machine type that a stream's first bytes name, empty if none. Raises StreamError."""
    data = head.read(head.start, head.start + HEAD)
    if data[:4] != MAGIC:
        raise head.error("not a QEMU migration stream, which begins with QEVM")
    if _be32(data, 4) != VERSION:
        raise head.error(f"a migration stream of version {_be32(data, 4)}, and only 3 is known")
    # Absent with send-configuration=off, the setting of very old machine types.
    if data[8:9] != bytes([QEMU_VM_CONFIGURATION]):
        return ""
    # be32 length, then the name, which vmstate_configuration saves as a buffer.
    name = data[13 : 13 + _be32(data, 9)].decode("ascii", "replace")
    # The name is printed later; the file may be anybody's.
    return name if name.isprintable() else ""


def _read(tail: Tail, machine: str, slack: int) -> Stream:
    end, text = _find_description(tail, slack)
    sections = _parse_description(tail, text)
    vfio: dict[str, State] = {}
    emulated: dict[str, State] = {}
    for section, body, problem in _walk_back(tail, sections, end):
        if section.place is None:
            continue
        path, _, name = section.name.rpartition("/")
        states = vfio if name == _VFIO else emulated
        # Two with one path: the description is not what QEMU writes, so nothing is believed.
        if path in states:
            raise tail.error(f"two sections of its stream are of one device, {path[:80]!a}")
        states[path] = _state(tail, section, section.place, body, problem)
    return Stream(machine, _forward(vfio), _forward(emulated), sections)


# The walk goes backwards; reports list devices in the stream's order.
def _forward(states: Mapping[str, State]) -> Mapping[str, State]:
    return {path: states[path] for path in reversed(list(states))}


# --- description ------------------------------------------------------------------------------


def _find_description(tail: Tail, slack: int) -> tuple[int, bytes]:
    """Where the last section ends, and the description's text.

    JSON has no NUL. The last one is in the four bytes of its length, or the mark before these.
    """
    end = tail.without_zeros(slack)
    # JSON contains no NUL, so the last one belongs to the length or the mark in front of it.
    nul = tail.find_nul(end, MAX_DESCRIPTION) if end else None
    if end is None or nul is None:
        raise tail.error(_INCOMPLETE)
    # The length's low bytes may be NUL as well, so each possible position is tried.
    for mark in range(max(nul - 5, tail.start), min(nul, end - 6) + 1):
        length = end - (mark + 6)
        # The length must lead exactly to the end: a chance match would have to fit to the byte.
        if tail.read(mark, mark + 6) == _DESCRIPTION_MARKS + length.to_bytes(4, "big"):
            return mark, tail.read(mark + 6, end)
    raise tail.error(_INCOMPLETE)


def _parse_description(tail: Tail, text: bytes) -> tuple[Section, ...]:
    try:
        devices = json.loads(text)["devices"]
        # Bounded: every entry costs a read at both ends.
        if not isinstance(devices, list) or len(devices) > _MAX_SECTIONS:
            raise ValueError("no list of devices")
        return tuple(_section(device) for device in devices)
    except _NOT_QEMUS as error:
        why = f"{type(error).__name__}: {error}"[:120]
        raise tail.error(f"the description of its stream is not as QEMU's are: {why!a}") from error


def _section(device: Mapping[str, Any]) -> Section:
    """Raises one of :data:`_NOT_QEMUS` for a value of an unexpected type."""
    # Old-style sections give their size (vmstate_save_old_style); others only those of their
    # fields.
    size = number(device["size"]) if "size" in device else _body_size(device)
    version = device.get("version")
    name = device["name"].rpartition("/")[2]
    return Section(
        device["name"],
        number(device["instance_id"]),
        None if version is None else number(version),
        size,
        find_place(name, size, device.get("fields", ())),
    )


def _body_size(described: Mapping[str, Any]) -> int:
    """Fields, then subsections, each with its mark, the length of its name, name and version."""
    size = sum(
        number(field["size"]) * number(field.get("array_len", 1)) for field in described["fields"]
    )
    for part in described.get("subsections", ()):
        # QEMU_VM_SUBSECTION, then as in vmstate_subsection_save().
        size += 1 + 1 + len(part["vmsd_name"].encode()) + 4 + _body_size(part)
    return size


# --- sections ---------------------------------------------------------------------------------


def _walk_back(
    tail: Tail, sections: Sequence[Section], end: int
) -> Iterator[tuple[Section, int, str]]:
    """Each section from the last, where its body begins, and why that is not known, if it is not.

    The first one that is not where it should be makes all that are listed before it unknown. What
    ``virtio-mem`` sends early is such a one: listed first, and found in front of RAM.
    """
    problem = ""
    for section in reversed(sections):
        body = end - _FOOTER - section.size
        start = body - len(_header(section, 0))
        # Once one is misplaced, all positions before it are computed from a wrong base.
        if not problem and not _is_at(tail, section, start, body, end):
            problem = f"cannot be found, because that of {section.name[:80]!a} is not where it"
            problem += " should be"
        yield section, body, problem
        end = start


def _is_at(tail: Tail, section: Section, start: int, body: int, end: int) -> bool:
    footer = tail.read(end - _FOOTER, end)
    # The footer repeats the section's number, which ties it to the header (check_section_footer).
    if start < tail.start or footer[:1] != bytes([QEMU_VM_SECTION_FOOTER]):
        return False
    expected = _header(section, _be32(footer, 1))
    # Old-style sections are described without their version: only the rest is compared.
    if section.version is None:
        return tail.read(start, body - 4) == expected[:-4]
    return tail.read(start, body) == expected


# QEMU's idstr has 256 bytes including the NUL, so the length fits into one byte.
def _header(section: Section, number: int) -> bytes:
    """What ``save_section_header`` writes; ``number`` is that of the section in its stream."""
    name = section.name.encode("utf-8", "replace")
    length = bytes([min(len(name), 255)])
    words = (number, section.instance, section.version or 0)
    first, *rest = ((word & 0xFFFFFFFF).to_bytes(4, "big") for word in words)
    return b"".join((bytes([QEMU_VM_SECTION_FULL]), first, length, name, *rest))


def _state(tail: Tail, section: Section, place: Place, body: int, problem: str) -> State:
    try:
        if problem:
            raise BadSectionError(problem)
        begin = body + place.offset
        config = place.extract(tail.read(begin, begin + place.length))
    except BadSectionError as error:
        reason = f"{tail.origin}: the stream's section {section.name[:80]!a} {error}"
        return Missing(UNKNOWN, reason)
    return ConfigState(config, (), "stream", f"{tail.origin}, section {section.name}")


def _be32(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "big")

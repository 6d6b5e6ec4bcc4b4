"""Saved guests: libvirt's save images and managed saves, and bare migration files.

libvirt puts a header of 92 bytes in the byte order of the host that wrote it, the domain's XML and
a cookie in front of QEMU's stream::

    "LibvirtQemudSave", u32 version, data_len, was_running, format, cookie_offset, 14 unused
    XML NUL cookie NUL zeros (data_len bytes)                     stream, raw or compressed

Formats ``raw`` and ``sparse`` (libvirt 11.2, QEMU's mapped-ram) are read from their ends, without
their RAM; of a compressed one everything has to be unpacked::

    image = read_image("/var/lib/libvirt/qemu/save/g1.save")
    image.format, image.stream.vfio["0000:00:01.0:00.0"]

The head, which says whose image it is, can be read alone, and the stream later::

    with opened(path) as (file, slack):
        head = read_head(file, path)
        stream = read_body(file, path, head, deadline, slack=slack)

A file may be padded with zeros at its end. An image on a block device is refused, unless the two
are of one size: it may be followed by the end of an older image, which looks just like its own.

Source: libvirt 11.3.0, ``src/qemu/qemu_saveimage.c``.
"""

from __future__ import annotations

import io
import math
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import PreflightError
from ..osutil.light import TYPE_CHECKING, NamedTuple
from .decompress import DecompressError, read_ends
from .stream import MAGIC, MAX_SLACK, Stream, read_machine, read_stream, read_tail
from .tail import Tail

if TYPE_CHECKING:
    from typing import IO

QEMU_SAVE_MAGIC = b"LibvirtQemudSave"
QEMU_SAVE_PARTIAL = b"LibvirtQemudPart"
QEMU_SAVE_VERSION = 2
QCOW_MAGIC = b"QFI\xfb"
FORMATS = ("raw", "gzip", "bzip2", "xz", "lzop", "zstd", "sparse")
_SEEKABLE = ("raw", "sparse", "qemu")

_HEADER = "16s5I56x"
_HEADER_SIZE = struct.calcsize("=" + _HEADER)
# 4 MiB of XML is what fits through libvirt's RPC, so this is ample.
_MAX_DATA = 64 << 20  # bytes of XML and cookie; libvirt itself adds 64 KiB of room


class SaveImageError(PreflightError):
    """A file that is no save image, not a complete one, or of a kind that cannot be read."""


class SaveImage(NamedTuple):
    """A save image; or, with format ``qemu``, a file that QEMU's ``migrate`` wrote.

    ``xml`` is the guest's as it was saved, ``cookie`` libvirt's; both are empty for ``qemu``.
    ``running`` is whether the guest will run once it is restored.
    """

    xml: bytes
    cookie: bytes
    format: str
    running: bool
    stream: Stream


class Head(NamedTuple):
    """A save image without its stream, which begins at ``start``; the rest as in SaveImage."""

    xml: bytes
    cookie: bytes
    format: str
    running: bool
    start: int


class _Header(NamedTuple):
    magic: bytes
    version: int
    data_len: int
    was_running: int
    format: int
    cookie_offset: int


def read_image(path: str, deadline: float = math.inf, root: str = "/") -> SaveImage:
    """The image at ``path``, a regular file or a block device.

    ``deadline``, on the clock of ``time.monotonic()``, is for formats that must be decompressed;
    the programs for that are looked for below ``root``.

    Raises SaveImageError; StreamError (``qemu.stream``) where the stream in it is not complete.
    """
    with opened(path) as (file, slack):
        return read_open_image(file, path, deadline, root, slack)


@contextmanager
def opened(path: str) -> Iterator[tuple[IO[bytes], int]]:
    """The file at ``path``, unbuffered, and how many zeros, in bytes, may follow its image.

    Raises SaveImageError.
    """
    try:
        # O_NONBLOCK: open() of a FIFO returns at once, to be refused below.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            os.close(descriptor)
            raise SaveImageError(f"{path}: neither a file nor a block device")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise SaveImageError(f"{path}: cannot be opened: {why}") from error
    with open(descriptor, "rb", buffering=0) as file:
        # A device usually is larger than its image: zeros behind it prove nothing about its end.
        yield file, MAX_SLACK if stat.S_ISREG(mode) else 0


def read_open_image(
    file: IO[bytes],
    name: str,
    deadline: float = math.inf,
    root: str = "/",
    slack: int = MAX_SLACK,
) -> SaveImage:
    """The image in an open, unbuffered binary file; ``name`` is for texts. Raises as above.

    ``slack`` is how many zeros, in bytes, may follow it.
    """
    head = read_head(file, name)
    return SaveImage(*head[:4], read_body(file, name, head, deadline, root, slack))


def read_head(file: IO[bytes], name: str) -> Head:
    """What precedes the stream; ``file`` and ``name`` as above. Raises SaveImageError."""
    data = Tail(file, name)
    # What "migrate file:PATH" writes begins with the stream itself.
    if data.read(0, 4) == MAGIC:
        return Head(b"", b"", "qemu", True, 0)
    header = _read_header(data.read(0, _HEADER_SIZE), name)
    start = _HEADER_SIZE + header.data_len
    # The XML is read before the stream: it says whether the image belongs to the guest at all.
    texts = data.read(_HEADER_SIZE, start)
    if len(texts) != header.data_len:
        raise SaveImageError(f"{name}: ends within its XML: it was cut short")
    xml, cookie = _texts(texts, header, name)
    # libvirt reads the format in version 2 only; version 1 images are raw.
    form = FORMATS[header.format] if header.version == QEMU_SAVE_VERSION else "raw"
    return Head(xml, cookie, form, bool(header.was_running), start)


def read_body(
    file: IO[bytes],
    name: str,
    head: Head,
    deadline: float = math.inf,
    root: str = "/",
    slack: int = MAX_SLACK,
) -> Stream:
    """The stream that follows ``head``; arguments as above. Raises SaveImageError, StreamError."""
    # A stream at the end of the file: found there without reading the RAM.
    if head.format in _SEEKABLE:
        return read_stream(file, name, head.start, slack=slack)
    file.seek(head.start)
    try:
        ends = read_ends(file, head.format, deadline, root)
    except DecompressError as error:
        raise SaveImageError(f"{name}: {error}") from error
    # Head and tail are in memory; a small stream is contained in both.
    machine = read_machine(Tail(io.BytesIO(ends.head), name))
    return read_tail(io.BytesIO(ends.tail), name)._replace(machine=machine)


def _read_header(data: bytes, name: str) -> _Header:
    """The header, of whichever byte order makes its version a known one."""
    magic = data[:16]
    # libvirt writes the final magic last, when QEMU has completed the migration.
    if magic == QEMU_SAVE_PARTIAL:
        raise SaveImageError(
            f"{name}: an incomplete save image: the save is still under way, or it failed; libvirt"
            " would not restore it either"
        )
    if magic.startswith(QCOW_MAGIC):
        raise SaveImageError(
            f"{name}: a qcow2 disk: what an internal snapshot in it holds of the guest's memory and"
            " devices cannot be read; only a file of its own can (snapshot-create-as --memspec)"
        )
    if magic != QEMU_SAVE_MAGIC or len(data) < _HEADER_SIZE:
        raise SaveImageError(f"{name}: neither a libvirt save image nor a QEMU migration file")
    # As libvirt does: a version that is too large means the other byte order.
    orders = [_Header(*struct.unpack(order + _HEADER, data)) for order in "<>"]
    header = min(orders, key=lambda header: header.version)
    _check(header, name)
    return header


def _check(header: _Header, name: str) -> None:
    problem = ""
    if not 1 <= header.version <= QEMU_SAVE_VERSION:
        problem = f"is of version {header.version}; known are those up to {QEMU_SAVE_VERSION}"
    elif header.format >= len(FORMATS):
        problem = f"is of format {header.format}; known are {', '.join(FORMATS)}"
    # The upper limit comes before the read: a damaged length must not allocate gigabytes.
    elif not 0 < header.data_len <= _MAX_DATA:
        problem = f"has a header with {header.data_len} bytes of XML, which is not possible"
    elif header.cookie_offset >= header.data_len:
        problem = "has its cookie at an invalid offset"
    if problem:
        raise SaveImageError(f"{name}: a libvirt save image, but it {problem}")


def _texts(data: bytes, header: _Header, name: str) -> tuple[bytes, bytes]:
    """XML and cookie, without the NUL that ends each."""
    # The offset counts from the end of the header; 0 means that there is no cookie.
    room = data[: header.cookie_offset] if header.cookie_offset else data
    xml, end, _ = room.partition(b"\0")
    cookie, cookie_end, _ = data[len(room) :].partition(b"\0")
    if not end or (header.cookie_offset and not cookie_end):
        raise SaveImageError(f"{name}: the XML or the cookie in it does not end: it is damaged")
    return xml, cookie

"""The source's half as a file, which another host loads: ``vfio-preflight twin save`` and ``load``.

One line of JSON about the guest and its twin, then the state that QEMU sent, compressed; a digest
in the line says that it is whole. The line has the guest's arguments without what names its disks,
networks and secrets (``twin.portable``); the state is that of a machine that never ran, and holds
nothing of the guest's memory.

What is read may be anybody's: everything in it is bounded and checked, and the arguments go through
``twin.arguments`` before a QEMU is started with them, as an unprivileged user.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

from ...errors import PreflightError
from ...osutil.digest import sha256
from ...osutil.light import TYPE_CHECKING, NamedTuple
from ...pci import atomics, codec
from ...pci.state import ConfigState
from .twin import MAX_STREAM, Stream

if TYPE_CHECKING:
    from typing import Any

SCHEMA = 1
MAX_FILE = 64 << 20
_MAX_LINE = 4 << 20
_MAX_ARGUMENTS = 20_000
_TEXTS = (*("guest", "uuid", "machine", "emulator", "host", "time", "process", "tree"),)


class EnvelopeError(PreflightError):
    """A file that is no twin's, is damaged, or is of another version."""


class Envelope(NamedTuple):
    """The source's half, and whose it is.

    ``emulator`` is the path of the guest's emulator, ``arguments`` begin with the program. ``tree``
    is the digest of the guest's machine (``guest.tree``), ``process`` names the QEMU that runs it
    (``host.processes``), empty if it came from another host. ``host`` is where, ``time`` when it
    was saved (ISO 8601, UTC).
    """

    guest: str
    uuid: str
    machine: str
    emulator: str
    host: str
    time: str
    process: str
    tree: str
    arguments: tuple[str, ...]
    stream: Stream


def to_bytes(envelope: Envelope) -> bytes:
    """The file."""
    stream = envelope.stream
    data = zlib.compress(stream.data, 6)
    line = {
        "twin": SCHEMA,
        **{name: getattr(envelope, name) for name in _TEXTS},
        "build": stream.build,
        "version": stream.version,
        "arguments": list(envelope.arguments),
        "states": {host: _to_object(state) for host, state in stream.states.items()},
        "sizes": dict(stream.sizes),
        "uncovered": list(stream.uncovered),
        "size": len(stream.data),
        "sha256": sha256(stream.data),
    }
    return json.dumps(line).encode() + b"\n" + data


def from_bytes(data: bytes, source: str) -> Envelope:
    """What :func:`to_bytes` made. Raises :class:`EnvelopeError`, whose text begins with
    ``source``."""
    line, rest = _taken_apart(data, source)
    try:
        texts = {name: _text(line[name]) for name in _TEXTS}
        arguments = tuple(_text(value) for value in _list(line["arguments"]))
        stream = Stream(
            _inflated(rest, line),
            _text(line["build"]),
            _text(line["version"]),
            {_text(host): _state(value) for host, value in _dict(line["states"]).items()},
            {_text(path): _size(value) for path, value in _dict(line["sizes"]).items()},
            tuple(_text(value) for value in _list(line["uncovered"])),
        )
    except (LookupError, TypeError, ValueError, zlib.error, PreflightError) as error:
        raise EnvelopeError(f"{source}: damaged: {error}; save it anew, or copy it anew") from error
    if not arguments:
        raise EnvelopeError(f"{source}: damaged: it has no arguments")
    return Envelope(**texts, arguments=arguments, stream=stream)


def _taken_apart(data: bytes, source: str) -> tuple[dict[str, Any], bytes]:
    """The line, and what follows it."""
    if not data:
        raise EnvelopeError(f"{source}: empty: 'vfio-preflight twin save' has said why")
    head, newline, _rest = data[:_MAX_LINE].partition(b"\n")
    try:
        line = json.loads(head) if newline else None
    except (ValueError, RecursionError):
        line = None
    if not isinstance(line, dict) or "twin" not in line:
        raise EnvelopeError(f"{source}: not a file of 'vfio-preflight twin save'")
    if line["twin"] != SCHEMA:
        raise EnvelopeError(
            f"{source}: made by another vfio-preflight (schema {line['twin']!a:.20}); use the same"
            " version on both hosts"
        )
    return line, data[len(head) + 1 :]


def _inflated(data: bytes, line: Mapping[str, Any]) -> bytes:
    size = _size(line["size"])
    inflater = zlib.decompressobj()
    # One byte more than allowed shows that there are too many.
    found = inflater.decompress(data, min(size, MAX_STREAM) + 1)
    # What is left, of a whole one, is its own checksum.
    rest = inflater.decompress(inflater.unconsumed_tail, 1)
    whole = inflater.eof and not rest and not inflater.unused_data
    if not whole or len(found) != size or sha256(found) != line["sha256"]:
        raise ValueError("its state is not the one that was saved")
    return found


def _to_object(state: ConfigState) -> dict[str, object]:
    more = {} if state.atomics is None else {"atomic_ops": atomics.to_text(state.atomics)}
    return {
        "config": state.config.hex(),
        "bars": codec.bars_to_text(state.bars),
        "evidence": state.evidence,
        "origin": state.origin,
        **more,
    }


def _state(value: object) -> ConfigState:
    given = _dict(value)
    ops = given.get("atomic_ops")
    return ConfigState(
        codec.config_from_hex(given["config"], "a state"),
        codec.bars_from_text(_text(given["bars"])),
        codec.evidence(given["evidence"]),
        _text(given["origin"]),
        None if ops is None else atomics.from_text(_text(ops)),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!a:.40} is no text")
    return value


def _size(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_STREAM:
        raise ValueError(f"{value!a:.40} is no size")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MAX_ARGUMENTS:
        raise ValueError("a list is none, or too long")
    return value


def _dict(value: object) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > _MAX_ARGUMENTS:
        raise ValueError("an object is none, or too large")
    return value

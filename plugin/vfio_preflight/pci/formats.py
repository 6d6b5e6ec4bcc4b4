"""Reads a config state from whatever people have at hand, and writes the project's own JSON.

Understood: 256 or 4096 raw bytes (a copy of sysfs ``config``); text as :mod:`.dumps` reads it, with
the BAR sizes of ``lspci -vv`` where they stand; JSON as :func:`to_json` writes it::

    {"schema": 1, "view": "vfio", "config": "de10b81e…", "evidence": "sysfs", "origin": "…",
     "bars": [{"number": 0, "size": 16777216, "kind": "mem32", "prefetchable": false}]}

and JSON of ``state --image``, if the image has one VFIO device.

Raw bytes and text are what programs read of the physical device, which VFIO presents otherwise
(``host.sources.physical`` works that out); our JSON has VFIO's view, unless its ``view`` says
``physical`` or its bytes cannot be what VFIO presents.
"""

from __future__ import annotations

import codecs
import json

from ..errors import PreflightError
from ..osutil.light import NamedTuple
from . import atomics, codec
from .codec import CodecError
from .space import (
    PCI_CONFIG_HEADER_SIZE,
    PCI_CONFIG_SPACE_SIZE,
    PCIE_CONFIG_SPACE_SIZE,
    is_silent,
    reads_as_vf,
    validate,
)
from .state import ConfigState

SCHEMA = 1
# A hexdump of 4096 bytes has some 20 kB; 'state --image' lists all of a guest's devices.
MAX_FILE = 1 << 20

# Whose bytes a file has: what VFIO presents to QEMU, or what the device itself shows.
VFIO, PHYSICAL = "vfio", "physical"
VIEWS = (VFIO, PHYSICAL)
HINT = "expected 256 or 4096 raw bytes, 'lspci -xxxx' text, a hexdump, or vfio-preflight JSON"


class FormatError(PreflightError):
    """Text or bytes in none of the formats above."""


class Reading(NamedTuple):
    """What a file says: ``state``, with bytes of ``view``.

    For a physical view also what its text says of the device beside its bytes: ``ids``, vendor and
    device as the kernel knows them, or None; whether it is a ``virtual_function``.
    """

    state: ConfigState
    view: str = VFIO
    ids: tuple[int, int] | None = None
    virtual_function: bool = False


def read_file(path: str, evidence: str = "file") -> Reading:
    """Read the file at ``path``. Raises :class:`FormatError`, ``ConfigSpaceError``."""
    try:
        with open(path, "rb") as file:
            # One byte more shows that it is too long; to read all of /dev/zero would never end.
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE:
        raise FormatError(f"{path}: over {MAX_FILE} bytes; {HINT}")
    return parse(data, path, evidence)


def parse(data: bytes, origin: str, evidence: str = "file") -> Reading:
    """Find out the format of ``data`` and read it; ``origin`` names it in errors."""
    # No vendor has the ID feff, with which text of a Windows begins.
    is_raw = len(data) in _RAW and data[:2] not in _MARKS
    if not is_raw and not data.startswith(b"{"):
        data = _native(data, origin)
    # By its size alone a text of 256 or 4096 characters would pass for a configuration space.
    if len(data) in _RAW and not _is_text(data):
        return _physical(data, origin, evidence)
    if not _is_text(data):
        raise FormatError(f"{origin}: {len(data)} bytes in no known format; {HINT}")
    text = data.decode("utf-8-sig", "replace")
    if text.lstrip().startswith("{"):
        return from_json(text, origin, evidence)
    # Regular expressions that the hook has no use for.
    from . import dumps

    try:
        dump = dumps.read(text)
    except dumps.DumpError as error:
        raise FormatError(f"{origin}: {error}; {HINT}") from error
    reading = _physical(dump.config, origin, evidence)
    return reading._replace(
        state=reading.state._replace(bars=dump.bars),
        ids=dump.ids,
        virtual_function=reading.virtual_function or dump.virtual_function,
    )


# 64 bytes are what others than root read.
_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_RAW = (PCI_CONFIG_HEADER_SIZE, PCI_CONFIG_SPACE_SIZE, PCIE_CONFIG_SPACE_SIZE)


def _native(data: bytes, origin: str) -> bytes:
    """Text in UTF-8, whatever system it comes from."""
    # Regular expressions here, too.
    from ..osutil import foreign

    packed = foreign.compression(data)
    if packed is not None:
        raise FormatError(f"{origin}: compressed ({packed[0]}); undo that first ({packed[1]})")
    if foreign.encoding(data) == "utf-8":
        return data
    return foreign.decoded(data).encode("utf-8", "replace")


def _physical(config: bytes, origin: str, evidence: str) -> Reading:
    if is_silent(config):
        raise FormatError(
            f"{origin}: every byte reads ff: the device does not answer (powered off, in reset, or"
            " off the bus); dump it again when it does"
        )
    state = ConfigState(validate(config, origin), (), evidence, origin)
    if not any(config):
        raise FormatError(f"{origin}: every byte reads 00: nothing was read of the device")
    return Reading(state, PHYSICAL, virtual_function=reads_as_vf(config))


def _is_text(data: bytes) -> bool:
    """No text has bytes ff, and a device that fell off the bus reads as nothing else."""
    return all(byte in b"\t\n\r\f\a\b\x1b" or 0x20 <= byte < 0xFF for byte in data) and bool(
        data.strip()
    )


# --- JSON ---------------------------------------------------------------------------------------


def to_json(state: ConfigState) -> str:
    """``state`` as JSON text that :func:`parse` reads back."""
    return json.dumps({"schema": SCHEMA, "view": VFIO, **codec.to_object(state)}, indent=2)


def from_json(text: str, origin: str, evidence: str) -> Reading:
    """Read :func:`to_json`'s text; ``evidence`` is for text that does not name any."""
    try:
        value = json.loads(text)
    # json descends once for each bracket: a file of nothing but brackets ends in RecursionError.
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{origin}: not JSON: {error}") from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise FormatError(f'{origin}: not a config state: "schema" is not {SCHEMA}')
    if isinstance(value.get("devices"), list):
        value = _only_device(value["devices"], origin)
    try:
        config = codec.config_from_hex(value.get("config"), origin)
        bars = codec.bars_from_objects(value.get("bars", []))
        grade = codec.evidence(value.get("evidence", evidence))
        view = codec.one_of(VIEWS, value.get("view", VFIO), "view")
    except CodecError as error:
        raise FormatError(f"{origin}: not a config state: {error}") from error
    # A lone surrogate in a JSON string could not be printed later.
    came_from = str(value.get("origin", origin)).encode("utf-8", "replace").decode()
    widths = atomics.from_text(value.get("atomic_ops"))
    state = ConfigState(config, bars, grade, f"{came_from} (from {origin})", widths)
    # No VFIO driver shows a VF's own IDs: earlier versions wrote such files from raw dumps.
    if view == PHYSICAL or reads_as_vf(config):
        return _physical(config, origin, grade)._replace(state=state)
    return Reading(state)


def _only_device(devices: list[object], origin: str) -> dict[str, object]:
    """The VFIO device in a list of an image's devices, which has emulated ones too."""
    listed = [device for device in devices if isinstance(device, dict)]
    # vfio_migration_init() (hw/vfio/migration.c) registers a device's section as PATH/vfio.
    found = [device for device in listed if str(device.get("device")).endswith("/vfio")]
    if len(found) != 1:
        raise FormatError(f"{origin}: holds {len(found)} VFIO devices; give one")
    # An image is a migration stream: its bytes are what QEMU took at realise.
    return {"evidence": "stream", "origin": found[0]["device"], **found[0]}

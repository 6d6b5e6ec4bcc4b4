"""Reads a config state from whatever people have at hand, and writes the project's own JSON.

Understood: 256 or 4096 raw bytes (a copy of sysfs ``config``); text of ``lspci -xxx`` and
``-xxxx``, with the BAR sizes of ``-v`` where they stand; dumps of ``xxd``, ``hexdump -C`` and
``od -Ax -tx1``; JSON as :func:`to_json` writes it::

    {"schema": 1, "config": "de10b81e…", "evidence": "sysfs", "origin": "…",
     "bars": [{"number": 0, "size": 16777216, "kind": "mem32", "prefetchable": false}]}

and JSON of ``state --image``, if the image has one VFIO device.
"""

from __future__ import annotations

import json

from ..errors import PreflightError
from . import codec
from .codec import CodecError
from .space import PCI_CONFIG_SPACE_SIZE, PCIE_CONFIG_SPACE_SIZE, validate
from .state import ConfigState

SCHEMA = 1
# A hexdump of 4096 bytes has some 20 kB; 'state --image' lists all of a guest's devices.
MAX_FILE = 1 << 20

HINT = "expected 256 or 4096 raw bytes, 'lspci -xxxx' text, a hexdump, or vfio-preflight JSON"


class FormatError(PreflightError):
    """Text or bytes in none of the formats above."""


def read_file(path: str, evidence: str = "file") -> ConfigState:
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


def parse(data: bytes, origin: str, evidence: str = "file") -> ConfigState:
    """Find out the format of ``data`` and read it; ``origin`` names it in errors."""
    # By its size alone a text of 256 or 4096 characters would pass for a configuration space.
    if len(data) in (PCI_CONFIG_SPACE_SIZE, PCIE_CONFIG_SPACE_SIZE) and not _is_text(data):
        return ConfigState(data, (), evidence, origin)
    if not _is_text(data):
        raise FormatError(f"{origin}: {len(data)} bytes in no known format; {HINT}")
    text = data.decode("utf-8", "replace")
    if text.lstrip().startswith("{"):
        return from_json(text, origin, evidence)
    # Regular expressions that the hook has no use for.
    from . import dumps

    try:
        config = validate(dumps.hexdump(text), origin)
    except dumps.DumpError as error:
        raise FormatError(f"{origin}: {error}; {HINT}") from error
    return ConfigState(config, tuple(dumps.regions(text)), evidence, origin)


def _is_text(data: bytes) -> bool:
    """No text has bytes ff, and a device that fell off the bus reads as nothing else."""
    return all(byte in b"\t\n\r\f" or 0x20 <= byte < 0xFF for byte in data) and bool(data.strip())


# --- JSON ---------------------------------------------------------------------------------------


def to_json(state: ConfigState) -> str:
    """``state`` as JSON text that :func:`parse` reads back."""
    return json.dumps({"schema": SCHEMA, **codec.to_object(state)}, indent=2)


def from_json(text: str, origin: str, evidence: str) -> ConfigState:
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
    except CodecError as error:
        raise FormatError(f"{origin}: not a config state: {error}") from error
    # A lone surrogate in a JSON string could not be printed later.
    came_from = str(value.get("origin", origin)).encode("utf-8", "replace").decode()
    return ConfigState(config, bars, grade, f"{came_from} (from {origin})")


def _only_device(devices: list[object], origin: str) -> dict[str, object]:
    """The VFIO device in a list of an image's devices, which has emulated ones too."""
    listed = [device for device in devices if isinstance(device, dict)]
    # vfio_migration_init() (hw/vfio/migration.c) registers a device's section as PATH/vfio.
    found = [device for device in listed if str(device.get("device")).endswith("/vfio")]
    if len(found) != 1:
        raise FormatError(f"{origin}: holds {len(found)} VFIO devices; give one")
    # An image is a migration stream: its bytes are what QEMU took at realise.
    return {"evidence": "stream", "origin": found[0]["device"], **found[0]}

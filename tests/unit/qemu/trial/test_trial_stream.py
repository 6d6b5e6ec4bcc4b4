"""Migration streams that are changed before they are loaded."""

from __future__ import annotations

import struct

import pytest

from vfio_preflight.qemu.emulator.client import ProcessError
from vfio_preflight.qemu.trial.stream import with_config, without_processors

CONFIG = struct.pack(">QI", 0xFFFFFFFFEF100002, 2)


def section(number: int, name: str, state: bytes) -> bytes:
    """As ``qemu_savevm_state_*`` (migration/savevm.c) writes one, with its footer."""
    head = struct.pack(">BIB", 4, number, len(name)) + name.encode() + struct.pack(">II", 0, 12)
    return head + state + struct.pack(">BI", 0x7E, number)


def test_configuration_space_is_replaced() -> None:
    stream = b"before" + CONFIG + bytes(256) + b"after"
    assert with_config(stream, 256, b"\x01" * 64) == b"before" + CONFIG + b"\x01" * 64 + b"after"


def test_stream_without_configuration_space() -> None:
    with pytest.raises(ProcessError, match="sends no configuration space"):
        with_config(b"before", 256, bytes(256))


def test_processors_are_taken_out() -> None:
    # A footer of another section's number does not end it.
    first = section(2, "cpu", struct.pack(">BI", 0x7E, 9) + b"\n" * 300)
    kept = [section(1, "timer", b"\x00" * 8), section(4, "cpu_common", b"c")]
    kept += [section(5, "0000:00:01.0/cpu", b"d")]
    stream = kept[0] + first + section(3, "cpu", b"") + kept[1] + kept[2]
    assert without_processors(stream) == b"".join(kept)

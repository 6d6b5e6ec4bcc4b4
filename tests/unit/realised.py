"""What QEMU would make of made-up config states, taken apart for assertions."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest

from lab.configs import patched
from unit.makers import BAR0, make_state
from vfio_preflight.pci.state import Bar
from vfio_preflight.qemu.model.versions import behaviour
from vfio_preflight.qemu.model.vfio_pci import Environment, Refusal, VirtualConfig, realise

V10_0 = behaviour("10.0.2")
V9_2 = behaviour("9.2.4")
V11_1 = behaviour("11.1.3")

ROOT_PORT = Environment("root-port", behaviour=V10_0)
ROOT_COMPLEX = Environment("root-complex", behaviour=V10_0)
CONVENTIONAL = Environment("conventional", behaviour=V10_0)
I440FX = Environment("conventional", express_root=False, behaviour=V10_0)
EVERYWHERE = pytest.mark.parametrize(
    "environment",
    [ROOT_PORT, ROOT_COMPLEX, CONVENTIONAL, I440FX],
    ids=["root-port", "root-complex", "conventional", "i440fx"],
)


def virtual(
    config: bytes, environment: Environment = ROOT_PORT, bars: tuple[Bar, ...] = (BAR0,)
) -> VirtualConfig:
    """The device QEMU makes of ``config``, which it must not refuse."""
    result = realise(make_state(config, bars), environment)
    assert isinstance(result, VirtualConfig), result
    return result


def refused(
    config: bytes, environment: Environment = ROOT_PORT, bars: tuple[Bar, ...] = (BAR0,)
) -> tuple[str, str]:
    """Kind and reason of QEMU's refusal of ``config``."""
    result = realise(make_state(config, bars), environment)
    assert isinstance(result, Refusal)
    return result


def chain(config: bytes) -> list[int]:
    """The standard capability list that the guest sees."""
    offsets: list[int] = []
    offset = config[0x34]
    while offset and len(offsets) < 50:
        offsets.append(offset)
        offset = config[offset + 1]
    return offsets


def extended_chain(config: bytes) -> list[tuple[int, int]]:
    """Offset and ID of each extended capability that the guest sees."""
    found: list[tuple[int, int]] = []
    offset = 0x100
    while offset and len(found) < 50:
        header = struct.unpack_from("<I", config, offset)[0]
        found.append((offset, header & 0xFFFF))
        offset = header >> 20 & 0xFFC
    return found


def changed(config: bytes, changes: Mapping[int, int]) -> bytes:
    """``config`` with these bytes replaced, by offset."""
    for offset, value in changes.items():
        config = patched(config, offset, value)
    return config

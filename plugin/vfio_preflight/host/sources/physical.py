"""What VFIO presents of a device of which a file has the physical view: a dump by ``lspci`` or the
like, or a copy of sysfs ``config``.

The same is done to the bytes as to those of sysfs, and the state has the same evidence. What sysfs
has beside the bytes is in a file only if its text says so: a VF's IDs, which lspci prints with
``-n`` or ``-nn``, and the sizes of BARs, with ``-vv``. Without the IDs there is no telling what
device it is; without the sizes, or with some alone, none is taken, and the judge does not go by
them (``judge.undecided``).
"""

from __future__ import annotations

from ...errors import PreflightError
from ...pci.formats import PHYSICAL, Reading
from ...pci.space import reads_as_vf
from ...pci.state import Bar, ConfigState
from ...qemu.model.bars import registers
from .sysfs import virtualise_bars
from .vfio_view import vfio_view


class PhysicalError(PreflightError):
    """A physical view from which VFIO's cannot be worked out."""


def presented(reading: Reading) -> ConfigState:
    """The state that VFIO presents, whichever view was read. Raises :class:`PhysicalError`."""
    return _presented(reading) if reading.view == PHYSICAL else reading.state


def _presented(reading: Reading) -> ConfigState:
    state = reading.state
    config = bytearray(state.config)
    if reads_as_vf(state.config):
        config[0:4] = _ids(reading)
    bars = _complete(state.config, state.bars)
    if bars:
        virtualise_bars(config, bars)
    view = vfio_view(bytes(config), reading.virtual_function)
    origin = f"{state.origin}; VFIO's view worked out of the physical device's bytes"
    return ConfigState(view, bars, "sysfs", origin)


def _ids(reading: Reading) -> bytes:
    if reading.ids is None or 0xFFFF in reading.ids:
        raise PhysicalError(
            f"{reading.state.origin}: its vendor and device ID read ffff, as a VF's own do, where"
            " VFIO shows the right ones; dump it with them (as root: lspci -nn -vvv -xxxx -s"
            " ADDRESS), or use what 'vfio-preflight state ADDRESS --format json' prints on its host"
        )
    return b"".join(number.to_bytes(2, "little") for number in reading.ids)


def _complete(config: bytes, bars: tuple[Bar, ...]) -> tuple[Bar, ...]:
    """``bars``, unless a register shows one that is not among them."""
    shown = {number for number, _ in registers(config)}
    return bars if shown <= {bar.number for bar in bars} else ()

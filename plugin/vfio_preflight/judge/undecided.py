"""What a state cannot tell of what QEMU would compare, and which therefore decides nothing.

    >>> settled = settle(source, destination)
    >>> settled.findings[0].text
    "the sizes of the destination's BARs are not known, so that …"

Two things: the BARs, of which raw bytes have neither the size nor, if the register reads 0, the
type; and registers that a physical device has as it was last used, and VFIO as they are after the
reset with which it opens the device. Where one state does not know, the other's bits are taken for
it. So model and trial, which both get the settled states, find the two equal there.

Source: Linux ``drivers/vfio/pci/vfio_pci_core.c``, ``vfio_pci_core_enable``; ``pci_restore_state``
and ``pci_aer_clear_status``; PCI Express Base 5.0, 7.5.3.5, 7.8.4, 10.5; PCI 3.0, 6.2.5.1 and
appendix I.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..osutil.light import NamedTuple
from ..pci.ids import PCI_CAP_ID_EXP, PCI_EXT_CAP_ID_ATS
from ..pci.registers import locate
from ..pci.space import Capability, capabilities, extended_capabilities
from ..pci.state import Bar, ConfigState
from ..qemu.model.bars import ROM_BAR, guess, registers
from ..qemu.model.values import number
from . import codes
from .findings import Finding

# By capability: offset in it, and the bits from there on.
_STANDARD: Mapping[int, tuple[tuple[int, bytes], ...]] = {
    # VPD: whoever reads it leaves address, flag and data behind.
    0x03: ((2, b"\xff" * 6),),
    # Device Status: errors, and whether transactions are pending.
    0x10: ((0x0A, b"\x6f"),),
}
_EXTENDED: Mapping[int, tuple[tuple[int, bytes], ...]] = {
    # AER: both status registers, the first error's number, and the logs of headers and prefixes.
    0x01: (
        *((0x04, b"\xff" * 4), (0x10, b"\xff" * 4), (0x18, b"\x1f")),
        *((0x1C, b"\xff" * 16), (0x38, b"\xff" * 16)),
    ),
    # ATS: on, and its smallest unit; the host's IOMMU driver sets it while a driver has the device.
    PCI_EXT_CAP_ID_ATS: ((6, b"\x1f\x80"),),
    # Page requests: on, reset, status, allocation.
    0x13: ((4, b"\x03"), (6, b"\x03\x01"), (0x0C, b"\xff" * 4)),
}
_TYPE_IO, _TYPE_MEMORY = 0x3, 0xF


class Settled(NamedTuple):
    """The states to be compared, and what is to be said of what they do not tell."""

    source: ConfigState
    destination: ConfigState
    findings: tuple[Finding, ...] = ()


def settle(source: ConfigState, destination: ConfigState) -> Settled:
    """The two states, each with the other's bits where it cannot tell its own."""
    source, destination = _alike(source, destination)
    rest: tuple[Finding, ...] = ()
    # What differs in size is refused whatever the bits, unless one is but the beginning.
    if len(source.config) != len(destination.config):
        if _is_beginning(source, destination):
            source, rest = _continued(source, destination), (_rest(codes.SOURCE_UNKNOWN),)
        elif _is_beginning(destination, source):
            destination, rest = _continued(destination, source), (_rest(codes.DESTINATION_UNKNOWN),)
        else:
            return Settled(source, destination)
    ours, theirs = destination, source
    if ours.evidence == "sysfs":
        ours = _rested(ours, source)
    elif theirs.evidence == "sysfs":
        theirs = _rested(theirs, destination)
    used = tuple(_used("destination", destination, ours)) + tuple(_used("source", source, theirs))
    filled = _filled(ours, theirs)
    # A stream went through a QEMU that knew its BARs.
    sent = theirs if theirs.evidence == "stream" else _filled(theirs, filled)
    sizes = (*_unsized("source", theirs), *_unsized("destination", ours))
    return Settled(sent, filled, (*rest, *used, *sizes))


# --- the first 256 bytes alone --------------------------------------------------------------------


def _is_beginning(state: ConfigState, other: ConfigState) -> bool:
    """Whether a dump has the first 256 bytes of a device (``lspci -xxx``) that has 4096.

    The kernel shows all of them of a PCI Express device, to those who ask.
    """
    return (
        state.evidence == "sysfs"
        and len(state.config) < len(other.config)
        and any(capability.id == PCI_CAP_ID_EXP for capability in capabilities(state.config))
    )


def _continued(state: ConfigState, other: ConfigState) -> ConfigState:
    return state._replace(config=state.config + other.config[len(state.config) :])


def _rest(code: codes.Code) -> Finding:
    side = "source" if code == codes.SOURCE_UNKNOWN else "destination"
    return Finding(
        code,
        f"only the first 256 bytes of the {side}'s device are known, and QEMU compares all 4096",
        "dump all of it, as root (lspci -nn -vvv -xxxx)",
    )


def _alike(one: ConfigState, other: ConfigState) -> tuple[ConfigState, ConfigState]:
    """With the other's AtomicOps where a state's are not known (``checks.atomics`` says so)."""
    return (
        one._replace(atomics=other.atomics) if one.atomics is None else one,
        other._replace(atomics=one.atomics) if other.atomics is None else other,
    )


# --- registers of a device in use -----------------------------------------------------------------


def _rested(state: ConfigState, other: ConfigState) -> ConfigState:
    """``state`` with the other's bits in the registers that using the device changes."""
    where = number(_transient(state.config)) & number(_transient(other.config))
    # As numbers, like the comparison itself: only where both have the capability.
    config = number(state.config) & ~where | number(other.config) & where
    return state._replace(config=config.to_bytes(len(state.config), "little"))


def _transient(config: bytes) -> bytes:
    bits = bytearray(len(config))
    for capability in (*capabilities(config), *extended_capabilities(config)):
        table = _EXTENDED if capability.extended else _STANDARD
        for offset, mask in table.get(capability.id, ()):
            _put(bits, capability, offset, mask)
    return bytes(bits)


def _put(bits: bytearray, capability: Capability, offset: int, mask: bytes) -> None:
    # A capability of an older version ends before what later ones have.
    room = max(0, capability.size - offset)
    start = capability.offset + offset
    for at, byte in enumerate(mask[:room], start):
        bits[at] |= byte


def _used(side: str, before: ConfigState, after: ConfigState) -> Iterator[Finding]:
    if before.config == after.config:
        return
    pairs = enumerate(zip(before.config, after.config))
    places = [locate(before.config, at) for at, (one, other) in pairs if one != other]
    named = list(dict.fromkeys(f"{place.where}, {place.register}" for place in places))
    yield Finding(
        codes.NOT_DECIDED,
        f"the {side}'s bytes are the physical device's: registers that its use changes, and the"
        f" reset when VFIO opens it, were not compared ({'; '.join(named)})",
    )


# --- BARs -----------------------------------------------------------------------------------------


def _unsized(side: str, state: ConfigState) -> Iterator[Finding]:
    if not state.bars and state.evidence != "stream":
        yield Finding(
            codes.NOT_DECIDED,
            f"the sizes of the {side}'s BARs are not known, so that the addresses in them are not"
            " compared, nor the type of a BAR that reads 0",
        )


def _filled(state: ConfigState, other: ConfigState) -> ConfigState:
    """``state`` with BARs: its own where its registers show them, else the other's.

    Where the other's sizes are not known either, there are none still, but the types are.
    """
    if state.bars:
        return state
    own, known = dict(registers(state.config)), dict(_bars(other))
    config = bytearray(state.config)
    for index, bar in known.items():
        if index in own:
            # Its type is in its register; that the size is the other's contradicts nothing.
            own[index] = own[index]._replace(size=bar.size)
        elif _is_free(bar, own):
            own[index] = bar
            _show(config, index, other.config)
    filled = state._replace(config=bytes(config))
    return filled._replace(bars=guess(filled.config, own)) if other.bars else filled


def _bars(state: ConfigState) -> tuple[tuple[int, Bar], ...]:
    return tuple((bar.number, bar) for bar in state.bars) or registers(state.config)


def _is_free(bar: Bar, own: Mapping[int, Bar]) -> bool:
    """Whether a BAR that reads 0 can be there: its register is no other BAR's, or half of one."""
    if bar.number == ROM_BAR:
        return True
    below = own.get(bar.number - 1)
    upper = below is not None and below.kind == "mem64"
    return not upper and not (bar.kind == "mem64" and bar.number + 1 in own)


def _show(config: bytearray, index: int, other: bytes) -> None:
    """Give the register the other's type, which QEMU reads from its low bits."""
    if index < ROM_BAR:
        low = other[0x10 + 4 * index]
        config[0x10 + 4 * index] = low & (_TYPE_IO if low & 1 else _TYPE_MEMORY)

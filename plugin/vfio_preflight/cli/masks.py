"""``masks DEVICE-OR-FILE``: what QEMU compares of a device, byte by byte.

For the engineer of a VFIO driver who asks what may change between two driver versions.
"""

from __future__ import annotations

import json
import time
from argparse import Namespace, _SubParsersAction
from collections.abc import Iterator
from itertools import groupby

from ..configuration import load
from ..errors import PreflightError
from ..gather.here import ask_emulator
from ..guest.domain import Guest
from ..judge.checks.machine import skip_vsc_check
from ..judge.context import context_of
from ..judge.pipeline import unverified
from ..osutil.light import NamedTuple
from ..osutil.text import printable
from ..pci.registers import locate
from ..pci.space import PCI_CONFIG_SPACE_SIZE
from ..pci.state import ConfigState, Missing
from ..qemu.emulator.machines import EmulatorFacts
from ..qemu.emulator.verified import verified_versions
from ..qemu.model.bars import likely_bars
from ..qemu.model.versions import is_covered
from ..qemu.model.vfio_pci import Environment, Refusal, VirtualConfig, realise
from . import alone, output
from .terminal import unfiltered

COMPARED, EXEMPT, EMULATED, IGNORED = "compared", "exempt", "emulated", "ignored"


class Look(NamedTuple):
    """How a class of bytes is shown: a sign behind the byte, and a colour on terminals."""

    sign: str
    style: str
    meaning: str


LEGEND = {
    COMPARED: Look("!", "bold red", "compared: must be equal on both hosts"),
    EXEMPT: Look("~", "yellow", "exempt under skip-vsc-check, compared without it"),
    EMULATED: Look("=", "cyan", "not compared; QEMU shows the guest a value of its own"),
    IGNORED: Look(" ", "dim", "not compared: may change"),
}
PER_LINE = 16


class RefusedError(PreflightError):
    """A device that QEMU would not realise has no masks."""


class Byte(NamedTuple):
    """A byte of the device: how QEMU treats it, in which bits (``mask``), and its register."""

    offset: int
    kind: str
    mask: int
    where: str
    register: str


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare the command."""
    parser = commands.add_parser("masks", help="show which bytes of a device QEMU compares")
    parser.add_argument("device", metavar="DEVICE", help="PCI address, mdev UUID or file")
    alone.add_arguments(parser)
    output.add_format(parser)
    parser.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Carry the command out."""
    settings = load()
    state = alone.load_state(options.device, settings)
    guest = alone.guest_for(options, options.device)
    asked = ask_emulator(guest.emulator, settings, time.monotonic() + settings.deadline)
    emulator = None if isinstance(asked, Missing) else asked
    context = context_of(guest, guest.devices[0], emulator)
    effective = skip_vsc_check(context)
    found = classify(state, context.environment)
    if options.format == "json":
        print(json.dumps(_to_dict(options, guest, effective.value, found), indent=2))
    else:
        value = {True: "on", False: "off", None: "not known"}[effective.value]
        bus = guest.devices[0].placement
        title = f"{options.machine}, {bus}; skip-vsc-check is {value} ({effective.origin})"
        _show([title, *_doubts(asked, state)], state.config, found)
    return 0


def _doubts(asked: EmulatorFacts | Missing, state: ConfigState) -> Iterator[str]:
    """What makes the masks less than certain."""
    if not state.bars:
        yield "the sizes of its BARs are not known: address bits below them are compared, too"
    verified = verified_versions()
    if isinstance(asked, Missing):
        yield f"{asked.reason}; shown is what the newest known QEMU does"
    elif not is_covered(asked.version, verified):
        yield unverified(asked, verified, tried=True).text


def classify(state: ConfigState, environment: Environment) -> list[Byte]:
    """What QEMU does with every byte of ``state``. Raises :class:`RefusedError`."""
    strict = environment._replace(skip_vsc_check=False)
    # Masks are the destination's: one state is enough to compute them.
    masks = _realised(state, strict).compared()
    tolerant = _realised(state, environment._replace(skip_vsc_check=True)).compared()
    # Only bytes that are not compared can be emulated or free to change.
    free = [offset for offset, mask in enumerate(masks) if not mask]
    # Sizes of BARs are assumed where the state has none: QEMU would otherwise not emulate them.
    own = _own(state._replace(bars=likely_bars(state)), strict, free)
    return [
        _byte(state.config, offset, mask, tolerant[offset], offset in own)
        for offset, mask in enumerate(masks)
    ]


def _own(state: ConfigState, environment: Environment, offsets: list[int]) -> set[int]:
    """Those of ``offsets`` at which QEMU shows a value of its own, whatever the device has.

    They are found by inverting them. Where that changes the layout, or QEMU refuses the device,
    halves are inverted separately; a single byte with that effect is one that QEMU takes from the
    device.
    """
    inverted = bytearray(state.config)
    for offset in offsets:
        inverted[offset] ^= 0xFF
    before = _realised(state, environment)
    after = realise(state._replace(config=bytes(inverted)), environment)
    # A changed mask means that the inverted bytes had changed the layout, e.g. a pointer.
    if not isinstance(after, Refusal) and after.compared() == before.compared():
        return {offset for offset in offsets if after.config[offset] == before.config[offset]}
    if len(offsets) < 2:
        return set()
    middle = len(offsets) // 2
    halves = (offsets[:middle], offsets[middle:])
    return {offset for half in halves for offset in _own(state, environment, half)}


def _realised(state: ConfigState, environment: Environment) -> VirtualConfig:
    result = realise(state, environment)
    if isinstance(result, Refusal):
        raise RefusedError(f"QEMU would not realise this device ({result.kind}): {result.reason}")
    return result


def _byte(config: bytes, offset: int, mask: int, tolerant: int, own: bool) -> Byte:
    place = locate(config, offset)
    kind = COMPARED if tolerant else EXEMPT if mask else EMULATED if own else IGNORED
    return Byte(offset, kind, mask, place.where, place.register)


def _ranges(found: list[Byte]) -> Iterator[list[Byte]]:
    """Runs of bytes that have everything in common."""
    for _key, run_of in groupby(found, key=lambda byte: byte[1:]):
        yield list(run_of)


def _to_dict(
    options: Namespace, guest: Guest, skips: bool | None, found: list[Byte]
) -> dict[str, object]:
    ranges = [
        {"start": run_of[0].offset, "end": run_of[-1].offset, **run_of[0]._asdict()}
        for run_of in _ranges(found)
    ]
    for entry in ranges:
        del entry["offset"]
    return {
        "schema": 1,
        "device": options.device,
        "machine": options.machine,
        "bus": guest.devices[0].placement,
        "skip_vsc_check": skips,
        "ranges": ranges,
    }


def _show(title: list[str], config: bytes, found: list[Byte]) -> None:
    lines = [
        *([(line, "")] for line in title),
        *_dump(config, found),
        *_legend(),
        *_registers(found),
    ]
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        print("\n".join("".join(text for text, _style in line).rstrip() for line in lines))
        return
    console = Console(file=unfiltered(), highlight=False, soft_wrap=True)
    for line in lines:
        text = Text.assemble(*((printable(part), style) for part, style in line))
        text.rstrip()
        console.print(text)


# A line as pieces of text and the style of each.
Line = list[tuple[str, str]]


def _dump(config: bytes, found: list[Byte]) -> Iterator[Line]:
    for start in range(0, len(config), PER_LINE):
        row = found[start : start + PER_LINE]
        # Extended space is mostly unused; rows of it that may change say nothing.
        if start >= PCI_CONFIG_SPACE_SIZE and all(byte.kind == IGNORED for byte in row):
            continue
        yield [(f"{start:03x}: ", ""), *(_cell(config, byte) for byte in row)]


def _cell(config: bytes, byte: Byte) -> tuple[str, str]:
    look = LEGEND[byte.kind]
    return f"{config[byte.offset]:02x}{look.sign} ", look.style


def _legend() -> Iterator[Line]:
    for look in LEGEND.values():
        yield [(f"  xx{look.sign}", look.style), (f"  {look.meaning}", "")]


def _registers(found: list[Byte]) -> Iterator[Line]:
    for run_of in _ranges(found):
        yield [(_register_line(run_of), LEGEND[run_of[0].kind].style)]


def _register_line(run_of: list[Byte]) -> str:
    first, last = run_of[0], run_of[-1]
    span = f"{first.offset:#05x}-{last.offset:#05x}" if len(run_of) > 1 else f"{first.offset:#05x}"
    partly = f" (bits {first.mask:02x})" if first.mask not in (0, 0xFF) else ""
    return f"{span:11} {first.kind:9} {first.where}, {first.register}{partly}"

"""``state DEVICE``: a device's config state, decoded for people or as JSON to be kept."""

from __future__ import annotations

from argparse import Namespace, _SubParsersAction
from collections.abc import Iterator

from ..configuration import load
from ..pci.formats import to_json
from ..pci.space import Capability, capabilities, extended_capabilities, identity
from ..pci.state import ConfigState
from . import output
from .alone import load_state

DESCRIPTION = (
    "Prints the config state of a device of this host, or of a file. The JSON form is what belongs"
    " into the states directory of a host whose device cannot be read, and what compare and check"
    " take as a file."
)


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare the command."""
    parser = commands.add_parser(
        "state", help="capture a device's config state", description=DESCRIPTION
    )
    parser.add_argument("device", metavar="DEVICE", help="PCI address, mdev UUID or file")
    output.add_format(parser)
    parser.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Carry the command out."""
    state = load_state(options.device, load().states)
    print(to_json(state) if options.format == "json" else "\n".join(_text(state)))
    return 0


def _text(state: ConfigState) -> Iterator[str]:
    yield f"{identity(state.config)}, {len(state.config)} bytes, evidence {state.evidence}"
    yield f"read from {state.origin}"
    for bar in state.bars:
        name = "ROM" if bar.number == 6 else f"BAR{bar.number}"
        yield f"  {name}: {bar.size:#x} bytes, {bar.kind}{', prefetchable' * bar.prefetchable}"
    for capability in (*capabilities(state.config), *extended_capabilities(state.config)):
        yield f"  {_capability(capability)}"
    for offset in range(0, len(state.config), 16):
        yield f"{offset:03x}: {state.config[offset : offset + 16].hex(' ')}"


def _capability(capability: Capability) -> str:
    end = capability.offset + capability.size - 1
    return f"{capability.offset:#05x}-{end:#05x} {capability.name}"

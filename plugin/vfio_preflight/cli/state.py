"""``state DEVICE``: a device's config state, decoded for people or as JSON to be kept."""

from __future__ import annotations

import json
from argparse import Namespace, _SubParsersAction
from collections.abc import Iterator

from ..configuration import load
from ..images.save_image import read_image
from ..pci.atomics import to_text
from ..pci.formats import to_json
from ..pci.space import Capability, capabilities, extended_capabilities, identity
from ..pci.state import ConfigState, Missing, State
from . import output
from .alone import load_device
from .arguments import UsageError

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
    parser.add_argument(
        "device", metavar="DEVICE", nargs="?", help="PCI address, mdev UUID or file"
    )
    parser.add_argument(
        "--image", metavar="FILE", help="list the PCI devices in a save image or migration file"
    )
    output.add_format(parser)
    parser.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Carry the command out."""
    # Exactly one of the two.
    if bool(options.device) == bool(options.image):
        raise UsageError("give a device or a file, or --image FILE")
    if options.image:
        return _show_image(options.image, options.format)
    state, offers = load_device(options.device, load())
    if options.format == "json":
        # The offer is not part of a config state, so to_json() does not have it.
        known = {"migration": offers} if offers else {}
        print(json.dumps({**json.loads(to_json(state)), **known}, indent=2))
    else:
        print("\n".join(_text(state, offers)))
    return 0


def _show_image(path: str, form: str) -> int:
    """List every PCI device of an image; exit status 3 if the bytes of one cannot be read."""
    stream = read_image(path).stream
    # A vfio device and an emulated one cannot have the same path; the suffix tells them apart.
    found = {**{f"{k}/vfio": v for k, v in stream.vfio.items()}, **stream.emulated}
    if form == "json":
        devices = [{"device": key, **_as_dict(state)} for key, state in found.items()]
        print(json.dumps({"schema": 1, "image": path, "devices": devices}, indent=2))
    else:
        for key, state in found.items():
            print(f"{key}: {_summary(state)}")
    return 3 if any(isinstance(state, Missing) for state in found.values()) else 0


def _as_dict(state: State) -> dict[str, object]:
    if isinstance(state, Missing):
        return {"missing": state.reason}
    return {"identity": identity(state.config), "config": state.config.hex()}


def _summary(state: State) -> str:
    if isinstance(state, Missing):
        return f"not available: {state.reason}"
    listed = (*capabilities(state.config), *extended_capabilities(state.config))
    names = ", ".join(f"{capability.name}@{capability.offset:x}" for capability in listed)
    return f"{identity(state.config)}, {len(state.config)} bytes: {names or 'no capabilities'}"


def _text(state: ConfigState, offers: str) -> Iterator[str]:
    yield f"{identity(state.config)}, {len(state.config)} bytes, evidence {state.evidence}"
    yield f"read from {state.origin}"
    if offers:
        yield f"migration: its driver offers {offers}"
    if state.atomics is not None:
        yield f"AtomicOps that the host's root completes: {to_text(state.atomics)}"
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

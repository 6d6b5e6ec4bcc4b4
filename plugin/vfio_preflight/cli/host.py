"""``host``: what this host has to offer a guest, for people and for checks made on other hosts."""

from __future__ import annotations

import time
from argparse import Namespace, _SubParsersAction
from collections.abc import Iterator

from ..configuration import Configuration, ConfigurationError, load
from ..gather.hostfacts import HostFacts, Presented, host_facts
from ..gather.hostjson import to_json
from ..host.inventory import HostDevice
from ..osutil.text import printable
from ..pci.space import identity
from ..pci.state import ConfigState, Missing
from . import output
from .columns import columns

DESCRIPTION = (
    "Prints this host's facts: its emulators with their machine types, the devices that a guest"
    " could be given, what each presents and who has it, and libvirt's pools of VFs. As JSON they"
    " are what 'check GUEST --destination-facts FILE' judges by on any other host. Opens no device"
    " but those that are free and listed under open-devices."
)
# Seconds for all emulators; each takes some 0.1 the first time, and nothing after that.
WITHIN = 30.0


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare the command."""
    parser = commands.add_parser(
        "host", help="this host's facts, for checks made elsewhere", description=DESCRIPTION
    )
    parser.add_argument(
        "--emulator",
        action="append",
        default=[],
        metavar="PATH",
        help="an emulator to ask beside the usual ones; repeatable",
    )
    output.add_format(parser)
    parser.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Carry the command out."""
    settings, problem = _settings()
    facts = host_facts(
        settings, time.monotonic() + WITHIN, options.emulator, _libvirt_version(), problem
    )
    print(to_json(facts) if options.format == "json" else "\n".join(_lines(facts)))
    return 0


def _settings() -> tuple[Configuration, str]:
    try:
        return load(), ""
    except ConfigurationError as error:
        # A host whose configuration is wrong still has devices; the facts say what is wrong.
        return Configuration(), str(error)


def _libvirt_version() -> str:
    """The version of libvirt's library, which comes with its daemon; empty if it is not here."""
    try:
        import libvirt
    except ImportError:
        return ""
    number = int(libvirt.getVersion())
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"


def _lines(facts: HostFacts) -> Iterator[str]:
    libvirt = f", libvirt {facts.libvirt}" if facts.libvirt else ", no libvirt-python"
    yield f"host {printable(facts.host)}: Linux {facts.kernel} ({facts.arch}){libvirt}"
    yield "hook:      " + ("installed" if facts.hook else "not installed")
    if facts.problem:
        yield f"configuration: {facts.problem}"
    yield from _section("emulator", ("version", "machine types", "sha256"), _emulators(facts))
    heads = ("id", "driver", "group", "NUMA", "state", "held by")
    yield from _section("device", heads, _devices(facts))
    types = ([each.type, each.parent, each.name, _count(each.available)]
             for each in facts.inventory.types)  # fmt: skip
    yield from _section("mdev type", ("parent", "name", "free"), types)
    pools = ([each.name, ", ".join(each.devices)] for each in facts.inventory.pools
             if each.hands_out)  # fmt: skip
    yield from _section("network", ("VFs",), pools)


def _section(subject: str, heads: tuple[str, ...], rows: Iterator[list[str]]) -> Iterator[str]:
    listed = list(rows)
    if listed:
        yield ""
        yield from columns((subject, *heads), listed)


def _emulators(facts: HostFacts) -> Iterator[list[str]]:
    for path, emulator in facts.emulators.items():
        known = emulator.facts
        if isinstance(known, Missing):
            yield [path, "-", known.reason, emulator.digest[:12]]
        else:
            package = f" ({known.package})" if known.package else ""
            version = f"{known.version}{package}"
            yield [path, version, str(len(known.machines)), emulator.digest[:12]]


def _devices(facts: HostFacts) -> Iterator[list[str]]:
    for name, device in facts.inventory.devices.items():
        # Of others no guest can be given one; JSON has them.
        if device.group:
            yield _device(device, facts.presented[name])


def _device(device: HostDevice, presented: Presented) -> list[str]:
    state = presented.state
    known = isinstance(state, ConfigState)
    shown = identity(state.config) if isinstance(state, ConfigState) else device.identity
    return [
        device.name,
        " ".join(filter(None, (shown, device.traits.type))),
        device.traits.driver,
        device.group,
        device.numa,
        state.evidence if isinstance(state, ConfigState) and known else "unknown",
        "not known" if device.holder is None else device.holder or "nobody",
    ]


def _count(available: int) -> str:
    return "not known" if available < 0 else str(available)

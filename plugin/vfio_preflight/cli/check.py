"""``check``, the dry run: what the hook on the destination would decide about a guest."""

from __future__ import annotations

import os
import time
from argparse import ArgumentTypeError, BooleanOptionalAction, Namespace, _SubParsersAction
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ..configuration import Configuration, load
from ..gather.here import facts_here
from ..gather.saved import guest_of, saved_states
from ..gather.trials import trials
from ..guest.domain import Guest, GuestDevice, GuestError, parse_domain, read_guest, to_bytes
from ..guest.metadata import (
    Record,
    RecordEntry,
    RecordError,
    read_record,
    set_record,
    write_record,
)
from ..guest.pools import networks_asked
from ..hook.gate import decided
from ..host.networks import hands_out_devices
from ..host.sightings import remember_all
from ..images.save_image import QEMU_SAVE_MAGIC, QEMU_SAVE_PARTIAL, read_image
from ..images.stream import MAGIC
from ..judge.checks.readiness import with_readiness
from ..judge.pipeline import examine
from ..judge.verdicts import ALWAYS
from ..osutil.light import TYPE_CHECKING, NamedTuple
from ..pci.state import ConfigState, State
from ..qemu.model.equivalence import equivalent_to_qemu
from ..report.schema import ReportDict, as_dict
from . import output
from .alone import load_state
from .arguments import UsageError, device_name
from .connection import LOCAL, connected, domain_named
from .running import as_called, as_running

if TYPE_CHECKING:
    from lxml import etree

DESCRIPTION = (
    "With --to: asks the destination's hook about a running guest, through libvirt; nothing is"
    " migrated. With --destination-facts: judges it here, by what 'vfio-preflight host --format"
    " json' printed there. With a file: judges domain XML for a move to this host, without libvirt."
    " With --image: judges the restore of a save image, whose own bytes say what QEMU will load."
    " Several --to are asked side by side, and the exit status is the worst: 1 if one of them would"
    " refuse, or else 3 if one does not know or does not answer, or else 0."
)

# Bytes; libvirt itself takes XML of up to 10 MB from its clients.
MAX_XML = 16 << 20
IMAGES = (QEMU_SAVE_MAGIC, QEMU_SAVE_PARTIAL, MAGIC)


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare the command."""
    parser = commands.add_parser(
        "check", help="dry run: would this guest's migration pass?", description=DESCRIPTION
    )
    parser.add_argument(
        "guest", metavar="GUEST", nargs="?", help="guest's name or UUID, or a domain XML file"
    )
    parser.add_argument("--image", metavar="FILE", help="a libvirt save image, instead of a guest")
    parser.add_argument(
        "--to",
        action="append",
        default=[],
        metavar="URI",
        help="libvirt URI of the destination; repeatable",
    )
    parser.add_argument(
        "--destination-facts",
        metavar="FILE",
        help="the destination's facts, as 'vfio-preflight host --format json' prints them",
    )
    parser.add_argument(
        "--connect", metavar="URI", default=LOCAL, help=f"libvirt URI of the source ({LOCAL})"
    )
    for side in ("source", "destination"):
        parser.add_argument(
            f"--{side}-state",
            action="append",
            default=[],
            type=_assignment,
            metavar="DEVICE=FILE",
            help=f"the {side}'s config state of a device; repeatable",
        )
    output.add_trial(parser)
    parser.add_argument(
        "--twin",
        action=BooleanOptionalAction,
        help="with --to: have the whole machine tried there as well, and say so where it cannot be;"
        " by default it is tried where that can be done",
    )
    output.add_format(parser)
    parser.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Carry the command out."""
    if options.guest and options.image:
        raise UsageError(
            f"give either '{options.guest}' or --image: an image has the guest's XML in it"
        )
    if not options.guest and not options.image:
        raise UsageError("give a guest, a domain XML file, or --image FILE")
    if options.destination_facts:
        return output.show(_elsewhere(options), options.format)
    if options.twin and (not options.to or options.image):
        raise UsageError("--twin goes with --to, and with a guest that runs")
    if options.to:
        if options.source_state or options.destination_state:
            raise UsageError("--source-state and --destination-state go with a domain XML file")
        from . import destinations

        return destinations.run(options, image_as_guest)
    # Without --to only a file can be judged: a running guest's destination would be unknown.
    if options.guest and not _is_file(options.guest):
        raise UsageError(
            f"'{options.guest}' is not a file; for a running guest, say where to: --to URI"
        )
    return output.show(_offline(options), options.format)


def _is_file(name: str) -> bool:
    return os.path.exists(name) and not os.path.isdir(name)


def _elsewhere(options: Namespace) -> ReportDict:
    """The guest judged by the facts of another host."""
    for given, option in (
        (options.to, "--to"),
        (options.destination_state, "--destination-state"),
        (options.trial, "--trial"),
        (options.twin, "--twin"),
    ):
        if given:
            raise UsageError(f"--destination-facts and {option} do not go together")
    from .elsewhere import guest_there, judge_there, read_facts

    there = read_facts(options.destination_facts)
    subject = _subject(options)
    with _named(options.image or options.guest):
        given = _states(guest_there(subject.root, there), options.source_state, load())
        states = {**subject.saved, **given}
        report = judge_there(subject.root, there, states, bool(options.image), subject.bandwidth)
    return as_called(report, subject.names)


class _Subject(NamedTuple):
    """The XML to judge; what a save image says of the devices; of a running guest how fast it is
    migrated, and what its devices are called in this run, by key."""

    root: etree._Element
    saved: Mapping[str, State] = {}
    bandwidth: int = 0
    names: Mapping[str, str] = {}


def _subject(options: Namespace) -> _Subject:
    if options.image:
        image = read_image(options.image)
        with _named(options.image):
            guest, root = guest_of(image, options.image)
            return _Subject(root, saved_states(guest, root, image.stream.vfio))
    if _is_file(options.guest):
        with _named(options.guest):
            return _Subject(parse_domain(_read(options.guest)))
    with connected(options.connect) as source:
        running = as_running(domain_named(source, options.guest))
        root = parse_domain(running["xml"].encode())
        return _Subject(root, {}, running["bandwidth"], running["names"])


def _offline(options: Namespace) -> ReportDict:
    settings = load()
    subject = _subject(options)
    with _named(options.image or options.guest):
        # Networks of this host, as the guest is judged for a move to this host.
        guest = read_guest(subject.root, hands_out_devices)
    end = time.monotonic() + settings.deadline
    # States given on the command line replace those of the image.
    given = _states(guest, options.source_state, settings)
    here = _states(guest, options.destination_state, settings)
    facts = facts_here(guest, settings, end, {**subject.saved, **given}, here)
    facts = facts._replace(saved=bool(options.image))
    # A check opens free devices as the hook does, so it can add to the catalogue, too.
    remember_all(
        [(known.device.host, known.destination) for known in facts.devices],
        settings.catalogue,
        equivalent_to_qemu,
    )
    mode = ALWAYS if options.trial else settings.trial
    report, decision = decided(examine(facts, mode, trials(guest.emulator, end)), guest, settings)
    from ..host.inventory import read_inventory

    networks = networks_asked(subject.root)
    return as_dict(*with_readiness(report, decision, facts, read_inventory(), networks, {*here}))


def _read(path: str) -> bytes:
    """Domain XML from a file or a pipe. Raises UsageError for what is no XML at first sight."""
    # One byte more than allowed shows that the file is too large; a pipe has no size to ask for.
    with open(path, "rb") as file:
        data = file.read(MAX_XML + 1)
    if data.startswith(IMAGES):
        raise UsageError(f"{path} is a save image, not domain XML: say --image {path}")
    if len(data) > MAX_XML:
        raise UsageError(f"{path} is not domain XML: it has over {MAX_XML} bytes")
    return data


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Errors about the XML of a file, with the file's name."""
    try:
        yield
    except GuestError as error:
        raise GuestError(f"{path}: {error}") from error


def image_as_guest(path: str) -> str:
    """The XML in a save image, with the image's own states in its record.

    Other attributes of the record's entries stay: the destination may need them to determine what
    its own devices present.
    """
    image = read_image(path)
    with _named(path):
        guest, root = guest_of(image, path)
        found = saved_states(guest, root, image.stream.vfio)
    host = os.uname().nodename
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    # The destination's hook reads the record only: it cannot see the image.
    try:
        record = read_record(guest.metadata) or Record({}, host, now)
    except RecordError:
        # A damaged record is replaced, not repaired: the image's bytes are better evidence.
        record = Record({}, host, now)
    entries = dict(record.entries)
    for key, state in found.items():
        if isinstance(state, ConfigState):
            entry = entries.get(key, RecordEntry(None))
            # The age is that of the recorded state, which the image's bytes replace.
            entries[key] = entry._replace(state=state, damage="", on=host, time=now, age=None)
    set_record(root, write_record(record._replace(entries=entries)))
    return to_bytes(root).decode()


def _states(
    guest: Guest, given: list[tuple[str, str]], settings: Configuration
) -> dict[str, State]:
    return {_key(guest, name): load_state(file, settings) for name, file in given}


def _key(guest: Guest, name: str) -> str:
    """The key of the device that an operator names by alias, guest or host address, or UUID.

    The alias may be the XML's or the one that libvirt will give it at the destination.
    """
    # The normal form of an address, as keys and hosts are stored.
    wanted = device_name(name) or name
    found = [d for d in guest.devices if wanted in (d.key, d.written, d.alias, d.host)]
    # In the XML it may also be the alias of a device that is no VFIO device.
    if len(found) == 1 and wanted not in guest.others:
        return found[0].key
    if not found:
        choices = ", ".join(device.name for device in guest.devices) or "none"
        raise UsageError(f"'{name}' names no VFIO device of guest {guest.name}; it has: {choices}")
    meanings = [f"{_address(device)} {_whose_name(device, wanted)}" for device in found]
    if wanted in guest.others:
        meanings.append("another device, which is no VFIO device, has it in the XML")
    raise UsageError(
        f"'{name}' may mean more than one device of guest {guest.name}: {'; '.join(meanings)}."
        f" Name the device by its address: {' or '.join(map(_address, found))}"
    )


def _address(device: GuestDevice) -> str:
    """A name of the device that no alias can be mistaken for."""
    return device.host or device.key


def _whose_name(device: GuestDevice, name: str) -> str:
    if device.written == name:
        return "has this alias in the XML"
    # After a hot-unplug the aliases of a running guest have gaps.
    if device.alias == name:
        return "will have it at the destination, where libvirt numbers anew"
    return f"({device.name}) has this address"


def _assignment(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if not name or not equals or not file:
        raise ArgumentTypeError(f"'{text}' is not DEVICE=FILE")
    return name, file

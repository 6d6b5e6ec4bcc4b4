"""``catalogue``: what devices that sysfs does not show were seen to present, here or elsewhere.

Entries are portable: a host predicts by what another one saw on a device of the same type, driver
and firmware.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace, _SubParsersAction
from collections.abc import Iterator

from ..configuration import load
from ..host import catalogue
from ..host.catalogue import CatalogueError, Entry
from ..osutil.light import TYPE_CHECKING
from ..pci.space import identity
from ..qemu.model.equivalence import equivalent_to_qemu
from . import output

if TYPE_CHECKING:
    from typing import Any

SCHEMA = 1
MAX_FILE = 1 << 26
DESCRIPTION = (
    "The catalogue holds the config states that devices which must not be opened (mdevs, vGPUs)"
    " were seen to present, by vendor:device, type, driver, version and firmware. 'record' and"
    " 'watch' add to it, and so does a check that opens a free device (open-devices); the"
    " hook takes the destination's state from it. Hosts can share theirs: 'export' on one,"
    " 'import' on another."
)


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare the command and what it can do."""
    parser = commands.add_parser(
        "catalogue", help="states seen on devices that cannot be read", description=DESCRIPTION
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="what is known")
    output.add_format(listing)
    listing.set_defaults(run=_list)
    forgetting = actions.add_parser("forget", help="remove entries")
    chosen = forgetting.add_mutually_exclusive_group(required=True)
    chosen.add_argument("names", metavar="NAME", nargs="*", default=[], help="as 'list' shows it")
    chosen.add_argument("--all", action="store_true", help="remove all")
    output.add_format(forgetting)
    forgetting.set_defaults(run=_forget)
    exporting = actions.add_parser("export", help="print entries as JSON, for 'import' elsewhere")
    exporting.add_argument("names", metavar="NAME", nargs="*", help="which ones; all if none")
    exporting.set_defaults(run=_export)
    importing = actions.add_parser("import", help="add the entries of another host")
    importing.add_argument("file", metavar="FILE", help="what 'export' printed, or - for stdin")
    output.add_format(importing)
    importing.set_defaults(run=_import)


def _list(options: Namespace) -> int:
    directory = _directory()
    entries = catalogue.entries(directory)
    if options.format == "json":
        listed = [{"name": name, **catalogue.to_json(entry)} for name, entry in entries]
        print(json.dumps({"schema": SCHEMA, "entries": listed}, indent=2))
        return 0
    for name, entry in entries:
        print("\n".join(_told(name, entry)))
    if not entries:
        print(f"{directory} has no entries")
    return 0


def _directory() -> str:
    directory = load().catalogue
    # As another user the directory looks empty, which would be reported as no entries.
    if os.path.isdir(directory) and not os.access(directory, os.R_OK | os.X_OK):
        raise CatalogueError(f"{directory} cannot be read; run this as root")
    return directory


def _told(name: str, entry: Entry) -> Iterator[str]:
    yield name
    yield "  " + ", ".join(f"{word} {value}" for word, value in entry.traits.facts().items())
    yield f"  seen on {entry.host} at {entry.time}"
    for state in entry.states:
        size = len(state.config)
        yield f"  {identity(state.config)}, {size} bytes, evidence {state.evidence}, {state.origin}"
    if len(entry.states) > 1:
        yield "  these differ, although all that is known to determine them is the same: not used"


def _forget(options: Namespace) -> int:
    directory = _directory()
    known = [name for name, _ in catalogue.entries(directory)]
    # All files, those that cannot be read included: forget is also the way to repair.
    wanted = catalogue.all_names(directory) if options.all else options.names
    _require_known(wanted, catalogue.all_names(directory), known)
    gone = catalogue.forget(directory, wanted)
    if options.format == "json":
        print(json.dumps({"schema": SCHEMA, "forgotten": gone}, indent=2))
    else:
        print("\n".join(f"forgotten: {name}" for name in gone) or "nothing to forget")
    return 0


def _require_known(wanted: list[str], names: list[str], readable: list[str]) -> None:
    unknown = [name for name in wanted if name not in names]
    if unknown:
        shown = ", ".join(readable) or "none"
        raise CatalogueError(f"no entry {unknown[0]!a} in the catalogue; there are: {shown}")


def _export(options: Namespace) -> int:
    entries = dict(catalogue.entries(_directory()))
    _require_known(options.names, [*entries], [*entries])
    chosen = [catalogue.to_json(entries[name]) for name in options.names or entries]
    print(json.dumps({"schema": SCHEMA, "entries": chosen}, indent=1))
    return 0


def _import(options: Namespace) -> int:
    directory = _directory()
    # All entries are validated before the first is added.
    entries = read_export(_read(options.file), options.file)
    results = []
    for entry in entries:
        changed = catalogue.add(directory, entry, equivalent_to_qemu)
        results.append((catalogue.name_of(entry.traits), "added" if changed else "known already"))
    if options.format == "json":
        answers = [{"name": name, "result": result} for name, result in results]
        print(json.dumps({"schema": SCHEMA, "entries": answers}, indent=2))
    else:
        print("\n".join(f"{result}: {name}" for name, result in results) or "nothing to import")
    return 0


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read(MAX_FILE + 1)
    with open(file, "rb") as opened:
        return opened.read(MAX_FILE + 1)


def read_export(data: bytes, origin: str) -> list[Entry]:
    """The entries of an export, all of them validated. Raises CatalogueError for an invalid one."""
    if len(data) > MAX_FILE:
        raise CatalogueError(f"{origin}: over {MAX_FILE} bytes")
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CatalogueError(f"{origin}: not JSON: {error}") from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise CatalogueError(f'{origin}: not an export of a catalogue: "schema" is not {SCHEMA}')
    listed = value.get("entries")
    # More would push older entries out while importing.
    if not isinstance(listed, list) or len(listed) > catalogue.MAX_ENTRIES:
        most = catalogue.MAX_ENTRIES
        raise CatalogueError(f'{origin}: "entries" is not a list of up to {most} entries')
    found = []
    for number, item in enumerate(listed):
        try:
            found.append(catalogue.from_json(item))
        except CatalogueError as error:
            raise CatalogueError(f"{os.path.basename(origin)}: entry {number}: {error}") from error
    return found

"""``history``: what was predicted of guests that migrated to this host, and what QEMU did.

A prediction that was wrong is a bug of this project: ``--disagreements`` prints all that its report
needs. What QEMU refused counts in later checks (``refused-before``) until it is forgotten.
"""

from __future__ import annotations

import json
import os
from argparse import Namespace, _SubParsersAction
from collections.abc import Iterator, Mapping

from .. import __version__
from ..configuration import load
from ..host import history
from ..host.history import COMPLETED, SIDES, Entry, HistoryError
from ..judge.verdicts import FAIL
from ..osutil.light import TYPE_CHECKING
from ..osutil.text import printable
from . import output

if TYPE_CHECKING:
    from typing import Any

SCHEMA = 1
DESCRIPTION = (
    "Lists what was predicted of guests that migrated to this host and what became of them, the"
    " oldest first. Refusals are written by the hook, arrivals by 'watch'. What QEMU refused once"
    " makes a later check of a device with the same traits unknown (refused-before), until it is"
    " forgotten or QEMU accepts it after all."
)
AGREES = {True: "yes", False: "NO", None: "nothing was predicted, or it is not about a device"}


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare the command and what it can do."""
    parser = commands.add_parser(
        "history",
        help="what was predicted of migrations, and what QEMU did",
        description=DESCRIPTION,
    )
    parser.add_argument(
        "--disagreements",
        action="store_true",
        help="mispredictions alone, each as a case that a bug report can hold",
    )
    output.add_format(parser)
    parser.set_defaults(run=_list)
    forgetting = parser.add_subparsers(metavar="ACTION").add_parser("forget", help="remove entries")
    forgetting.add_argument("names", metavar="NAME", nargs="+", help="as 'history' shows it")
    output.add_format(forgetting)
    forgetting.set_defaults(run=_forget)


def _list(options: Namespace) -> int:
    directory = _directory()
    entries = history.entries(directory)
    if options.disagreements:
        entries = [(name, entry) for name, entry in entries if entry.agrees is False]
    if options.format == "json":
        print(json.dumps({"schema": SCHEMA, "entries": [*map(_as_json, entries)]}, indent=2))
        return 0
    told = _case if options.disagreements else _told
    for name, entry in entries:
        print("\n".join(printable(line) for line in told(name, entry)))
    if not entries:
        what = "disagreements" if options.disagreements else "entries"
        print(f"{directory} has no {what}")
    return 0


def _directory() -> str:
    directory = load().history
    # As another user the directory looks empty, which would be reported as no entries.
    for place in (directory, *(os.path.join(directory, each) for each in history.SUBDIRECTORIES)):
        if os.path.isdir(place) and not os.access(place, os.R_OK | os.X_OK):
            raise HistoryError(f"{place} cannot be read; run this as root")
    return directory


def _as_json(named: tuple[str, Entry]) -> dict[str, Any]:
    name, entry = named
    return {"name": name, **history.to_json(entry)}


def _forget(options: Namespace) -> int:
    directory = _directory()
    known = history.all_names(directory)
    unknown = [name for name in options.names if name not in known]
    if unknown:
        shown = ", ".join(known) or "none"
        raise HistoryError(f"no entry {unknown[0]!a} in the history; there are: {shown}")
    gone = history.forget(directory, options.names)
    if options.format == "json":
        print(json.dumps({"schema": SCHEMA, "forgotten": gone}, indent=2))
    else:
        print("\n".join(f"forgotten: {name}" for name in gone))
    return 0


def _told(name: str, entry: Entry) -> Iterator[str]:
    value = entry.expected
    yield name
    yield f"  guest {value['guest']} ({value['uuid']}), {value['machine']}, {value['emulator']}"
    yield f"  predicted at {value['time']}: {value['verdict']}, {value['action']}"
    for device in entry.devices():
        yield f"    {_name(device)}: {device['verdict']}{_quoted(device['quote'])}"
    yield f"  happened on {entry.host} at {entry.time}: {_happened(entry)}"
    if entry.note:
        yield f"  note: {entry.note}"
    yield f"  agrees: {AGREES[entry.agrees]}"
    if entry.overtaken:
        yield f"  overtaken: QEMU accepted the same at {entry.overtaken}"


def _name(device: Mapping[str, Any]) -> str:
    shown = device["alias"] or device["key"]
    return f"{shown} ({device['host']})" if device["host"] else str(shown)


def _quoted(line: str) -> str:
    return f': "{line}"' if line else ""


def _happened(entry: Entry) -> str:
    about = next((d for d in entry.devices() if d["key"] == entry.device), None)
    return f"{entry.outcome}{f' {_name(about)}' if about else ''}{_quoted(entry.line)}"


def _case(name: str, entry: Entry) -> Iterator[str]:
    """Everything a bug report needs; nothing of it refers to what is on this host alone."""
    value = entry.expected
    yield f"{name}: vfio-preflight {__version__}, {value['emulator']}, machine {value['machine']}"
    yield f"  predicted {value['verdict']}, {value['action']}; happened: {_happened(entry)}"
    if entry.note:
        yield f"  note: {entry.note}"
    for device in _mispredicted(entry):
        predicted = device["predicted"] or "nothing"
        yield f"  {_name(device)}: {device['verdict']}, predicted {predicted}"
        yield f"    findings: {', '.join(device.get('codes', ()))}"
        yield f"    {device['property'] or 'skip-vsc-check: not known'}"
        for side in SIDES:
            yield f"    {side}: {_evidence(device, side)}"
        case = device.get("case")
        shown = json.dumps(case, separators=(",", ":")) if case else "a config state is not known"
        yield f"    case (python -m conformance --case FILE): {shown}"


def _mispredicted(entry: Entry) -> list[Mapping[str, Any]]:
    """The device that QEMU refused, or those that it accepted where it should not have."""
    if entry.outcome == COMPLETED:
        return [d for d in entry.devices() if d["verdict"] == FAIL and not d["mended"]]
    return [device for device in entry.devices() if device["key"] == entry.device]


def _evidence(device: Mapping[str, Any], side: str) -> str:
    state = (device.get("states") or {}).get(side)
    traits = " ".join(device["traits"][side].values()) or "traits not known"
    if not state:
        return f"state not known; {traits}"
    words = (f"{word} {state.get(word)}" for word in ("evidence", "origin", "size", "sha256"))
    return f"{', '.join(words)}; {traits}"

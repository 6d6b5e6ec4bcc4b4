"""A guest judged here, for a move to a host that is known by its facts."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from lxml import etree

from ..configuration import load
from ..gather.hostfacts import HostFacts
from ..gather.hostjson import MAX_JSON, FactsError, from_json
from ..gather.there import facts_there, networks_there, settings_there
from ..gather.trials import trials
from ..guest.domain import Guest, read_guest
from ..guest.pools import networks_asked
from ..hook.gate import decided
from ..judge.checks.readiness import with_readiness
from ..judge.pipeline import examine
from ..judge.verdicts import NEVER
from ..pci.state import State
from ..report.schema import ReportDict, as_dict


def read_facts(path: str) -> HostFacts:
    """The facts in a file, ``-`` for standard input. Raises FactsError and OSError."""
    if path == "-":
        data = sys.stdin.buffer.read(MAX_JSON + 1)
    else:
        with open(path, "rb") as file:
            data = file.read(MAX_JSON + 1)
    if len(data) > MAX_JSON:
        raise FactsError(f"{path}: over {MAX_JSON} bytes: not the facts of a host")
    return from_json(data, path)


def guest_there(root: etree._Element, there: HostFacts) -> Guest:
    """The guest of a ``<domain>``, as the networks of that host make it."""
    return read_guest(root, lambda name: networks_there(there, name))


def judge_there(
    root: etree._Element,
    there: HostFacts,
    source: Mapping[str, State] | None = None,
    saved: bool = False,
    bandwidth: int = 0,
    hook: bool = True,
) -> ReportDict:
    """The report on the guest of a ``<domain>`` for a move to the host ``there``.

    ``source`` are states that take the place of the record's. Nobody decides where no hook is
    installed there, or where that is known not to be called (``hook``).
    """
    guest = guest_there(root, there)
    settings = settings_there(there, load())
    facts = facts_there(guest, there, settings, source)
    facts = facts._replace(saved=saved, bandwidth=bandwidth)
    # A trial would be of this host's emulator, whatever its path.
    report, decision = decided(examine(facts, NEVER, trials("", 0.0)), guest, settings)
    told, would = with_readiness(
        report,
        decision if hook and there.hook else None,
        facts,
        there.inventory,
        networks_asked(root),
    )
    return {**as_dict(told, would), "note": _note(there, decision.note)}


def _note(there: HostFacts, note: str) -> str:
    told = f"judged here, by the facts of {there.host} of {there.time}"
    wrong = f"its configuration is wrong: {there.problem}" if there.problem else ""
    return "; ".join(filter(None, (told, wrong, note)))

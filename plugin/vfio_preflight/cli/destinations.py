"""``check --to``: one destination or several, asked side by side.

Each destination is asked by its hook, through libvirt (``cli.dryrun``). Where none answers and
libvirt gets there by ssh, its facts are fetched over the same ssh and the guest is judged here. So
the answer is the hook's wherever there is one: only it knows the policy that will hold, has the
host's history, and can try the emulator.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from urllib.parse import urlsplit

from ..errors import PreflightError
from ..guest.domain import parse_domain
from ..osutil.light import TYPE_CHECKING
from ..osutil.text import printable
from ..report.firstline import first_line
from ..report.schema import SCHEMA, ReportDict
from ..report.text import title
from . import leftovers, output
from .columns import columns
from .connection import Connection, LibvirtError, connected, domain_named, unreachable
from .running import Running, as_called, as_running
from .sshuri import TRANSPORTS, Ssh
from .twinned import half, with_twin
from .workers import Answer, side_by_side

if TYPE_CHECKING:
    from typing import Any

# Seconds for one of several destinations, from the connection to its answer.
WITHIN = 60.0
# One alone may take as long as a hook may be allowed to ([hook] deadline), and a compressed image
# as long as it takes to read.
ALONE_WITHIN, IMAGE_WITHIN = 660.0, 86400.0
NO_ANSWER = "NO ANSWER"
# From best to worst: what is known to be refused counts more than what is not known.
_STATUSES = (0, 3, 1)


def run(options: Namespace, image_as_guest: Callable[[str], str]) -> int:
    """Ask all of ``options.to``, print what they answer, and return the exit status.

    ``image_as_guest`` makes a guest's XML of a save image.
    """
    several = len(options.to) > 1
    # Alone, it may ask for a password at the terminal; side by side nobody could tell whose it is.
    own = several or not sys.stdin.isatty()
    jobs: list[Callable[[], object]] = [partial(_source, options, image_as_guest)]
    # A saved guest was sent already, by a QEMU that is gone.
    if options.twin is not False and not options.image:
        jobs.append(partial(half, options.connect, options.guest))
    within = IMAGE_WITHIN if options.image else WITHIN
    source, *twin = side_by_side(jobs, within, own_session=own)
    if source.error:
        raise LibvirtError(source.error)
    asked = [partial(_ask, options, uri, source.value, several, twin) for uri in options.to]
    within = WITHIN if several else ALONE_WITHIN
    answers = side_by_side(asked, within, _Progress(options.to), own)
    if several:
        return _show(list(zip(options.to, answers)), options.format)
    if answers[0].error:
        raise LibvirtError(answers[0].error)
    return output.show(answers[0].value, options.format)


def _source(options: Namespace, image_as_guest: Callable[[str], str]) -> Running:
    """What is to be asked about."""
    with connected(options.connect) as source:
        leftovers.remove(source)
        if options.image:
            return {"xml": image_as_guest(options.image), "bandwidth": 0, "names": {}}
        return as_running(domain_named(source, options.guest))


def _ask(
    options: Namespace, uri: str, about: Running, several: bool, twin: Sequence[Answer]
) -> ReportDict:
    from . import dryrun

    wanted = _quiet(uri) if several else uri
    with connected(options.connect) as source, connected(wanted, uri) as destination:
        leftovers.remove(destination)
        report = dryrun.ask(
            source,
            destination,
            about["xml"],
            trial=options.trial,
            bandwidth=about["bandwidth"],
            otherwise=partial(_by_facts, about, bool(options.image)),
        )
        for each in twin:
            report = with_twin(report, each, destination, bool(options.twin))
    return as_called(report, about["names"])


def _quiet(uri: str) -> str:
    """The URI, with which libvirt's ssh asks no questions."""
    parts = urlsplit(uri)
    if parts.scheme.partition("+")[2] not in TRANSPORTS[:1] or "no_tty=" in parts.query:
        return uri
    query = "&".join(filter(None, (parts.query, "no_tty=1")))
    return parts._replace(query=query).geturl()


def _by_facts(about: Running, saved: bool, destination: Connection) -> ReportDict | str:
    """The guest judged by the destination's facts; or, in words, why they cannot be had."""
    from .elsewhere import judge_there
    from .remote import facts_of

    # As libvirt resolved it: an alias of its client configuration is no host's name.
    ssh = Ssh.of(destination.getURI())
    if ssh is None:
        return ""
    root = parse_domain(about["xml"].encode())
    emulator = (root.findtext("devices/emulator") or "").strip()
    try:
        there = facts_of(ssh, emulator)
    except PreflightError as error:
        return str(error)
    # What is installed there does not run: libvirt just let the stand-in in.
    return judge_there(root, there, saved=saved, bandwidth=about["bandwidth"], hook=False)


# --- what is shown --------------------------------------------------------------------------------


class _Progress:
    """Tells a terminal how far the asking is, on stderr."""

    def __init__(self, uris: Sequence[str]) -> None:
        self.total = len(uris)
        self.shown = self.total > 1 and sys.stderr.isatty()
        self(0)

    def __call__(self, done: int) -> None:
        if self.shown:
            end = "\r\033[K" if done == self.total else ""
            print(f"\r{done} of {self.total} destinations asked{end}", end="", file=sys.stderr)
            sys.stderr.flush()


def _show(rows: list[tuple[str, Answer]], form: str) -> int:
    if form == "json":
        print(json.dumps([_as_json(uri, answer) for uri, answer in rows], indent=2))
    else:
        heads = ("destination", "verdict", "why")
        print("\n".join(columns(heads, [_row(uri, answer) for uri, answer in rows])))
    return max((_status(answer) for _, answer in rows), key=_STATUSES.index)


def _as_json(uri: str, answer: Answer) -> dict[str, Any]:
    """A report and whose it is; or as for any error, an object with ``error``."""
    if answer.error:
        return {"schema": SCHEMA, "destination": uri, "error": answer.error}
    return {**answer.value, "destination": uri}


def _row(uri: str, answer: Answer) -> list[str]:
    if answer.error:
        # The row says whose answer it is.
        error = " ".join(answer.error.split()).replace(unreachable(uri), "", 1)
        return [uri, NO_ANSWER, printable(error)]
    report: ReportDict = answer.value
    line = first_line("", report, title(report), names_guest=True)
    return [uri, output.outcome(report)[0], line.partition(": ")[2]]


def _status(answer: Answer) -> int:
    return 3 if answer.error else output.exit_status(answer.value)

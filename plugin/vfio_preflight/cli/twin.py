"""``twin``: the whole machine's trial by hand, in two halves that may be on two hosts.

    source#       vfio-preflight twin save GUEST > FILE
    destination#  vfio-preflight twin load FILE

``check --to`` does both.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace, _SubParsersAction

from ..configuration import load
from ..guest.domain import parse_domain
from ..judge.checks.twin import check_twin, told_more
from ..judge.verdicts import FAIL, UNKNOWN, worst
from ..osutil.light import TYPE_CHECKING
from ..osutil.text import printable
from ..qemu.twin.told import NOT_RUN, Told
from .arguments import UsageError, add_format
from .connection import LOCAL, Domain, LibvirtError, connected, domain_named, library

if TYPE_CHECKING:
    from lxml import etree

DESCRIPTION = (
    "Has the whole machine tried: 'save' makes the guest's twin with the QEMU build that runs the"
    " guest and writes its state to standard output; 'load' has the QEMU of this host load it, and"
    " prints what it says. The twin has the guest's machine type and devices, on nothing: no disk,"
    " network, console, TPM or memory of the guest's is opened, and it never runs. Exit status:"
    " 0 accepted, 1 refused, 2 usage or input error, 3 not decided or not tried."
)
# Seconds of a half; an ordinary one takes 0.3.
WITHIN = 30.0
_MAX_FILE = 64 << 20


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare the command."""
    parser = commands.add_parser(
        "twin", help="try the whole machine: save on one host, load on another",
        description=DESCRIPTION,
    )  # fmt: skip
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    saving = actions.add_parser("save", help="save the twin of a guest that runs here")
    saving.add_argument("guest", metavar="GUEST", help="guest's name or UUID")
    saving.add_argument("--connect", metavar="URI", default=LOCAL, help=f"libvirt URI ({LOCAL})")
    saving.set_defaults(run=save)
    loading = actions.add_parser("load", help="load a twin with this host's QEMU")
    loading.add_argument("file", metavar="FILE", help="what 'twin save' wrote; - for stdin")
    add_format(loading)
    loading.set_defaults(run=load_file)


def save(options: Namespace) -> int:
    """Carry ``twin save`` out."""
    if sys.stdout.isatty():
        raise UsageError("the twin is not text: redirect it, as in 'twin save GUEST > FILE'")
    made = saved(options.connect, options.guest)
    if isinstance(made, Told):
        for line in _lines(made):
            print(printable(line), file=sys.stderr)
        return _status(made)
    sys.stdout.buffer.write(made)
    sys.stdout.buffer.flush()
    return 0


def load_file(options: Namespace) -> int:
    """Carry ``twin load`` out."""
    from ..gather.twins import load_here
    from ..qemu.twin.envelope import from_bytes

    envelope = from_bytes(_read(options.file), options.file)
    told = load_here(envelope, load(), time.monotonic() + WITHIN)
    if options.format == "json":
        print(json.dumps(as_json(told), indent=2))
    else:
        print("\n".join(printable(line) for line in _lines(told)))
    return _status(told)


def saved(uri: str, name: str) -> bytes | Told:
    """The source's half of a guest's twin, as a file; or why there is none."""
    from ..gather.twins import save_running
    from ..qemu.twin.envelope import to_bytes

    with connected(uri) as source:
        domain = domain_named(source, name)
        migratable = _xml(domain, library().VIR_DOMAIN_XML_MIGRATABLE)
        made = save_running(_xml(domain, 0), migratable, time.monotonic() + WITHIN)
        return made if isinstance(made, Told) else to_bytes(made)


def as_json(told: Told) -> dict[str, object]:
    """What came of a twin, as JSON of schema 1."""
    return {"schema": 1, **told._asdict(), "uncovered": list(told.uncovered)}


def _xml(domain: Domain, flags: int) -> etree._Element:
    try:
        return parse_domain(domain.XMLDesc(flags).encode())
    except library().libvirtError as error:
        raise LibvirtError(f"the guest's XML cannot be had: {error}") from error


def _read(path: str) -> bytes:
    if path == "-":
        data = sys.stdin.buffer.read(_MAX_FILE + 1)
    else:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise UsageError(f"{path}: over {_MAX_FILE} bytes: not a file of 'twin save'")
    return data


def _lines(told: Told) -> list[str]:
    """What is said of a twin: the verdict first, then each finding and what to do."""
    found = (*check_twin(told), *told_more(told))
    verdict = _verdict(told)
    lines = [f"{verdict.upper():10}{found[0].text}"]
    lines += [f"{'':10}{finding.text}" for finding in found[1:]]
    return lines + [f"{'to do':10}{finding.remedy}" for finding in found if finding.remedy]


def _status(told: Told) -> int:
    return {FAIL: 1, UNKNOWN: 3}.get(_verdict(told), 0)


def _verdict(told: Told) -> str:
    if told.outcome == NOT_RUN:
        return UNKNOWN
    return worst(finding.verdict for finding in check_twin(told))

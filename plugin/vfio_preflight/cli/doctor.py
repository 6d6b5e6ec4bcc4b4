"""``doctor``: whether this host is fit to judge guests, and the command that mends what is not.

Nothing is changed, and no program of others is run but emulators, as the hook runs them; with
``--self-test`` the hooks are, as libvirt would. Its own modules may be broken as any others are: it
imports what it needs when it needs it, and what breaks it before that is told of by the file that
starts it (``installation.launcher``).
"""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace, _SubParsersAction
from collections.abc import Iterator

from ..osutil.light import TYPE_CHECKING
from .arguments import add_format

if TYPE_CHECKING:
    from .diagnosis.checks import Diagnosis
    from .diagnosis.here import Here

SCHEMA = 1
HEALTHY, FAULTY, UNSEEN = 0, 1, 3
MARGIN = 10
DESCRIPTION = (
    "Looks at everything that this host needs to judge guests: what libvirt runs and whether it has"
    " looked for hooks since, other hooks, the package, the configuration, emulators, devices, the"
    " guests' records, the history, the service 'watch'. Prints 'healthy', or each problem with the"
    " command that mends it. docs/DOCTOR.md lists them all. Needs root."
)
EPILOG = (
    "Exit status: 0 healthy, 1 a problem was found, 2 usage or input error, 3 something could not"
    " be looked at, and no problem was found."
)


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare the command."""
    parser = commands.add_parser(
        "doctor",
        help="what is wrong with this host, and what mends it",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument(
        "--self-test",
        action="store_true",
        help="call the hooks as libvirt does, ours for a guest that passes and one that is blocked,"
        " others for one without devices",
    )
    add_format(parser)
    parser.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Carry the command out."""
    from .diagnosis.checks import CHECKS, SELF_TEST, Unseen, diagnose

    begun = time.monotonic()
    if os.geteuid() != 0:
        from .diagnosis.checks import Diagnosis

        why = "what is looked at is root's alone; run: sudo vfio-preflight doctor"
        found = Diagnosis([], [Unseen("everything", why)], {})
    else:
        checks = (*CHECKS, *SELF_TEST) if options.self_test else CHECKS
        found = diagnose(_here(), checks)
    if options.format == "json":
        print(json.dumps(_as_json(found, time.monotonic() - begun), indent=2))
    else:
        print("\n".join(_lines(found)))
    if found.problems:
        return FAULTY
    return UNSEEN if found.unseen else HEALTHY


def _here() -> Here:
    from ..configuration import Configuration, ConfigurationError, load
    from .diagnosis.here import Here
    from .installation import launcher

    try:
        settings = load()
    # Told of by its own look; the others go by what the hook then goes by.
    except ConfigurationError as error:
        settings = Configuration(on_error=error.on_error, log=error.log)
    place, manifest = launcher.in_force("/")
    return Here(settings, "/", place, manifest)


def _as_json(found: Diagnosis, seconds: float) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "healthy": not (found.problems or found.unseen),
        "problems": [problem._asdict() for problem in found.problems],
        "unseen": [unseen._asdict() for unseen in found.unseen],
        "facts": found.facts,
        "seconds": round(seconds, 3),
    }


def _lines(found: Diagnosis) -> Iterator[str]:
    yield from _tested(found)
    for problem in found.problems:
        yield f"{'problem':{MARGIN}}{problem.text} [{problem.code}]"
        yield f"  to mend: {problem.command}"
    for unseen in found.unseen:
        yield f"{'not seen':{MARGIN}}{unseen.subject}: {unseen.why}"
    if not found.problems and not found.unseen:
        yield "healthy"


def _tested(found: Diagnosis) -> Iterator[str]:
    """What the self-test did."""
    head = f"{'self-test':{MARGIN}}"
    for each in found.facts.get("self-test", ()):
        said = f": {each['said']}" if each["said"] else ""
        did = "blocked" if each["status"] == 1 else "let pass"
        yield (
            f"{head}a guest that {each['guest']}: {did} (exit status {each['status']},"
            f" {each['seconds']:.2f} s){said}"
        )
    for each in found.facts.get("other-hooks", ()):
        how = each["how"] or "ended with 0"
        yield f"{head}{each['path']} at {each['operation']} begin: {how} ({each['seconds']:.2f} s)"

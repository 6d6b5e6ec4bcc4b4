"""The looks, in their order, and what became of each.

A look is imported when its turn comes: a module that is broken costs what it looks at, and nothing
else. One whose subject rests on something that is broken is left out: its fault would be the same
one, told a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from importlib import import_module

from ...errors import PreflightError
from ...osutil.light import TYPE_CHECKING, NamedTuple
from ...osutil.text import printable
from .faults import BY_CODE, OWN
from .finding import Fact, Problem, problem_of
from .here import Here

if TYPE_CHECKING:
    from typing import Any


class Check(NamedTuple):
    """What is looked at, the look (module and function), and what it rests on."""

    subject: str
    look: str
    needs: tuple[str, ...] = ()


PACKAGE, COMPILED = "package", "compiled modules"
PYTHON, MODULE, COMMAND = "python", "python's libvirt module", "command"
FILE, CONFIGURATION = "hook's file", "configuration"
# To be mended first: an installation ends with a call of the hook, which fails by these.
FIRST = ("configuration-invalid", "configuration-unreadable")
# Without these the hook cannot run at all.
RUNS = (PACKAGE, COMPILED, PYTHON, FILE)
CHECKS = (
    Check(PACKAGE, "package.whole"),
    Check(COMPILED, "package.compiled", (PACKAGE,)),
    Check(PYTHON, "package.runs"),
    Check(MODULE, "package.libvirt", (PYTHON,)),
    Check(COMMAND, "package.command"),
    Check(FILE, "entry.file"),
    Check("SELinux labels", "entry.label"),
    Check("libvirt's look for hooks", "entry.reloaded", (FILE,)),
    Check("other hooks", "neighbours.order"),
    # From here on most looks read XML in this process: an lxml that crashes would take it along.
    Check(CONFIGURATION, "settings.configuration", (PYTHON,)),
    Check("vendors' rules", "settings.rules", (CONFIGURATION,)),
    Check("log", "settings.log", (CONFIGURATION,)),
    Check("hook's answer", "entry.called", (*RUNS, CONFIGURATION)),
    Check("libvirt", "devices.libvirt", (PYTHON,)),
    Check("emulators", "devices.emulators", (CONFIGURATION,)),
    Check("directories", "devices.directories", (CONFIGURATION,)),
    Check("stored entries", "devices.entries", (CONFIGURATION, "directories")),
    Check("state files", "devices.states", (CONFIGURATION,)),
    Check("devices", "devices.devices", (CONFIGURATION, "state files")),
    Check("watch", "service.watch", (PACKAGE, COMPILED, PYTHON, MODULE, COMMAND)),
    Check("guests' records", "guests.records", (PYTHON,)),
    Check("history", "guests.predictions", (CONFIGURATION, "directories")),
)
SELF_TEST = (
    Check("self-test", "selftest.judged", (*RUNS, CONFIGURATION, "emulators", "hook's answer")),
    Check("self-test of other hooks", "selftest.chain", (PYTHON,)),
)


class Unseen(NamedTuple):
    """What could not be looked at, and why."""

    subject: str
    why: str


class Diagnosis(NamedTuple):
    """All that was found."""

    problems: list[Problem]
    unseen: list[Unseen]
    facts: dict[str, Any]


def diagnose(here: Here, checks: Iterable[Check], unfit: Collection[str] = ()) -> Diagnosis:
    """Look at everything; ``unfit`` are subjects that cannot be rested on from the outset."""
    found = Diagnosis([], [], {})
    broken = set(unfit)
    for check in checks:
        if broken & set(check.needs):
            broken.add(check.subject)
            continue
        before = len(found.problems)
        try:
            _look(here, check, found)
        except (PreflightError, OSError) as error:
            found.unseen.append(Unseen(check.subject, printable(str(error), 500)))
            broken.add(check.subject)
        # A module of the package that is broken, which was told of then, or a fault of this
        # program's: no other look suffers from it, and no traceback gets out.
        except (Exception, SystemExit) as error:
            broken.add(check.subject)
            if PACKAGE not in broken:
                why = printable(f"{type(error).__name__}: {error}", 500)
                found.unseen.append(Unseen(check.subject, f"it cannot be looked at ({why})"))
        if len(found.problems) > before:
            broken.add(check.subject)
    found.problems.sort(key=lambda problem: problem.code not in FIRST)
    return found


def _look(here: Here, check: Check, found: Diagnosis) -> None:
    module, _, name = check.look.partition(".")
    look: Callable[[Here], Iterable[Any]] = getattr(import_module(f".{module}", __package__), name)
    for each in look(here):
        if isinstance(each, Fact):
            found.facts[each.name] = each.value
        else:
            fault = BY_CODE[each.code]
            problem = problem_of(fault, each.values)
            # A directory that several things lie in is told of once.
            if not any(
                known.command == problem.command
                and (known.code == problem.code or fault.command == OWN)
                for known in found.problems
            ):
                found.problems.append(problem)

"""A call that ``hook.entry`` does not end at once: a child judges the guest, or learns from it."""

from __future__ import annotations

import os
import time

from . import journal, turns

# Not from osutil.light: of a hundred hooks at once, most wait for their turn with little loaded.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..configuration import Configuration, ConfigurationError
    from .supervise import Outcome

# What the child must leave of the deadline for writing its result, in seconds.
MARGIN = 0.5
# libvirt waits for "release end", which only learns from what happened: reading a log takes
# milliseconds. With what a log line may take (hook.journal), all is over in 2 seconds.
LEARNING_SECONDS = 1.2

# A cold start's devices are read in the background, for which nobody waits: on a host that starts
# all its guests at once it may take long. Later than this, a record counts as late anyway
# (PROMPT of judge.checks.evidence).
CAPTURE_SECONDS = 60.0

WORDS = {
    "migrate": "migration",
    "started": "migration",
    "restore": "restore",
    "prepare": "restore",
}


def learn(guest: str, reason: str, read_input: Callable[[], bytes]) -> str:
    """Hold what became of an incoming guest against what was predicted; why not, if it failed."""
    from .supervise import Outcome, supervised

    settings, _ = _configuration()

    def work() -> Outcome:
        from .outcome import released

        learned = released(guest, reason, read_input(), settings)
        if learned is None:
            return Outcome(0)
        from .telling import with_event

        line = f"release {learned.line}"
        return with_event(Outcome(0, log=line, warning=learned.is_warning), learned.event)

    outcome = supervised(work, LEARNING_SECONDS)
    if outcome.log:
        about = journal.event(outcome.event, settings)
        patience = MARGIN / 2
        journal.write(
            settings.log, outcome.log, warning=outcome.warning, patience=patience, about=about
        )
    return outcome.failure


def judge(guest: str, operation: str, xml: bytes, libvirt: int) -> Outcome:
    """Have a child judge the guest; what libvirt is to get, and the exit status."""
    came = time.monotonic()
    # Before anything else is loaded: of a hundred hooks at once, most wait here.
    place = turns.take(operation)
    begun = time.monotonic()
    from .supervise import FAILED, Outcome, supervised

    settings, config_error = _configuration()
    deadline, may_block = settings.deadline, operation == "migrate"
    if operation == "started":
        from . import attempt

        # A cold start and a restore are never failed; nothing waits for them here.
        may_block = attempt.is_waiting(settings.runtime, guest, xml)
        deadline = settings.second_gate_deadline if may_block else CAPTURE_SECONDS

    def work() -> Outcome:
        turns.let_go(place)
        from .gate import Gate

        # The child stops by itself shortly before the parent would kill it.
        end = time.monotonic() + max(deadline - MARGIN, deadline / 2)
        gate = Gate(guest, settings, end, config_error, libvirt)
        if operation == "started":
            from .started import started

            return _swept(started(gate, xml), settings)
        return _swept(gate.judge(operation, xml), settings)

    try:
        outcome = supervised(work, deadline)
    # fork() fails at a limit on processes or memory.
    except OSError as error:
        outcome = Outcome(FAILED, failure=f"no process could be started: {error}")
    if outcome.failure:
        may_block = may_block and (operation != "started" or _may_come_in(guest))
        outcome = _failed(outcome.failure, guest, operation, settings, may_block)
    return _told(outcome, operation, settings, (time.monotonic() - begun, begun - came))


def _may_come_in(guest: str) -> bool:
    """Whether the guest is not certainly started here, beside an attempt that was given up."""
    from ..host.processes import is_incoming

    return is_incoming(guest) is not False


def _swept(outcome: Outcome, settings: Configuration) -> Outcome:
    """``outcome``, with what killed hooks have left swept behind it."""

    def after() -> None:
        if outcome.after is not None:
            outcome.after()
        from .sweeping import sweep

        sweep(settings)

    return outcome._replace(after=after)


def _configuration() -> tuple[Configuration, ConfigurationError | None]:
    from ..configuration import Configuration, ConfigurationError, load

    try:
        return load(), None
    except ConfigurationError as error:
        # Defaults, except for what is read even from a file with errors.
        kept = Configuration(on_error=error.on_error, log=error.log, audit_log=error.audit_log)
        return kept, error


def _told(
    outcome: Outcome, operation: str, settings: Configuration, took: tuple[float, float]
) -> Outcome:
    """Log what is done, and how long it took; ``outcome`` as it may reach libvirt."""
    from .supervise import FAILED

    if outcome.log:
        # Only now, when nothing comes between; of a hook that is killed yet its shell tells.
        about = journal.event(outcome.event, settings, took)
        logged = journal.write(settings.log, outcome.log, warning=outcome.warning, about=about)
        if not logged and outcome.failure and outcome.status == 0:
            return outcome._replace(
                status=FAILED, out=outcome.log.encode("ascii", "backslashreplace"), err=b""
            )
    # A partial document on stdout would make libvirt fail, or define a changed guest.
    out = outcome.out if outcome.status == 0 else b""
    # Never non-zero for restore: libvirt 11.3 would delete a managed save.
    return outcome._replace(out=out, status=outcome.status if operation != "restore" else 0)


def _failed(
    failure: str, guest: str, operation: str, settings: Configuration, may_block: bool
) -> Outcome:
    """What the on-error policy makes of a child without a result."""
    from ..judge.verdicts import BLOCK
    from ..osutil.text import printable
    from .supervise import Outcome

    # The name is libvirt's argument and of any length; it goes into a log line.
    name = guest[:200]
    what = printable(
        f"the check of guest {name!a} at {operation} begin could not be made: {failure}"
    )
    # restore and prepare cannot be blocked here: only a refusal that was left does that.
    blocks = settings.on_error == BLOCK and may_block
    log = f"{what}; {'blocked' if blocks else 'let pass'}"
    event = _unchecked(operation, guest, blocks, failure)
    if not blocks:
        return Outcome(0, failure=failure, log=log, warning=True, event=event)
    from ..configuration import UNCHECKED_REMEDY
    from ..report.text import unchecked

    lines = unchecked(WORDS[operation], guest, failure, UNCHECKED_REMEDY)
    err = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
    return Outcome(1, err=err, log=log, warning=True, event=event)


def _unchecked(operation: str, guest: str, blocks: bool, failure: str) -> str:
    """The event of a check that failed; empty in an installation that cannot make one."""
    try:
        from ..report import events

        action = "block" if blocks else "allow"
        event = events.not_checked(operation, guest, action, failure)
        return events.packed(event, os.uname().nodename)
    # The policy holds whatever is broken here, and the log has the line.
    except Exception:
        return ""

"""The libvirt ``qemu`` hook: GUEST OPERATION SUB-OPERATION EXTRA, domain XML on standard input.

``migrate begin`` on the destination: exit 1 and the reason on stderr to block; otherwise exit 0
with the changed XML, or nothing, on stdout. ``started begin`` of such a guest: exit 1 to block it
after all, by what its devices really present; of a guest that starts here, its devices are read for
the record, and the exit status is 0. ``restore begin``: always exit 0, because libvirt 11.3
deletes a managed save when this fails; a refusal waits for ``prepare begin`` of the same attempt.
``release end``: always exit 0 and silence; what became of an incoming guest is learned from.
Every other operation: exit 0 and silence.

The shell part of the hook (hooks/vfio-preflight) stays in charge: it makes an exit status of 0 or 1
libvirt's, and logs where there is another one that nothing was judged, with what is on stdout.

A failure of the hook itself is not the guest's fault: the ``on-error`` policy decides, and lets the
guest pass by default. Nothing is imported before it is needed: most guests have no VFIO device.

Source: libvirt, "Hooks for specific system management"; ``src/util/virhook.c``.
"""

from __future__ import annotations

import os
import select
import sys
import time

# Not from osutil.light: even that import is avoided for calls that end in the next lines.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..configuration import Configuration, ConfigurationError
    from .supervise import Outcome

# Four times what fits through libvirt's RPC; the rest of a larger document is not read.
MAX_INPUT = 16 * 1024 * 1024
# libvirt writes the XML at once, so waiting longer for standard input would be pointless.
INPUT_SECONDS = 5.0
# The exit status that says that nothing was judged, and that this could not be logged.
NOT_JUDGED = 70
# What the child must leave of the deadline for writing its result, in seconds.
MARGIN = 0.5

# libvirt sends XML of its own serialiser: UTF-8 without a declaration, a document that begins and
# ends like this. What does not is empty, cut short, or from a hook before this one: it may be
# anything, in any encoding.
BEGINNING, ENDING = b"<domain", b"</domain>"
# A document without any of these, nor letters that are written otherwise (_hides_letters), has no
# VFIO device, whatever else it holds.
HINTS = (b"hostdev", b"vfio")
# An interface of a network has this value, between either kind of quote.
NETWORK_HINTS = (b"'network'", b'"network"')
# More character references than a title or a description has.
MAX_REFERENCES = 1000

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


def main(arguments: list[str] | None = None, libvirt: int = 0) -> int:
    """Entry point, called by the process ``libvirt``; returns the exit status and never raises."""
    given = arguments if arguments is not None else sys.argv[1:]
    if given[1:3] == ["release", "end"]:
        return _learn(given[0], given[3] if len(given) > 3 else "-")
    call = given[:3]
    # Failing "reconnect" would kill a running guest, so other operations do nothing at all.
    if len(call) < 3 or call[1] not in WORDS or call[2] != "begin":
        return 0
    try:
        xml = _read_input()
        return _judge(call[0], call[1], xml, libvirt) if may_have_vfio(xml) else 0
    # "restore begin" must exit 0 even if the installation is damaged.
    except Exception as error:
        return _complain(f"{call[1]} begin: nothing checked: {type(error).__name__}: {error}")


def _learn(guest: str, reason: str) -> int:
    """Hold what became of an incoming guest against what was predicted; always 0."""
    try:
        from . import journal
        from .supervise import Outcome, supervised

        settings, _ = _configuration()

        def work() -> Outcome:
            from .outcome import released

            line = released(guest, reason, _read_input(), settings)
            return Outcome(0, log=f"release {line}" if line else "")

        outcome = supervised(work, LEARNING_SECONDS)
        if outcome.log:
            journal.write(settings.log, outcome.log, patience=MARGIN / 2)
        failure = outcome.failure
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
    return _complain(f"release end: nothing learned: {failure}") if failure else 0


# stderr would be lost: libvirt drops it when the hook exits 0.
def _complain(line: str) -> int:
    """Log, if the installation still allows that; return the exit status, 0 if it does."""
    try:
        from . import journal

        if journal.write("syslog", line, warning=True):
            return 0
    # A restore must not fail because of it.
    except Exception as error:
        line = f"{line} (not logged: {type(error).__name__}: {error})"
    _write(1, line.encode("ascii", "backslashreplace"))
    return NOT_JUDGED


def _read_input() -> bytes:
    """Standard input; XML that is cut short fails the check later, where it matters."""
    data = bytearray()
    end = time.monotonic() + INPUT_SECONDS
    while len(data) <= MAX_INPUT:
        try:
            # libvirt writes the XML and closes the pipe; select() guards against a call by hand.
            if not select.select([0], [], [], max(0.0, end - time.monotonic()))[0]:
                break
            chunk = os.read(0, 1 << 20)
        except OSError:
            break
        if not chunk:
            break
        data += chunk
    return bytes(data)


def _judge(guest: str, operation: str, xml: bytes, libvirt: int) -> int:
    """Have a child judge the guest, and pass its result on to libvirt."""
    from . import turns

    # Before anything else is loaded: of a hundred hooks at once, most wait here.
    place = turns.take(operation)
    # The log's module, before the fork: it is needed on both sides of it.
    from . import journal  # noqa: F401
    from .supervise import Outcome, supervised

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
        outcome = Outcome(70, failure=f"no process could be started: {error}")
    if outcome.failure:
        outcome = _failed(outcome.failure, guest, operation, settings, may_block)
    return _relay(outcome, operation, settings)


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
        # Defaults, except for on-error and log, which are read even from a file with errors.
        return Configuration(on_error=error.on_error, log=error.log), error


def may_have_vfio(xml: bytes) -> bool:
    """Whether only an XML parser can decide that the guest has nothing to be judged.

    That is a VFIO device, or a network that may provide one. False only where that is certain: the
    verdict on a guest must not depend on words that its XML has for other reasons.
    """
    # A search for bytes: no XML parser is loaded for guests without VFIO devices.
    if any(hint in xml for hint in HINTS) or len(xml) > MAX_INPUT:
        return True
    document = xml.strip()
    if not document.startswith(BEGINNING) or not document.endswith(ENDING):
        return True
    if _hides_letters(xml):
        return True
    # An interface of a network becomes a hostdev if the network is of forward mode hostdev.
    return any(hint in xml for hint in NETWORK_HINTS) and _networks_matter(xml)


def _hides_letters(xml: bytes) -> bool:
    """Whether a word may be there that a search does not find: ``&#104;ostdev``, ``\\u0076fio``."""
    # JSON, which is in -device of <qemu:commandline> alone, has escapes of its own.
    if b"\\u" in xml and b"commandline" in xml:
        return True
    references = xml.split(b"&#", MAX_REFERENCES + 1)[1:]
    if len(references) > MAX_REFERENCES:
        return True
    return any(_is_letter(reference.partition(b";")[0]) for reference in references)


def _is_letter(number: bytes) -> bool:
    """Whether a character reference is to printable ASCII, which nobody has to write like that."""
    try:
        code = int(number[1:], 16) if number[:1] == b"x" else int(number)
    except ValueError:
        return True
    return 0x20 < code < 0x7F


def _networks_matter(xml: bytes) -> bool:
    """Whether one of the guest's networks hands out devices, or is not defined on this host."""
    from ..guest.networks import networks_of
    from ..host.networks import hands_out_devices

    try:
        return any(hands_out_devices(name) is not False for name in networks_of(xml))
    # Without expat, or not well-formed.
    except (ImportError, ValueError):
        return True


def _relay(outcome: Outcome, operation: str, settings: Configuration) -> int:
    """Log what is done, and pass the result on to libvirt."""
    if outcome.log:
        from . import journal

        # Only now, when nothing comes between; of a hook that is killed yet its shell tells.
        logged = journal.write(settings.log, outcome.log, warning=outcome.warning)
        if not logged and outcome.failure and outcome.status == 0:
            _write(1, outcome.log.encode("ascii", "backslashreplace"))
            return NOT_JUDGED
    # A partial document on stdout would make libvirt fail, or define a changed guest.
    _write(1, outcome.out if outcome.status == 0 else b"")
    _write(2, outcome.err)
    # Never non-zero for restore: libvirt 11.3 would delete a managed save.
    return outcome.status if operation != "restore" else 0


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
    if not blocks:
        return Outcome(0, failure=failure, log=log, warning=True)
    from ..configuration import UNCHECKED_REMEDY
    from ..report.text import unchecked

    lines = unchecked(WORDS[operation], guest, failure, UNCHECKED_REMEDY)
    err = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
    return Outcome(1, err=err, log=log, warning=True)


def _write(descriptor: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        # libvirt went away; nobody reads this any more.
        return


if __name__ == "__main__":
    sys.exit(main())

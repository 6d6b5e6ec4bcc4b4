"""The libvirt ``qemu`` hook: GUEST OPERATION SUB-OPERATION EXTRA, domain XML on standard input.

``migrate begin`` on the destination: exit 1 and the reason on stderr to block; otherwise exit 0
with the changed XML, or nothing, on stdout. ``started begin`` of such a guest: exit 1 to block it
after all, by what its devices really present; of a guest that starts here, its devices are read for
the record, and the exit status is 0. ``restore begin``: always exit 0, because libvirt 11.3
deletes a managed save when this fails; a refusal waits for ``prepare begin`` of the same attempt.
``release end``: always exit 0 and silence; what became of an incoming guest is learned from.
Every other operation: exit 0 and silence.

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
# What the child must leave of the deadline for writing its result, in seconds.
MARGIN = 0.5

# How libvirt's document ends; what ends otherwise is empty, cut short or odd, and may be anything.
ENDING = b"</domain>"
# A document without any of these has no VFIO device, whatever else it holds.
HINTS = (b"hostdev", b"vfio")
NETWORK_HINTS = (b"type='network'", b'type="network"')

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
        _complain(f"{call[1]} begin: nothing checked: {type(error).__name__}: {error}")
        return 0


def _learn(guest: str, reason: str) -> int:
    """Hold what became of an incoming guest against what was predicted; always 0."""
    try:
        from .supervise import Outcome, supervised

        settings, _ = _configuration()

        def work() -> Outcome:
            from . import journal
            from .outcome import released

            line = released(guest, reason, _read_input(), settings)
            if line:
                journal.write(settings.log, f"release {line}", patience=MARGIN / 2)
            return Outcome(0)

        failure = supervised(work, LEARNING_SECONDS).failure
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
    if failure:
        _complain(f"release end: nothing learned: {failure}")
    return 0


# stderr would be lost: libvirt drops it when the hook exits 0.
def _complain(line: str) -> None:
    """Log, if the installation still allows that: a restore must not fail because of it."""
    try:
        from . import journal

        journal.write("syslog", line, warning=True)
    except Exception:
        return


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

            return started(gate, xml)
        return gate.judge(operation, xml)

    try:
        outcome = supervised(work, deadline)
    # fork() fails at a limit on processes or memory.
    except OSError as error:
        outcome = Outcome(70, failure=f"no process could be started: {error}")
    if outcome.failure:
        outcome = _failed(outcome.failure, guest, operation, settings, may_block)
    return _relay(outcome, operation)


def _configuration() -> tuple[Configuration, ConfigurationError | None]:
    from ..configuration import Configuration, ConfigurationError, load

    try:
        return load(), None
    except ConfigurationError as error:
        # Defaults, except for on-error, which is read even from a file with errors.
        return Configuration(on_error=error.on_error), error


def may_have_vfio(xml: bytes) -> bool:
    """Whether only an XML parser can decide that the guest has no VFIO device."""
    # A search for bytes: no XML parser is loaded for guests without VFIO devices.
    if any(hint in xml for hint in HINTS) or len(xml) > MAX_INPUT:
        return True
    if not xml.rstrip().endswith(ENDING):
        return True
    # An interface of a network becomes a hostdev if the network is of forward mode hostdev.
    if any(hint in xml for hint in NETWORK_HINTS):
        from ..host.networks import any_hands_out_devices

        return any_hands_out_devices()
    return False


def _relay(outcome: Outcome, operation: str) -> int:
    """Pass the result on to libvirt."""
    # A partial document on stdout would make libvirt fail, or define a changed guest.
    _write(1, outcome.out if outcome.status == 0 else b"")
    _write(2, outcome.err)
    # Never non-zero for restore: libvirt 11.3 would delete a managed save.
    return outcome.status if operation != "restore" else 0


def _failed(
    failure: str, guest: str, operation: str, settings: Configuration, may_block: bool
) -> Outcome:
    """What the on-error policy makes of a child without a result."""
    from ..configuration import UNCHECKED_REMEDY
    from ..judge.verdicts import BLOCK
    from . import journal
    from .supervise import Outcome

    # The name is libvirt's argument and of any length; it goes into a log line.
    name = guest[:200]
    what = f"the check of guest {name!a} at {operation} begin could not be made: {failure}"
    # restore and prepare cannot be blocked here: only a refusal that was left does that.
    blocks = settings.on_error == BLOCK and may_block
    journal.write(settings.log, f"{what}; {'blocked' if blocks else 'let pass'}", warning=True)
    if not blocks:
        return Outcome(0)
    line = f"vfio-preflight: {WORDS[operation]} blocked: {what}; to do: {UNCHECKED_REMEDY}\n"
    return Outcome(1, err=line.encode())


def _write(descriptor: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        # libvirt went away; nobody reads this any more.
        return


if __name__ == "__main__":
    sys.exit(main())

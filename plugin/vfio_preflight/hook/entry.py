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

# Not even "from __future__ import annotations": Python looks for a file for it, for calls that end
# in the next lines. What needs more is in hook.call.
import os
import select
import sys
import time

# What is judged at its "begin"; libvirt calls for much else.
JUDGED = ("migrate", "restore", "prepare", "started")
# Four times what fits through libvirt's RPC; the rest of a larger document is not read.
MAX_INPUT = 16 * 1024 * 1024
# libvirt writes the XML at once, so waiting longer for standard input would be pointless.
INPUT_SECONDS = 5.0
# The exit status that says that nothing was judged, and that this could not be logged.
NOT_JUDGED = 70

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


def main(arguments: "list[str] | None" = None, libvirt: int = 0) -> int:
    """Entry point, called by the process ``libvirt``; returns the exit status and never raises."""
    guest, operation, sub, extra, *_ = (*(arguments or sys.argv[1:]), "", "", "", "")
    try:
        if (operation, sub) == ("release", "end"):
            from .call import learn

            failure = learn(guest, extra or "-", read_input)
            return complain(f"release end: nothing learned: {failure}") if failure else 0
        # Failing "reconnect" would kill a running guest, so other operations do nothing at all.
        if operation not in JUDGED or sub != "begin":
            return 0
        xml = read_input()
        if not may_have_vfio(xml):
            return 0
        from .call import judge

        outcome = judge(guest, operation, xml, libvirt)
        write(1, outcome.out)
        write(2, outcome.err)
        return outcome.status
    # "restore begin" must exit 0 even if the installation is damaged.
    except Exception as error:
        done = "learned" if operation == "release" else "checked"
        return complain(f"{operation} {sub}: nothing {done}: {type(error).__name__}: {error}")


# stderr would be lost: libvirt drops it when the hook exits 0.
def complain(line: str) -> int:
    """Log, if the installation still allows that; return the exit status, 0 if it does."""
    try:
        from . import journal

        if journal.write("syslog", line, warning=True):
            return 0
    # A restore must not fail because of it.
    except Exception as error:
        line = f"{line} (not logged: {type(error).__name__}: {error})"
    write(1, line.encode("ascii", "backslashreplace"))
    return NOT_JUDGED


def read_input() -> bytes:
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


def write(descriptor: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        # libvirt went away; nobody reads this any more.
        return


if __name__ == "__main__":
    sys.exit(main())

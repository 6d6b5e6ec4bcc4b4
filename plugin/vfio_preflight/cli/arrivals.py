"""Guests that migrated in and run: what was expected of them has come about, or has not.

``migrate begin`` left a prediction (``hook.expected``); no operation of the hook tells that the
migration succeeded. ``watch`` looks at such guests anyway, and closes the case here.
"""

from __future__ import annotations

import os

from ..configuration import Configuration
from ..hook import expected, journal
from ..hook.outcome import Learned, completed
from ..host.processes import find_process
from ..report import events
from .connection import Domain, Library


def close(libvirt: Library, domain: Domain, settings: Configuration) -> str:
    """Put the guest's arrival into the history, if it was expected and runs; a line to tell.

    Empty where there is nothing to tell: also while QEMU still loads the guest, whose next event
    comes when it runs.
    """
    name, uuid = domain.name(), domain.UUIDString()
    if not expected.is_waiting(settings.runtime, name):
        return ""
    try:
        # Paused until everything has been loaded; with post-copy, until the devices have.
        if domain.state()[0] != libvirt.VIR_DOMAIN_RUNNING:
            return ""
    except libvirt.libvirtError:
        # It is gone again, and the hook sees to that.
        return ""
    process = find_process(name, uuid)
    # A guest that was started here cold is not the one that was expected.
    if process is None or not process.incoming:
        return ""
    learned = completed(name, uuid, process.age, settings)
    return "" if learned is None else _told(learned, settings)


def _told(learned: Learned, settings: Configuration) -> str:
    """The line of ``learned``, whose event is in the audit log; or why it is not.

    Empty where the journal, in which it would end, has it already, with its fields.
    """
    about = journal.event(events.packed(learned.event, os.uname().nodename), settings)
    problem = journal.to_audit_log(about)
    line = f"{learned.line}; {problem}" if problem else learned.line
    # systemd sets it where the standard output is the journal's.
    is_journal, warning = "JOURNAL_STREAM" in os.environ, learned.is_warning or bool(problem)
    return "" if is_journal and journal.to_journal(line, warning, about) else line

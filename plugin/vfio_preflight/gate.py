"""What the hook does once XML has to be looked at: judge the guest, then block, annotate or mend.

Nothing goes to libvirt that was not parsed back and found to differ from what came in by our
metadata element alone (and, when mending, by the override).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from lxml import etree

from . import __version__, journal, refusals
from .checks.machine import SKIP_VSC_CHECK
from .collect import REMEDY_RECORD, REMEDY_RESTORE, facts_here
from .configuration import NEVER, UNCHECKED_REMEDY, Configuration, ConfigurationError
from .errors import PreflightError
from .examine import examined
from .findings import Finding, Report
from .guest.domain import Guest, read_guest
from .guest.mend import Mend, add_override, only_ours_changed
from .guest.metadata import find_ours, read_policy, set_report
from .guest.xml import parse_domain, to_bytes
from .host.networks import hands_out_devices
from .policy import Decision, decide
from .probe import is_probe, reply, trial_wish
from .render import Json, headline, refusal, summary, to_dict
from .supervise import Outcome
from .verdicts import ALLOW, ANNOTATE, BLOCK, CHOICES, MEND

if TYPE_CHECKING:
    from .saved import Restored

TOKEN = "token"


class Gate(NamedTuple):
    """One call of the hook. ``end`` is on the clock of ``time.monotonic()``.

    ``libvirt`` is the process that called it, ``trouble`` what is wrong with the configuration.
    """

    guest: str
    settings: Configuration
    end: float
    trouble: ConfigurationError | None = None
    libvirt: int = 0

    def judge(self, operation: str, xml: bytes) -> Outcome:
        """The outcome of ``migrate``, ``restore`` or ``prepare`` ``begin`` for ``xml``."""
        if operation == "prepare":
            return self._prepare(xml)
        root = parse_domain(xml)
        guest = read_guest(root, hands_out_devices)
        if not guest.devices and not guest.unresolved:
            return Outcome(0)
        if operation == "migrate" and is_probe(guest):
            return self._probe(guest)
        saved = self._saved(guest, root) if operation == "restore" else None
        report, decision = self._decide(guest, saved)
        told = to_dict(report, decision)
        grave = told["verdict"] not in ("pass", "tolerated")
        self._log(f"{operation} {summary(told)}", grave)
        if decision.action == BLOCK:
            return self._block(operation, xml, told)
        return self._pass(xml, told, decision)

    def _log(self, line: str, grave: bool) -> None:
        """Log; not waited for where no time is left, because the outcome must get out in time."""
        patience = min(journal.PATIENCE, self.end - time.monotonic())
        journal.write(self.settings.log, line, grave=grave, patience=patience)

    def _saved(self, guest: Guest, root: etree._Element) -> Restored:
        """What the image that is restored holds; better than the record, where it can be read."""
        from .saved import restored

        # Half of the time is left for what is known without the image.
        until = time.monotonic() + (self.end - time.monotonic()) / 2
        return restored(guest, root, self.libvirt, until)

    def _decide(
        self, guest: Guest, saved: Restored | None = None, wish: str = ""
    ) -> tuple[Report, Decision]:
        """The report and the decision; where there can be none, the on-error policy's."""
        try:
            if self.trouble is not None:
                raise self.trouble
            states = saved.states if saved else None
            remedy = REMEDY_RECORD if saved is None else REMEDY_RESTORE
            facts = facts_here(guest, self.settings, self.end, states, remedy=remedy)
            if saved is not None:
                facts = facts._replace(remarks=(*facts.remarks, *saved.findings))
            report = examined(facts, wish or self.settings.trial, self.end)
            return decided(report, guest, self.settings)
        except PreflightError as error:
            reason = str(error)
        except Exception as error:
            reason = _internal(error)
        text = f"the check could not be made: {reason}"
        finding = Finding("not-checked", text, UNCHECKED_REMEDY)
        report = Report(guest.name, guest.uuid, guest.machine, guest.emulator, (finding,), ())
        action = BLOCK if self.settings.on_error == BLOCK else ANNOTATE
        return report, Decision(action, (), f"on-error = {self.settings.on_error}")

    def _block(self, operation: str, xml: bytes, told: Json) -> Outcome:
        message = "\n".join(refusal(told, "migration" if operation == "migrate" else "restore"))
        if operation == "migrate":
            return Outcome(1, err=f"{message}\n".encode())
        token = os.urandom(16).hex()
        annotated = self._annotated(xml, told, (), token)
        try:
            refusals.leave(self.settings.runtime, self.guest, token, message)
        except OSError as error:
            self._log(
                f"restore of guest {self.guest!a} cannot be refused: in {self.settings.runtime}:"
                f" {error.strerror}; {headline(told)}",
                grave=True,
            )
            return Outcome(0)
        return Outcome(0, annotated)

    def _pass(self, xml: bytes, told: Json, decision: Decision) -> Outcome:
        mends = tuple(Mend(alias, SKIP_VSC_CHECK, True) for alias in decision.mend)
        silent = decision.action == ALLOW or self.settings.annotate == NEVER
        if silent and decision.action != MEND:
            return Outcome(0)
        return Outcome(0, self._annotated(xml, told, mends, ""))

    def _annotated(self, xml: bytes, told: Json, mends: tuple[Mend, ...], token: str) -> bytes:
        """``xml`` with the report, the mends and the token; proved to differ in nothing else."""
        root = parse_domain(xml)
        for mend in mends:
            add_override(root, mend)
        if self.settings.annotate != NEVER or token:
            set_report(root, annotation(told, token))
        changed = to_bytes(root)
        if not only_ours_changed(parse_domain(xml), parse_domain(changed), mends):
            raise RuntimeError("the changed XML differs in more than was meant")
        return changed

    def _prepare(self, xml: bytes) -> Outcome:
        waiting = refusals.take(self.settings.runtime, self.guest)
        if waiting is None:
            return Outcome(0)
        token, message = waiting
        report = _report_element(parse_domain(xml))
        if report is None or report.get(TOKEN) != token:
            return Outcome(0)
        return Outcome(1, err=f"{message}\n".encode())

    def _probe(self, guest: Guest) -> Outcome:
        report, decision = self._decide(guest, wish=trial_wish(guest))
        return Outcome(1, err=reply(guest, to_dict(report, decision)))


def decided(report: Report, guest: Guest, settings: Configuration) -> tuple[Report, Decision]:
    """The decision by the host's policy and the guest's, and the report, which tells its typos.

    A wish of the guest that does not exist is no reason to leave the guest unchecked.
    """
    wishes = read_policy(guest.metadata) if settings.guest_override else {}
    usable = {v: a for v, a in wishes.items() if a in CHOICES.get(v, ())}
    unusable = [f"{v[:40]}={a[:40]!a}" for v, a in wishes.items() if v not in usable]
    if unusable:
        known = "; ".join(f"{verdict}: {', '.join(c)}" for verdict, c in CHOICES.items())
        more = f" (and {len(unusable) - 1} more)" if len(unusable) > 1 else ""
        finding = Finding(
            "guest-policy-unusable",
            f"<policy {unusable[0]}>{more} in the guest's metadata is not to be had and does not"
            " count",
            f"correct it; known are {known}",
        )
        report = report._replace(findings=(*report.findings, finding))
    policy = {**settings.policy, **usable}
    return report, decide(report, policy, settings.vsc_tolerant)


def _internal(error: Exception) -> str:
    """Type and place of an unexpected error; its text could hold something from the XML."""
    frame, last = error.__traceback__, None
    while frame is not None:
        last, frame = frame, frame.tb_next
    place = ""
    if last is not None:
        file = os.path.basename(last.tb_frame.f_code.co_filename)
        place = f" in {file}, line {last.tb_lineno}"
    return f"internal error ({type(error).__name__}{place}); please report it"


def _report_element(root: etree._Element) -> etree._Element | None:
    ours = find_ours(root)
    children = ours if ours is not None else ()
    return next((c for c in children if etree.QName(c).localname == "report"), None)


def annotation(told: Json, token: str) -> etree._Element:
    """The ``<report>`` element of our metadata."""
    element = etree.Element(
        "report",
        schema=str(told["schema"]),
        version=__version__,
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        host=os.uname().nodename,
        verdict=told["verdict"],
        action=told["action"],
    )
    if token:
        element.set(TOKEN, token)
    _add_findings(element, told["findings"])
    for device in told["devices"]:
        child = etree.SubElement(element, "device", key=device["key"], verdict=device["verdict"])
        for name in ("alias", "host"):
            if device[name]:
                child.set(name, device[name])
        for side in ("source", "destination"):
            if device[side]:
                child.set(side, device[side]["evidence"])
        _add_findings(child, device["findings"])
    return element


def _add_findings(element: etree._Element, findings: list[Json]) -> None:
    for finding in findings:
        child = etree.SubElement(
            element, "finding", code=finding["code"], verdict=finding["verdict"]
        )
        child.text = "".join(c if c.isprintable() else "?" for c in finding["text"])

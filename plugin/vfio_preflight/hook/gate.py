"""The hook's work on XML that has to be parsed: judge the guest; block, annotate or mend."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from lxml import etree

from ..configuration import UNCHECKED_REMEDY, Configuration, ConfigurationError
from ..errors import PreflightError
from ..gather.here import REMEDY_RECORD, REMEDY_RESTORE, facts_here
from ..gather.trials import trials
from ..guest.domain import Guest, read_guest
from ..guest.mend import Mend
from ..guest.metadata import Probe, find_ours, read_policy, read_probe
from ..guest.xml import GuestError, LimitError, parse_domain
from ..host.networks import hands_out_devices
from ..judge import codes
from ..judge.checks.machine import SKIP_VSC_CHECK
from ..judge.facts import Facts
from ..judge.findings import Finding, Report
from ..judge.pipeline import examine
from ..judge.policy import Decision, decide, with_guest_policy, with_mended_ahead
from ..judge.verdicts import ALLOW, ALWAYS, ANNOTATE, BLOCK, NEVER, WHEN_UNSURE
from ..osutil.light import TYPE_CHECKING, NamedTuple
from ..pci.state import ConfigState
from ..report import events
from ..report.schema import ReportDict, as_dict
from ..report.text import headline, refusal, summary
from . import attempt, journal
from .annotation import annotated, token_of
from .supervise import Outcome
from .telling import told, with_event

if TYPE_CHECKING:
    from ..gather.saved import Restored

REMEDY_SMALLER = (
    "make its XML smaller (metadata, host devices), or let unknown pass: [policy] unknown"
)
NOT_READ = "not read"


class Gate(NamedTuple):
    """One call of the hook. ``end`` is on the clock of ``time.monotonic()``.

    ``libvirt`` is the process that called it, ``config_error`` what is wrong with the
    configuration.
    """

    guest: str
    settings: Configuration
    end: float
    config_error: ConfigurationError | None = None
    libvirt: int = 0

    def judge(self, operation: str, xml: bytes) -> Outcome:
        """The outcome of ``migrate``, ``restore`` or ``prepare`` ``begin`` for ``xml``."""
        # prepare has no XML to judge: it only delivers a refusal that restore left.
        if operation == "prepare":
            return self._prepare(xml)
        root = None
        try:
            root = parse_domain(xml)
            guest = read_guest(root, hands_out_devices)
        except LimitError as error:
            return self._too_large(operation, xml, root, str(error))
        except GuestError as error:
            if root is not None:
                raise
            return self._garbled(operation, xml, error)
        probe = read_probe(guest.name, guest.metadata)
        # Only at migrate: a dry run is an offline migration, which calls nothing else. It is told,
        # too, that there is nothing to judge.
        if operation == "migrate" and probe is not None:
            return self._probe(guest, probe, root)
        # No output leaves the XML unchanged; any output would taint the domain.
        if not guest.devices and not guest.unresolved:
            return Outcome(0)
        saved = self._saved(guest, root) if operation == "restore" else None
        found, decision = self.decide(guest, lambda: self._examine(guest, saved))
        report = as_dict(found, decision)
        token = self._token(operation, decision)
        self._await_started(operation, guest, found, decision, token)
        if decision.action == BLOCK:
            return told(self._block(operation, xml, report), operation, report)
        leave = self._expect(operation, root, guest, found, decision, token)
        outcome = self._pass(xml, report, decision, token)._replace(after=leave)
        return told(outcome, operation, report)

    def _too_large(
        self, operation: str, xml: bytes, root: etree._Element | None, why: str
    ) -> Outcome:
        """The outcome for a guest whose devices are not read."""
        found, decision = self.too_large(root, why)
        report = as_dict(found, decision)
        attempt.drop(self.settings.runtime, self.guest)
        try:
            if decision.action == BLOCK:
                return told(self._block(operation, xml, report), operation, report)
            return told(self._pass(xml, report, decision), operation, report)
        # What cannot be parsed cannot be annotated, nor can a restore of it be refused.
        except LimitError:
            return told(Outcome(0), operation, as_dict(found, Decision(ALLOW)))

    def too_large(self, root: etree._Element | None, why: str) -> tuple[Report, Decision]:
        """What the policy of unknown says of a guest whose XML is not read, or not all of it."""
        metadata = None if root is None else find_ours(root)
        guest = Guest(
            self.guest, "", NOT_READ, "", "", NOT_READ, (), (), express=False, metadata=metadata
        )
        finding = Finding(codes.GUEST_TOO_LARGE, f"it cannot be judged: {why}", REMEDY_SMALLER)
        bare = Report(guest.name, guest.uuid, guest.machine, guest.emulator, (finding,), ())
        return self.decide(guest, lambda: decided(bare, guest, self.settings))

    def _garbled(self, operation: str, xml: bytes, error: GuestError) -> Outcome:
        """The outcome for what is no domain's XML, which a hook before this one can have printed.

        Raises GuestError where none did: libvirt itself writes no such thing.
        """
        from . import chain

        hooks = chain.earlier()
        if not hooks:
            raise error
        text = chain.printed(xml)
        if not text:
            raise GuestError(f"{error}{chain.suspicion(hooks)}") from error
        what = f"guest {self.guest[:200]!a}: {chain.told(hooks, text)}; libvirt refuses it"
        log = f"{operation} {what}"
        # Not by on-error: libvirt refuses it in any case, and does not say why.
        if operation == "migrate":
            lines = chain.refusal(hooks, text)
            err = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
            outcome = Outcome(1, err=err, log=log, warning=True)
        else:
            outcome = Outcome(0, log=log, warning=True)
        action = BLOCK if outcome.status else ALLOW
        return with_event(outcome, events.not_checked(operation, self.guest, action, what))

    def _token(self, operation: str, decision: Decision) -> str:
        """What marks the XML of this migration; empty where no report is put into it."""
        marked = decision.action != ALLOW and self.settings.annotate != NEVER
        return os.urandom(16).hex() if operation == "migrate" and marked else ""

    def _await_started(
        self, operation: str, guest: Guest, report: Report, decision: Decision, token: str
    ) -> None:
        """Have a guest that may come judged again at ``started begin``, or see to it that not."""
        runtime, wanted = self.settings.runtime, self.settings.second_gate
        # Without a trial, for which there is no time, the model would repeat what QEMU refuted.
        unwanted = wanted == NEVER or any(device.is_decided_by_trial for device in report.devices)
        if wanted == WHEN_UNSURE and not guest.unresolved and report.devices:
            unwanted = unwanted or all(device.is_certain for device in report.devices)
        if operation != "migrate" or decision.action == BLOCK or unwanted:
            attempt.drop(runtime, self.guest)
        elif not attempt.leave(runtime, self.guest, guest.uuid, token):
            self.log(f"guest {self.guest!a} cannot be judged again: {runtime} takes no file", True)

    def log(self, line: str, warning: bool) -> None:
        """Log what is not the outcome (:func:`told`), waiting no longer than there is time."""
        patience = min(journal.PATIENCE, self.end - time.monotonic())
        journal.write(self.settings.log, line, warning=warning, patience=patience)

    def _saved(self, guest: Guest, root: etree._Element) -> Restored:
        """What the image that is restored holds; better than the record, where it can be read."""
        from ..gather.saved import restored

        # Half of the time is left for what is known without the image.
        until = time.monotonic() + (self.end - time.monotonic()) / 2
        return restored(guest, root, self.libvirt, until)

    def decide(
        self, guest: Guest, examined: Callable[[], tuple[Report, Decision]]
    ) -> tuple[Report, Decision]:
        """What ``examined`` finds; the on-error policy's decision where it cannot be called."""
        try:
            # A broken configuration must not be replaced by defaults silently: on-error decides.
            if self.config_error is not None:
                raise self.config_error
            return examined()
        except PreflightError as error:
            reason = str(error)
        # Any exception: a bug here must not decide about a guest in another way than on-error does.
        except Exception as error:
            reason = _internal(error)
        text = f"the check could not be made: {reason}"
        finding = Finding(codes.NOT_CHECKED, text, UNCHECKED_REMEDY)
        head = (guest.name, guest.uuid, guest.machine, guest.emulator)
        report = Report(*head, (finding,), (), guest.unjudged)
        # Never MEND: nothing is known about the devices.
        action = BLOCK if self.settings.on_error == BLOCK else ANNOTATE
        return report, Decision(action, (), f"on-error = {self.settings.on_error}")

    def _examine(self, guest: Guest, saved: Restored | None) -> tuple[Report, Decision]:
        report, _ = self._examined(guest, saved)
        return decided(report, guest, self.settings)

    def _examined(
        self, guest: Guest, saved: Restored | None, trial_mode: str = "", bandwidth: int = 0
    ) -> tuple[Report, Facts]:
        settings = self.settings
        facts = facts_here(
            guest,
            settings,
            self.end,
            saved.states if saved else None,
            remedy=REMEDY_RESTORE if saved else REMEDY_RECORD,
            image_problems=saved.problems if saved else (),
        )
        # Before the trial, which can take until the deadline.
        remember(facts, settings.catalogue)
        facts = facts._replace(bandwidth=bandwidth, saved=saved is not None)
        mode = trial_mode or settings.trial
        return examine(facts, mode, trials(guest.emulator, self.end)), facts

    def _block(self, operation: str, xml: bytes, report: ReportDict) -> Outcome:
        message = "\n".join(refusal(report, "migration" if operation == "migrate" else "restore"))
        # Failing "migrate begin" costs nothing: the guest still runs on the source.
        if operation == "migrate":
            return Outcome(1, err=f"{message}\n".encode())
        from . import refusals

        token = os.urandom(16).hex()
        # The token is in this attempt's XML only; a later cold start has the persistent XML.
        changed = annotated(xml, report, token=token)
        try:
            refusals.leave(self.settings.runtime, self.guest, token, message)
        except OSError as error:
            # Exit 0: a failing "restore begin" makes libvirt 11.3 delete a managed save.
            line = f"restore of guest {self.guest!a} let pass, as it cannot be refused: in"
            where = f"{self.settings.runtime}: {error.strerror}"
            return Outcome(0, log=f"{line} {where}; {headline(report)}", warning=True)
        log = f"restore {summary(report)}; prepare begin is to refuse it"
        return Outcome(0, changed, log=log, warning=True)

    def _pass(self, xml: bytes, report: ReportDict, decision: Decision, token: str = "") -> Outcome:
        silent = decision.action == ALLOW or self.settings.annotate == NEVER
        # A mend changes the XML even where annotations are switched off.
        if silent and not decision.mend:
            return Outcome(0)
        mends = tuple(Mend(alias, SKIP_VSC_CHECK, True) for alias in decision.mend)
        shown = None if self.settings.annotate == NEVER else report
        return Outcome(0, annotated(xml, shown, mends, token))

    def _expect(
        self,
        operation: str,
        root: etree._Element,
        guest: Guest,
        report: Report,
        decision: Decision,
        token: str,
    ) -> Callable[[], None] | None:
        """What leaves the prediction of a guest that comes in, in the attempt of this ``token``.

        Whatever goes wrong with that: the guest passes, and nothing is learned from it. It takes
        milliseconds that libvirt need not wait for: it is read when QEMU has failed.
        """
        from . import expected

        # What an earlier attempt left is not of a restore, nor of a check that was not made.
        expected.drop(self.settings.runtime, self.guest)
        if operation != "migrate" or not report.devices:
            return None
        from ..host import guestlog

        # An entry of the history needs one in any case.
        named = token or os.urandom(16).hex()
        # Before the answer, behind which QEMU is started and writes.
        mark = guestlog.mark(guest.name)

        def leave() -> None:
            from .prediction import prediction

            try:
                value = prediction(guest, root, report, decision, named, bool(token), mark)
                expected.leave(self.settings.runtime, self.guest, value)
            except Exception as error:
                self.log(f"nothing will be learned of {self.guest!a}: {_internal(error)}", True)

        return leave

    def _prepare(self, xml: bytes) -> Outcome:
        from . import refusals

        # Another attempt, such as a cold start after "managedsave-remove", is not refused.
        message = refusals.take(self.settings.runtime, self.guest, token_of(xml))
        if message is None:
            return Outcome(0)
        log = f"prepare guest {self.guest!a}: restore blocked, as restore begin found"
        outcome = Outcome(1, err=f"{message}\n".encode(), log=log, warning=True)
        return with_event(outcome, events.refusal(self.guest))

    def _probe(self, guest: Guest, probe: Probe, root: etree._Element) -> Outcome:
        from .probe import Readiness, reply

        ready = Readiness(root)
        mode = ALWAYS if probe.trial == ALWAYS else ""

        def examined() -> tuple[Report, Decision]:
            report = ready.noted(*self._examined(guest, None, mode, probe.bandwidth))
            return decided(report, guest, self.settings)

        report, would = ready.added(*self.decide(guest, examined))
        # Exit 1: libvirt must not define the placeholder on the destination.
        return Outcome(1, err=reply(probe.part, as_dict(report, would)))


def remember(facts: Facts, catalogue: str) -> None:
    """What was read from the devices themselves goes into the catalogue."""
    seen = [
        (known.device.host, known.destination)
        for known in facts.devices
        if isinstance(known.destination, ConfigState) and known.destination.evidence == "vfio"
    ]
    if seen:
        from ..host.sightings import remember_all
        from ..qemu.model.equivalence import equivalent_to_qemu

        remember_all(seen, catalogue, equivalent_to_qemu)


def decided(report: Report, guest: Guest, settings: Configuration) -> tuple[Report, Decision]:
    """The decision by both policies, and the report with what is invalid in the guest's."""
    # The hook is silent about a guest without VFIO PCI devices, whatever the policies say.
    if report.is_of_nothing:
        return report, Decision(ALLOW)
    requested = read_policy(guest.metadata)
    report, policy = with_guest_policy(report, settings.policy, requested, settings.guest_override)
    decision = decide(report, policy, settings.vsc_tolerant)
    return with_mended_ahead(report, decision), decision


def _internal(error: Exception) -> str:
    # The text of an exception can contain a VNC password from the XML.
    """Type and place of an unexpected error; its text could hold something from the XML."""
    frame, last = error.__traceback__, None
    while frame is not None:
        last, frame = frame, frame.tb_next
    place = ""
    if last is not None:
        file = os.path.basename(last.tb_frame.f_code.co_filename)
        place = f" in {file}, line {last.tb_lineno}"
    return f"internal error ({type(error).__name__}{place}); please report it"

"""What a judgement consists of: findings, what they predict of QEMU, and the report that holds
them."""

from __future__ import annotations

from ..guest.domain import GuestDevice
from ..guest.unjudged import Unjudged
from ..osutil.light import TYPE_CHECKING, NamedTuple
from ..pci.state import ConfigState
from ..qemu.model.values import ABORT, CRASH, ERROR, HANG
from ..qemu.model.vfio_pci import Mismatch
from . import codes
from .codes import Code
from .verdicts import worst

if TYPE_CHECKING:
    from ..qemu.trial.endings import Result

# Outcomes of a trial (``qemu.trial.endings``), and whose device it is that QEMU does not realise.
PASS, FAIL = "pass", "fail"
DESTINATION, SOURCE = "destination", "source"
# A device that QEMU does not realise, for whatever reason.
NOT_REALISED = (ERROR, ABORT, CRASH, HANG)


# Evidence of what the source's QEMU itself sends or read.
CERTAIN = ("stream", "vfio")


class Finding(NamedTuple):
    """One fact.

    ``text`` is a sentence for an operator, ``remedy`` what can be done about it. ``mismatches`` are
    the bytes concerned, by offset; QEMU names the first one of a device.
    """

    code: Code
    text: str
    remedy: str = ""
    mismatches: tuple[Mismatch, ...] = ()

    @property
    def verdict(self) -> str:
        """What this finding alone leads to."""
        return self.code.verdict


class Prediction(NamedTuple):
    """What the model predicts of QEMU on one device, in the words of a trial's result.

    ``outcomes`` are of ``qemu.trial.endings.OUTCOMES``. ``side`` is whose device is not realised,
    empty where both are. ``lines`` are the lines that a failed load may end with; with none, any
    line will do: what follows a configuration space of another size is not predicted.
    ``findings`` are those that say so, and that QEMU refutes by doing something else.
    """

    outcomes: tuple[str, ...] = (PASS,)
    side: str = ""
    lines: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    def matches(self, result: Result) -> bool:
        """Whether ``result`` is what was predicted."""
        # HANG, ABORT and so on: only the kind counts, the text of a crash is not predicted.
        if result.outcome not in self.outcomes:
            return False
        if result.outcome == FAIL:
            # Any line: behind a config space of another size QEMU reads bytes that are not
            # predicted.
            return not self.lines or result.line in self.lines
        return result.outcome == PASS or result.side == self.side

    def __str__(self) -> str:
        words = ("/".join(self.outcomes), self.side, *map(repr, self.lines))
        return " ".join(word for word in words if word)


class DeviceReport(NamedTuple):
    """The findings on one device, and the states they rest on.

    ``mendable``: every failing byte is Vendor Specific Information, and ``skip-vsc-check`` can be
    set on the device. ``quote`` is the line QEMU on the destination would fail with, or empty.
    ``prediction`` is None where the states were not compared, so that a trial has nothing to
    confirm. ``ahead`` is for a device of which a state is missing and on which ``skip-vsc-check``
    can be set: the ``vendor:device`` that it is known by, empty where it must not be set. ``sent``
    is what a trial is to load instead of what the destination's QEMU makes of ``source``, where the
    source's makes something else of it.
    """

    device: GuestDevice
    source: ConfigState | None
    destination: ConfigState | None
    findings: tuple[Finding, ...]
    mendable: bool = False
    quote: str = ""
    prediction: Prediction | None = None
    ahead: tuple[str, ...] = ()
    sent: ConfigState | None = None

    @property
    def is_certain(self) -> bool:
        """Whether both states are of the very bytes that QEMU sends or reads on either side."""
        known = self.source is not None and self.source.evidence in CERTAIN
        return known and self.destination is not None and self.destination.evidence == "vfio"

    @property
    def is_decided_by_trial(self) -> bool:
        """Whether the emulator accepts it where the model predicts a refusal, or cannot decide."""
        found = {finding.code for finding in self.findings}
        is_open = self.prediction is not None and len(self.prediction.outcomes) > 1
        return codes.TRIAL_ACCEPTS in found or (is_open and codes.TRIAL_AGREES in found)

    @property
    def verdict(self) -> str:
        """The worst of its findings."""
        return worst(finding.verdict for finding in self.findings)


class Report(NamedTuple):
    """Everything found about a guest's move to a destination.

    ``emulator`` is a description for people, e.g. ``QEMU 10.0.2 (/usr/bin/qemu-system-x86_64)``.
    ``unjudged`` are the guest's devices that nothing is said of.
    """

    guest: str
    uuid: str
    machine: str
    emulator: str
    findings: tuple[Finding, ...]
    devices: tuple[DeviceReport, ...]
    unjudged: tuple[Unjudged, ...] = ()

    @property
    def is_of_nothing(self) -> bool:
        """Whether there was nothing to judge: the hook says nothing of such a guest."""
        return any(finding.code is codes.NOTHING_JUDGED for finding in self.findings)

    @property
    def verdict(self) -> str:
        """The worst of the guest's own findings and of its devices'."""
        own = [finding.verdict for finding in self.findings]
        return worst([*own, *(device.verdict for device in self.devices)])

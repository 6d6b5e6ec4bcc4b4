"""What an outcome is told with: the log's line, and the event for the journal and the audit log."""

from __future__ import annotations

import os

from ..judge.verdicts import ALLOW, BLOCK
from ..osutil.light import TYPE_CHECKING
from ..report import events
from ..report.schema import ReportDict
from ..report.text import summary
from .supervise import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def told(outcome: Outcome, operation: str, report: ReportDict) -> Outcome:
    """``outcome`` with its event, and with its line for the log unless it has one of its own."""
    # A restore that cannot be refused passes, whatever was decided.
    passes = report["action"] == BLOCK and not (outcome.status or outcome.out)
    told = with_event(outcome, events.decision(operation, report, ALLOW if passes else ""))
    if told.log:
        return told
    warning = report["verdict"] not in ("pass", "tolerated")
    return told._replace(log=f"{operation} {summary(report)}", warning=warning)


def with_event(outcome: Outcome, event: Mapping[str, Any]) -> Outcome:
    """``outcome``, which is about ``event``."""
    return outcome._replace(event=events.packed(event, os.uname().nodename))

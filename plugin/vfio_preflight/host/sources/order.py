"""The sources of evidence, best first, and what a device presents by the first that knows."""

from __future__ import annotations

from importlib import import_module

from ...pci.state import ConfigState
from ..sysfs import HostError
from . import file, sysfs
from .request import FAILED, PASSED_OVER, Answer, Request, Source


def _late(name: str) -> Source:
    """A source that is imported on first use: most devices need none of these."""

    def read(request: Request) -> Answer:
        answer: Answer = import_module(f"{__package__}.{name}").read(request)
        return answer

    return read


# A new source is a module with a read() and its place here.
# A file first, as the operator put it there; a device that may be opened before its sysfs view.
SOURCES: tuple[Source, ...] = (
    file.read,
    _late("vfio"),
    sysfs.read,
    _late("catalogue"),
    _late("inferred"),
)
# What sysfs and the catalogue say, beside a better source.
SEEN_OTHERWISE: tuple[Source, ...] = (sysfs.read, _late("catalogue"))


def read(request: Request, sources: tuple[Source, ...] | None = None) -> Answer:
    """The first state there is. Raises PreflightError; ``HostError`` with all reasons for none."""
    reasons: list[str] = []
    for source in sources or SOURCES:
        try:
            answer = source(request)
        # What a source has is wrong, not missing: a weaker source must not hide that.
        except HostError as error:
            raise HostError("; ".join([*reasons, str(error)])) from error
        if answer.state is not None:
            return _with_reasons(answer.state, answer.offers, reasons)
        if answer.reason:
            # Kept for the error: each source says why it has nothing, which is what an operator can
            # act on.
            reasons.append(answer.reason)
    raise HostError("; ".join(reasons))


def _with_reasons(state: ConfigState, offers: str, reasons: list[str]) -> Answer:
    """In the origin: a failure to open a device that the operator listed, a file not taken."""
    told = [reason for reason in reasons if reason.startswith((FAILED, PASSED_OVER))]
    origin = "; ".join([state.origin, *told])
    return Answer(state._replace(origin=origin), offers=offers)

"""The sources of evidence, best first, and what a device presents by the first that knows."""

from __future__ import annotations

from importlib import import_module

from ...pci.state import ConfigState
from ..sysfs import HostError
from . import file, sysfs
from .request import FAILED, Answer, Request, Source


def _late(name: str) -> Source:
    """A source that is imported when it is asked: most devices need none of these."""

    def read(request: Request) -> Answer:
        answer: Answer = import_module(f"{__package__}.{name}").read(request)
        return answer

    return read


# A new source is a module with a read() and its place here.
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
        except HostError as error:
            raise HostError("; ".join([*reasons, str(error)])) from error
        if answer.state is not None:
            return _with_failure(answer.state, answer.offers, reasons)
        if answer.reason:
            reasons.append(answer.reason)
    raise HostError("; ".join(reasons))


def _with_failure(state: ConfigState, offers: str, reasons: list[str]) -> Answer:
    """A device that was to be opened and could not be is worth a word in the origin."""
    failures = [reason for reason in reasons if reason.startswith(FAILED)]
    origin = "; ".join([state.origin, *failures])
    return Answer(state._replace(origin=origin), offers=offers)

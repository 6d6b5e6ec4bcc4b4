"""The sources of evidence, best first, and what a device presents by the first that knows."""

from __future__ import annotations

from ...pci.state import ConfigState
from ..sysfs import HostError
from . import file, sysfs, vfio
from .request import Answer, Request, Source


def _catalogue(request: Request) -> Answer:
    from .catalogue import read  # imported late: of most devices sysfs knows

    return read(request)


def _inferred(request: Request) -> Answer:
    from .inferred import read

    return read(request)


# A new source is a module with a read() and its place here.
SOURCES: tuple[Source, ...] = (file.read, vfio.read, sysfs.read, _catalogue, _inferred)
# What sysfs and the catalogue say, beside a better source.
SEEN_OTHERWISE: tuple[Source, ...] = (sysfs.read, _catalogue)


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
    failures = [reason for reason in reasons if reason.startswith(vfio.FAILED)]
    origin = "; ".join([state.origin, *failures])
    return Answer(state._replace(origin=origin), offers=offers)

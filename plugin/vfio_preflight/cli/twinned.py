"""``check --to`` with the guest's twin: saved here once, loaded at each destination.

Over the ssh by which libvirt gets there, by the ``vfio-preflight`` there; or here, where the
destination's libvirt is this host's. Where neither is to be had, nothing is said, unless the twin
was asked for.
"""

from __future__ import annotations

import base64
import os
import time

from ..configuration import load
from ..errors import PreflightError
from ..judge.checks.twin import check_twin, told_more
from ..osutil.light import TYPE_CHECKING, TypedDict
from ..qemu.twin.told import NOT_RUN, Told
from ..report.schema import ReportDict, with_findings
from .connection import Connection, LibvirtError
from .remote import twin_of
from .sshuri import Ssh
from .twin import WITHIN, saved

if TYPE_CHECKING:
    from .workers import Answer


class Half(TypedDict):
    """The source's half, from one process to another: a file in base64, or what came of it."""

    file: str
    told: list[object]


def half(uri: str, guest: str) -> Half:
    """Save the twin of a guest of the libvirt at ``uri``."""
    made = saved(uri, guest)
    if isinstance(made, Told):
        return {"file": "", "told": list(made)}
    return {"file": base64.b64encode(made).decode(), "told": []}


def with_twin(
    report: ReportDict, source: Answer, destination: Connection, asked: bool
) -> ReportDict:
    """``report`` with what comes of the twin whose half ``source`` is."""
    told = _told(source, destination)
    findings = (*check_twin(told), *(told_more(told) if asked else ()))
    return with_findings(report, findings)


def _told(source: Answer, destination: Connection) -> Told:
    if source.error:
        return Told(NOT_RUN, source.error)
    value: Half = source.value
    if not value["file"]:
        outcome, line, device, build, *_ = map(str, value["told"])
        return Told(outcome, line, device, build)
    try:
        return _loaded(base64.b64decode(value["file"]), destination)
    except PreflightError as error:
        return Told(NOT_RUN, str(error))


def _loaded(data: bytes, destination: Connection) -> Told:
    ssh = Ssh.of(destination.getURI())
    if ssh is not None:
        return twin_of(ssh, data)
    if destination.getHostname() != os.uname().nodename:
        raise LibvirtError(
            f"{destination.getURI()} is another host's libvirt, and not reached by ssh: there, load"
            " what 'vfio-preflight twin save' writes"
        )
    from ..gather.twins import load_here
    from ..qemu.twin.envelope import from_bytes

    return load_here(from_bytes(data, "the guest's twin"), load(), time.monotonic() + WITHIN)

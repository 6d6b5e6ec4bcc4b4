"""What ``migrate begin`` predicted, as plain data that the end of the attempt is held against.

Everything that a bug report needs is kept, as the devices may be others by then: the evidence and
digests of both states, and the case for ``python -m conformance``. Secrets are left out of a case,
and nothing else of the guest's XML is kept.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from lxml import etree

from ..errors import PreflightError
from ..guest.domain import Guest
from ..guest.metadata import Record, RecordError, read_record
from ..guest.topology import read_topology
from ..guest.traits import Traits
from ..host.guestlog import Mark
from ..host.history import SCHEMA
from ..host.traits import read_traits
from ..judge import codes
from ..judge.context import context_of
from ..judge.findings import DeviceReport, Report
from ..judge.policy import Decision
from ..judge.setting import setting_of
from ..osutil.digest import sha256
from ..osutil.light import TYPE_CHECKING
from ..osutil.text import printable
from ..pci.state import ConfigState
from ..qemu.trial.case import to_case

if TYPE_CHECKING:
    from typing import Any

# Devices that are learned from: with two config states each takes 20 KB at most, a file 1 MiB.
MAX_DEVICES = 48
# Characters of a text from the guest's record.
MAX_TEXT = 200


def prediction(
    guest: Guest,
    root: etree._Element,
    report: Report,
    decision: Decision,
    token: str,
    marked: bool,
    mark: Mark,
) -> dict[str, Any]:
    """What is expected of ``guest``, the domain ``root``, in the attempt of this ``token``.

    ``marked`` is whether the token stands in the XML of the attempt; ``mark`` is where the guest's
    log ended before it.
    """
    paths = _paths(guest, root)
    there = _traits_there(guest)
    return {
        "schema": SCHEMA,
        "token": token,
        "marked": marked,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "guest": guest.name,
        "uuid": guest.uuid,
        "machine": guest.machine,
        "emulator": report.emulator,
        "verdict": report.verdict,
        "action": decision.action,
        "log": list(mark),
        "devices": [
            {**_device(device, decision, paths, there), "case": _case(guest, device)}
            for device in report.devices[:MAX_DEVICES]
        ],
    }


def _device(
    report: DeviceReport,
    decision: Decision,
    paths: Mapping[str, str],
    there: Mapping[str, Traits],
) -> dict[str, Any]:
    device = report.device
    sides = {"source": report.source, "destination": report.destination}
    traits = {
        "source": _short(there.get(device.key, Traits()).facts()),
        "destination": _short(read_traits(device.host or "").facts()),
    }
    value = (f.text for f in report.findings if f.code is codes.SKIP_VSC_CHECK)
    return {
        "key": device.key,
        "alias": device.alias or "",
        "host": device.host or "",
        "path": paths.get(device.key, ""),
        "verdict": report.verdict,
        "codes": [str(finding.code) for finding in report.findings],
        "quote": report.quote,
        "predicted": str(report.prediction or ""),
        "property": next(value, ""),
        "mended": device.alias in decision.mend,
        "traits": traits,
        "states": {side: _state(state) for side, state in sides.items()},
    }


def _state(state: ConfigState | None) -> dict[str, Any] | None:
    if state is None:
        return None
    return {
        "evidence": state.evidence,
        "origin": printable(state.origin, MAX_TEXT),
        "size": len(state.config),
        "sha256": sha256(state.config),
    }


def _short(facts: Mapping[str, str]) -> dict[str, str]:
    return {name: printable(text, MAX_TEXT) for name, text in facts.items()}


def _case(guest: Guest, report: DeviceReport) -> dict[str, Any] | None:
    """Both config states and what surrounds the device, where both are known."""
    if report.source is None or report.destination is None:
        return None
    # The emulator decides neither placement nor properties, as far as a case has them.
    setting = setting_of(context_of(guest, report.device, None))
    return to_case(report.source, setting, report.destination, setting)


def _paths(guest: Guest, root: etree._Element) -> dict[str, str]:
    """What QEMU will call the devices when it refuses one, by their keys."""
    try:
        topology = read_topology(root)
    except PreflightError:
        return {}
    paths = {device.key: topology.path_of(device) for device in guest.devices}
    return {key: path for key, path in paths.items() if path is not None}


def _traits_there(guest: Guest) -> dict[str, Traits]:
    """The traits of the source's devices, by the guest's record."""
    try:
        record = read_record(guest.metadata) or Record({})
    except RecordError:
        return {}
    return {key: entry.traits for key, entry in record.entries.items()}

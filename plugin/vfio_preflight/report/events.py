"""What the hook and ``watch`` did, as plain data: for the audit log and for the journal.

An event holds names, verdicts, codes and reasons, as the log's line does: nothing else of a guest's
XML. Its keys are stable, and so are the fields' names (docs/LOGS.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..judge import codes
from ..judge.verdicts import BLOCK, UNKNOWN
from ..osutil.light import TYPE_CHECKING
from ..osutil.text import printable, printable_values

# For types alone: the schema needs lxml, and an installation that lacks it must be able to say so.
if TYPE_CHECKING:
    from typing import Any

    from ..host.history import Entry
    from .schema import DeviceDict, FindingDict, ReportDict

SCHEMA = 1
# A decision on a guest; a restore that was refused before, and is now; the end of a migration.
DECISION, REFUSAL, OUTCOME = "decision", "refusal", "outcome"
EVENTS = (DECISION, REFUSAL, OUTCOME)
# What an outcome says of the prediction (``agrees`` of host.history).
PREDICTIONS = {True: "right", False: "wrong", None: "none"}

# systemd.journal-fields(7): what is of one kind has one ID, made once, at random.
MESSAGE_IDS = {
    DECISION: "6f1d0c7e9a3b4d5f8b1e2c4a7d9063f1",
    REFUSAL: "b2a94e5d17c84f0e9d6c3f7a1e850b24",
    OUTCOME: "d83c5a10f6e24b7795ab41c2e09d7f68",
}
PREFIX = "VFIO_PREFLIGHT"
# Devices of a guest that are told of, and characters of a name that someone made up.
MAX_DEVICES = 48
MAX_TEXT = 200


def decision(operation: str, report: ReportDict, action: str = "") -> dict[str, Any]:
    """What was found of a guest and done about it: ``action`` where that is not the report's."""
    devices = report["devices"]
    return _event(
        DECISION,
        operation=operation,
        guest=report["guest"],
        uuid=report["uuid"],
        machine=report["machine"],
        emulator=report["emulator"],
        verdict=report["verdict"],
        action=action or report["action"] or "",
        note=report["note"],
        codes=_codes(report["findings"]),
        devices=[_device(device) for device in devices[:MAX_DEVICES]],
        more_devices=max(0, len(devices) - MAX_DEVICES),
        unjudged=[device["kind"] for device in report["unjudged"][:MAX_DEVICES]],
    )


def not_checked(operation: str, guest: str, action: str, reason: str) -> dict[str, Any]:
    """A guest that was not judged, and what was done about it for ``reason``."""
    found: list[str] = [codes.NOT_CHECKED]
    return _event(
        DECISION,
        operation=operation,
        guest=guest,
        verdict=UNKNOWN,
        action=action,
        note=reason,
        codes=found,
        devices=[],
    )


def refusal(guest: str) -> dict[str, Any]:
    """``prepare begin`` of a guest whose restore was refused before, and is blocked now."""
    return _event(REFUSAL, operation="prepare", guest=guest, action=BLOCK)


def outcome(entry: Entry, name: str) -> dict[str, Any]:
    """The end of a migration to this host, with the ``name`` of the history's entry."""
    value = entry.expected
    about = [device for device in entry.devices() if device["key"] == entry.device]
    return _event(
        OUTCOME,
        guest=value["guest"],
        uuid=value["uuid"],
        verdict=value["verdict"],
        action=value["action"],
        outcome=entry.outcome,
        prediction=PREDICTIONS[entry.agrees],
        device=about[0]["host"] or entry.device if about else "",
        line=entry.line,
        history=name,
    )


def _event(kind: str, **values: object) -> dict[str, Any]:
    return {"schema": SCHEMA, "event": kind, **{k: _short(v) for k, v in values.items()}}


def _short(value: object) -> object:
    return printable(value, MAX_TEXT) if isinstance(value, str) else printable_values(value)


def _device(device: DeviceDict) -> dict[str, Any]:
    texts = {
        "key": device["key"],
        "alias": device["alias"] or "",
        "host": device["host"] or "",
        "id": device["identity"] or "",
        "verdict": device["verdict"],
    }
    states = (("source", device["source"]), ("destination", device["destination"]))
    return {
        **{name: _short(text) for name, text in texts.items()},
        "codes": _codes(device["findings"]),
        # As ``evidence`` in docs and policy; none where the state is not known.
        **{side: state["evidence"] if state else "none" for side, state in states},
    }


def _codes(findings: list[FindingDict]) -> list[str]:
    return list(dict.fromkeys(finding["code"] for finding in findings))


def packed(event: Mapping[str, Any], host: str) -> str:
    """An event of ``host`` as it goes through a pipe: its :func:`fields`, NUL, JSON."""
    import json

    value = {**event, "host": printable(host, MAX_TEXT)}
    # Neither has a NUL: printable() replaces it, JSON escapes it.
    return f"{fields(event)}\0{json.dumps(value, separators=(',', ':'))}"


def fields(event: Mapping[str, Any]) -> str:
    """The journal's own fields of an event, a ``NAME=value`` a line; some occur several times.

    Source: systemd, "Native Journal Protocol".
    """
    pairs = [("MESSAGE_ID", MESSAGE_IDS[event["event"]]), (f"{PREFIX}_EVENT", event["event"])]
    # One field once for each value: the journal keeps no order among them.
    pairs += dict.fromkeys((f"{PREFIX}_{name}", value) for name, value in _pairs(event) if value)
    return "".join(f"{name}={printable(str(value))}\n" for name, value in pairs)


# Fields that are one value of an event.
_FIELDS = {
    "GUEST": "guest",
    "GUEST_UUID": "uuid",
    "OPERATION": "operation",
    "VERDICT": "verdict",
    "ACTION": "action",
    "OUTCOME": "outcome",
    "PREDICTION": "prediction",
    "HISTORY": "history",
    "DEVICE": "device",
}
# Fields that each device has a value of.
_DEVICE_FIELDS = {"SOURCE_EVIDENCE": "source", "DESTINATION_EVIDENCE": "destination"}


def _pairs(event: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for field, name in _FIELDS.items():
        yield field, event.get(name, "")
    for code in event.get("codes", ()):
        yield "CODE", code
    for device in event.get("devices", ()):
        yield "DEVICE", device["host"] or device["alias"] or device["key"]
        for code in device["codes"]:
            yield "CODE", code
        for field, name in _DEVICE_FIELDS.items():
            yield field, device[name]

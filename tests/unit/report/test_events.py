"""Events as plain data: what they hold, and what they never do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from unit.expectations import LINE, make_expected, make_expected_device
from unit.makers import HOST, KEY
from vfio_preflight.host.history import Entry
from vfio_preflight.report import events

DOCUMENT = (Path(__file__).parents[3] / "docs/LOGS.md").read_text()


def report(devices: int = 1) -> dict[str, Any]:
    device = {
        "key": KEY,
        "alias": None,
        "host": None,
        "identity": None,
        "verdict": "unknown",
        "source": None,
        "destination": {"evidence": "vfio", "origin": "x", "size": 256},
        "findings": [{"code": "source-unknown", "verdict": "unknown", "text": "secret"}] * 2,
    }
    return {
        "guest": "g" * 300,
        "uuid": "u",
        "machine": "q35",
        "emulator": "QEMU",
        "verdict": "unknown",
        "action": "annotate",
        "note": "",
        "findings": [{"code": "record-damaged", "verdict": "unknown", "text": "secret"}],
        "devices": [device] * devices,
        "unjudged": [{"kind": "usb"}],
    }


def test_decision_has_codes_and_no_text() -> None:
    event = events.decision("migrate", report())  # type: ignore[arg-type]
    assert "secret" not in json.dumps(event)
    assert event["codes"] == ["record-damaged"]
    (device,) = event["devices"]
    assert (device["codes"], device["source"]) == (["source-unknown"], "none")
    assert len(event["guest"]) == events.MAX_TEXT + len("...")


def test_many_devices_are_cut_and_counted() -> None:
    event = events.decision("migrate", report(devices=400))  # type: ignore[arg-type]
    assert (len(event["devices"]), event["more_devices"]) == (48, 352)
    assert len(events.packed(event, "h")) < 1 << 15
    # A datagram of the journal is bounded by the socket's buffer, 208 KiB.
    assert len(events.fields(event)) < 1 << 14


def test_action_may_be_another_than_was_decided() -> None:
    assert events.decision("restore", report(), "allow")["action"] == "allow"  # type: ignore[arg-type]


def test_outcome() -> None:
    expected = make_expected(make_expected_device("fail", LINE), verdict="fail", action="allow")
    entry = Entry(expected, "refused", True, KEY, LINE)
    event = events.outcome(entry, "a-name")
    assert (event["outcome"], event["prediction"], event["device"]) == ("refused", "right", HOST)
    shown = events.fields(event)
    assert "VFIO_PREFLIGHT_OUTCOME=refused\n" in shown
    assert "VFIO_PREFLIGHT_HISTORY=a-name\n" in shown


def test_packed_is_in_two_parts() -> None:
    fields, _, text = events.packed(events.refusal("g\0\n"), "h\0").partition("\0")
    assert json.loads(text)["guest"] == "g??" and "\0" not in text
    assert fields.splitlines()[0] == f"MESSAGE_ID={events.MESSAGE_IDS['refusal']}"


def test_message_ids_are_distinct_and_well_formed() -> None:
    ids = set(events.MESSAGE_IDS.values())
    assert len(ids) == len(events.EVENTS)
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)


def test_every_field_key_and_id_is_documented() -> None:
    made = [
        events.decision("migrate", report()),  # type: ignore[arg-type]
        events.refusal("g"),
        events.outcome(Entry(make_expected(), "completed", True), "n"),
    ]
    keys = {"time", "host", "seconds", "waited"}
    keys |= {key for event in made for key in event}
    keys |= {key for device in made[0]["devices"] for key in device}
    missing = [key for key in sorted(keys) if f"`{key}`" not in DOCUMENT]
    shown = "".join(events.fields(event) for event in made)
    names = set(re.findall(r"(?m)^([A-Z_]+)=", shown)) | {
        f"VFIO_PREFLIGHT_{name}_USEC" for name in ("DURATION", "WAITED")
    }
    missing += [name for name in sorted(names) if f"`{name}`" not in DOCUMENT]
    missing += [each for each in events.MESSAGE_IDS.values() if each not in DOCUMENT]
    assert missing == []

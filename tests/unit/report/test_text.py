from __future__ import annotations

import json
from typing import cast

import pytest

from lab.configs import make_config
from unit.makers import (
    PMC,
    VSC_BODY,
    differing,
    make_device,
    make_device_report,
    make_facts,
    make_guest,
    make_report,
    make_state,
)
from vfio_preflight.judge.codes import CODES
from vfio_preflight.judge.findings import Finding, Report
from vfio_preflight.judge.model import preflight
from vfio_preflight.judge.policy import Decision
from vfio_preflight.pci.state import UNKNOWN, Missing, State
from vfio_preflight.report.schema import DeviceDict, ReportDict, as_dict
from vfio_preflight.report.text import (
    EVIDENCE,
    details,
    guest_address,
    mismatch_lines,
    name,
    remedies,
    summary,
)

BLOCKED = Decision("block")
QUOTE = (
    "get_pci_config_device: Bad config data: i=0x63 read: 1 device: fe cmask: ff wmask: 0 w1cmask:0"
)


def rendered(report: Report, decision: Decision = BLOCKED) -> ReportDict:
    return as_dict(report, decision)


def judged(destination: State, machine: str = "pc-q35-9.0") -> ReportDict:
    guest = make_guest(machine=machine)
    return rendered(preflight(make_facts(None, destination, guest)))


def test_keys_are_stable() -> None:
    """Schema 1: who reads the JSON relies on these; a change raises the schema, an addition not."""
    report = judged(differing(VSC_BODY))
    assert report["schema"] == 1
    assert list(report) == [
        "schema", "version", "guest", "uuid", "machine", "emulator", "verdict", "action", "note",
        "findings", "devices", "unjudged",
    ]  # fmt: skip
    (device,) = report["devices"]
    assert list(device) == [
        "key", "kind", "host", "alias", "driver", "placement", "identity", "verdict", "mendable",
        "qemu", "source", "destination", "findings",
    ]  # fmt: skip
    assert device["source"] is not None and list(device["source"]) == ["evidence", "origin", "size"]
    finding = device["findings"][0]
    assert list(finding) == ["code", "verdict", "text", "remedy", "mismatches"]
    assert list(finding["mismatches"][0]) == [
        "offset", "where", "register", "source", "destination", "line",
    ]  # fmt: skip


def test_values() -> None:
    (device,) = judged(differing(VSC_BODY))["devices"]
    assert device["identity"] == "10de:1eb8"
    assert device["qemu"] == QUOTE
    assert device["source"] == {"evidence": "sysfs", "origin": "made up", "size": 256}
    assert device["findings"][0]["mismatches"] == [
        {
            "offset": 0x63,
            "where": "VSC at 0x60",
            "register": "Vendor Specific Information",
            "source": 0x01,
            "destination": 0xFE,
            "line": QUOTE,
        }
    ]


def test_states_that_are_missing() -> None:
    (device,) = judged(Missing(UNKNOWN, "gone"))["devices"]
    assert device["destination"] is None
    assert device["identity"] == "10de:1eb8"
    both = make_device_report("source-unknown")._replace(source=None, destination=None)
    assert rendered(make_report(both))["devices"][0]["identity"] is None


def test_is_json() -> None:
    report = judged(differing(PMC))
    assert json.loads(json.dumps(report)) == report


# --- details -------------------------------------------------------------------------------------


def test_details() -> None:
    report = judged(differing(VSC_BODY))
    lines = details(report)
    assert lines[0].startswith("  guest g1, machine type pc-q35-9.0, QEMU 10.0.2 (")
    assert lines[1] == (
        "  hostdev0 (0000:06:00.4, guest 0000:05:00.0): fail [source state: sysfs, made up;"
        " destination state: sysfs, made up]"
    )
    assert any(line.startswith("    vsc-body-differs: VSC at 0x60") for line in lines)
    assert any("skip-vsc-check is off (compat table" in line for line in lines)
    assert f"    QEMU would fail with: {QUOTE}" in lines
    assert any(line.startswith("  to do for hostdev0: use equal drivers") for line in lines)


def test_details_say_what_the_evidence_means() -> None:
    lines = [line for line in details(judged(make_state(evidence="file"))) if "evidence" in line]
    assert [line.split(":")[0] for line in lines] == ["  evidence sysfs", "  evidence file"]
    assert lines[1].endswith(EVIDENCE["file"])


def test_details_have_the_note() -> None:
    report = rendered(make_report(), Decision("block", (), "not mended: x"))
    assert details(report)[-1] == "  note: not mended: x"


def test_remedies_are_told_once() -> None:
    devices = [
        make_device_report("config-differs", device=make_device(key, alias=key))._replace(
            findings=(
                Finding(CODES["config-differs"], "x", "repair"),
                Finding(CODES["config-differs"], "y"),
            )
        )
        for key in ("hostdev0", "hostdev1")
    ]
    report = rendered(
        make_report(*devices, findings=(Finding(CODES["machine-missing"], "z", "move"),))
    )
    assert remedies(report) == {"move": "the guest", "repair": "hostdev0, hostdev1"}


@pytest.mark.parametrize(("count", "lines"), [(1, 0), (2, 2), (8, 8), (9, 9), (20, 9)])
def test_mismatches_are_listed_as_far_as_one_can_read(count: int, lines: int) -> None:
    config = make_config()
    changed = bytes(b ^ 0xFF if 0x63 <= i < 0x63 + count else b for i, b in enumerate(config))
    (device,) = judged(make_state(changed))["devices"]
    shown = mismatch_lines(device["findings"][0])
    assert len(shown) == lines
    if count > 1:
        assert shown[0].startswith("0x063 VSC at 0x60, Vendor Specific Information: source 01, ")
    if count > 8:
        assert shown[-1].startswith(f"... and {count - 8} more bytes")


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "hostdev0 (0000:06:00.4, guest 0000:05:00.0)"),
        ({"host": None}, "hostdev0 (guest 0000:05:00.0)"),
        ({"alias": None}, "0000:05:00.0 (0000:06:00.4, guest 0000:05:00.0)"),
        ({"key": "commandline:gpu", "alias": "gpu"}, "gpu (0000:06:00.4)"),
        ({"key": "hostdev:3", "alias": None, "host": None}, "hostdev:3"),
        (
            {"name": "hostdev2", "alias": "hostdev1"},
            "hostdev2 (hostdev1 at the destination, 0000:06:00.4, guest 0000:05:00.0)",
        ),
    ],
)
def test_name(changes: dict[str, object], expected: str) -> None:
    (device,) = judged(make_state())["devices"]
    assert name(cast(DeviceDict, {**device, **changes})) == expected


def test_guest_address() -> None:
    (device,) = judged(make_state())["devices"]
    assert guest_address(device) == "0000:05:00.0"
    assert guest_address({**device, "key": "commandline:gpu"}) == ""


def test_summary_for_the_log() -> None:
    report = judged(differing(VSC_BODY))
    assert summary(report) == (
        "guest 'g1': fail, blocked [hostdev0=vsc-body-differs]: hostdev0 (0000:06:00.4, guest"
        " 0000:05:00.0): VSC at 0x60, Vendor Specific Information, offset 0x63: source 01,"
        " destination fe"
    )
    mended = rendered(make_report(make_device_report("config-identical")), Decision("mend"))
    assert summary(mended) == "guest 'g1': pass, mended [hostdev0=config-identical]"
    remark = make_report(findings=(Finding(CODES["record-stray"], "x"),))
    assert summary(rendered(remark, Decision("allow"))) == "guest 'g1': pass, allow [record-stray]"
    error = make_report(findings=(Finding(CODES["not-checked"], "why" * 200),))
    line = summary(rendered(error, Decision("annotate")))
    assert line.startswith("guest 'g1': unknown, annotate [not-checked]: whywhy")
    assert line.endswith("why...") and len(line) < 400

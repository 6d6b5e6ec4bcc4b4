from __future__ import annotations

import re
from pathlib import Path

import vfio_preflight
from unit.makers import make_device_report, make_report
from vfio_preflight.judge import codes
from vfio_preflight.judge.codes import CODES, Code
from vfio_preflight.judge.findings import Finding
from vfio_preflight.judge.verdicts import VERDICTS

PACKAGE = Path(vfio_preflight.__file__).parent
CONSTANTS = {name: value for name, value in vars(codes).items() if isinstance(value, Code)}


def test_every_code_has_a_constant_of_its_name() -> None:
    assert {name: str(code) for name, code in CONSTANTS.items()} == {
        code.upper().replace("-", "_"): code for code in CODES
    }


TABLES = {"codes.py", "codes_drift.py", "codes_twin.py"}


def test_every_code_is_used() -> None:
    paths = (path for path in PACKAGE.rglob("*.py") if path.name not in TABLES)
    text = "".join(path.read_text() for path in paths)
    assert [name for name in CONSTANTS if not re.search(rf"\bcodes\.{name}\b", text)] == []


def test_no_code_is_written_out_elsewhere() -> None:
    """A string that happens to be a code: mypy does not see that a typo in it is one."""
    # Of the property with the finding's name, and of a kind of QEMU's messages.
    allowed = {"skip-vsc-check", "machine-missing"}
    written = {
        (path.name, code)
        for path in PACKAGE.rglob("*.py")
        if path.name not in TABLES
        for code in re.findall(r'["\']([a-z]+(?:-[a-z]+)+)["\']', path.read_text())
        if code in CODES and code not in allowed
    }
    assert written == set()


def test_codes_have_a_verdict_and_a_meaning() -> None:
    for name, code in CODES.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
        assert code.verdict in VERDICTS
        assert len(code.meaning) > 20 and not code.meaning.endswith("."), name


def test_only_a_hang_blocks_whatever_the_policy() -> None:
    assert [code for code in CODES.values() if code.blocks_always] == [codes.REALISE_HANG]


def test_a_finding_has_its_codes_verdict() -> None:
    assert Finding(codes.CONFIG_DIFFERS, "x").verdict == "fail"
    assert Finding(codes.MACHINE_ALIAS, "x").verdict == "pass"


def test_a_device_has_the_worst_of_its_findings() -> None:
    assert make_device_report().verdict == "pass"
    assert make_device_report("config-identical", "source-unknown").verdict == "unknown"
    assert make_device_report("config-differs", "source-unknown").verdict == "fail"


def test_a_report_has_the_worst_of_all() -> None:
    assert make_report().verdict == "pass"
    tolerated = make_device_report("vsc-body-tolerated")
    assert make_report(make_device_report("config-identical"), tolerated).verdict == "tolerated"
    missing = Finding(codes.MACHINE_MISSING, "x")
    assert make_report(tolerated, findings=(missing,)).verdict == "fail"

from __future__ import annotations

import re
from pathlib import Path

import vfio_preflight
from unit.makers import make_device_report, make_report
from vfio_preflight.findings import CODES, Finding
from vfio_preflight.verdicts import VERDICTS

PACKAGE = Path(vfio_preflight.__file__).parent
WORD = r'["\']([a-z]+(?:-[a-z]+)+)["\']'


def sources() -> dict[Path, str]:
    return {path: path.read_text() for path in PACKAGE.rglob("*.py")}


def test_every_code_is_used() -> None:
    text = "".join(text for path, text in sources().items() if path.name != "findings.py")
    assert [code for code in CODES if f'"{code}"' not in text] == []


def test_every_code_that_is_used_exists() -> None:
    used = {
        (path.name, code)
        for path, text in sources().items()
        for code in re.findall(rf"\b(?:Finding|Missing)\(\s*{WORD}", text)
    }
    assert used and {code for _, code in used} <= set(CODES)


def test_codes_have_a_verdict_and_a_meaning() -> None:
    for code, (verdict, meaning) in CODES.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
        assert verdict in VERDICTS
        assert len(meaning) > 20 and not meaning.endswith("."), code


def test_a_finding_has_its_codes_verdict() -> None:
    assert Finding("config-differs", "x").verdict == "fail"
    assert Finding("machine-alias", "x").verdict == "pass"


def test_a_device_has_the_worst_of_its_findings() -> None:
    assert make_device_report().verdict == "pass"
    assert make_device_report("config-identical", "source-unknown").verdict == "unknown"
    assert make_device_report("config-differs", "source-unknown").verdict == "fail"


def test_a_report_has_the_worst_of_all() -> None:
    assert make_report().verdict == "pass"
    tolerated = make_device_report("vsc-body-tolerated")
    assert make_report(make_device_report("config-identical"), tolerated).verdict == "tolerated"
    missing = Finding("machine-missing", "x")
    assert make_report(tolerated, findings=(missing,)).verdict == "fail"

"""``twin`` by hand, and the twin in ``check --to``; with real hosts: tests/system/test_twin.py."""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from unit.cli.command import Out, printed_json
from unit.cli.test_destinations import pretend
from unit.makers import make_facts
from unit.qemu.twin.test_twin_envelope import ENVELOPE
from vfio_preflight.cli import remote, twin, twinned
from vfio_preflight.cli.main import main
from vfio_preflight.cli.workers import Answer
from vfio_preflight.configuration import Configuration
from vfio_preflight.errors import PreflightError
from vfio_preflight.gather import twins
from vfio_preflight.judge.model import preflight
from vfio_preflight.qemu.twin.envelope import to_bytes
from vfio_preflight.qemu.twin.told import ACCEPTED, BLOCKED, NOT_RUN, REFUSED, UNMADE, Told
from vfio_preflight.report.schema import ReportDict, as_dict

TOLD = Told(ACCEPTED, "", "", "QEMU 1", "QEMU 2", ("tpm0 (tpm-crb): why",))
LINE = "Size mismatch: \033[1m"


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[Told]:
    """What loading comes to, to be set by a test."""
    answers = [TOLD]
    monkeypatch.setattr(twins, "load_here", lambda *_arguments: answers[0])
    monkeypatch.setattr(twin, "load", Configuration)
    monkeypatch.setattr(twinned, "load", Configuration)
    return answers


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "g.twin"
    path.write_bytes(to_bytes(ENVELOPE))
    return str(path)


@pytest.mark.parametrize(
    ("told", "status", "first"),
    [
        (TOLD, 0, "PASS      the destination's QEMU loads the guest's twin; QEMU 2, of what"),
        (
            TOLD._replace(outcome=REFUSED, line=LINE),
            1,
            "FAIL      the destination's QEMU refuses the",
        ),
        (
            TOLD._replace(outcome=UNMADE, line=LINE),
            3,
            "UNKNOWN   the destination's QEMU does not make",
        ),
        (
            Told(NOT_RUN, "no such file"),
            3,
            "UNKNOWN   the guest's twin was not tried: no such file",
        ),
    ],
)
def test_load(
    answered: list[Told], file: str, capsys: Out, told: Told, status: int, first: str
) -> None:
    answered[0] = told
    assert main(["twin", "load", file]) == status
    out = capsys.readouterr().out
    assert out.startswith(first)
    assert "\033" not in out
    assert ("to do" in out) is (told.outcome in (REFUSED, UNMADE))


def test_load_as_json(answered: list[Told], file: str, capsys: Out) -> None:
    assert main(["twin", "load", file, "--format", "json"]) == 0
    assert printed_json(capsys) == {
        "schema": 1,
        "outcome": "accepted",
        "line": "",
        "device": "",
        "source": "QEMU 1",
        "destination": "QEMU 2",
        "uncovered": ["tpm0 (tpm-crb): why"],
        "time": "",
    }


def test_load_from_standard_input(
    answered: list[Told], capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = SimpleNamespace(buffer=io.BytesIO(to_bytes(ENVELOPE)))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["twin", "load", "-"]) == 0
    assert capsys.readouterr().out.startswith("PASS")


def test_load_what_is_none(tmp_path: Path, capsys: Out) -> None:
    path = tmp_path / "x"
    path.write_text("<domain/>")
    assert main(["twin", "load", str(path)]) == 2
    assert "not a file of 'vfio-preflight twin save'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("told", "status", "said"),
    [
        (
            Told(BLOCKED, "blocked by nvme", source="QEMU 1"),
            1,
            'twin: "blocked by nvme"',
        ),
        (Told(NOT_RUN, "too slow"), 3, "not tried: too slow"),
    ],
)
def test_save_that_comes_to_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: Out, told: Told, status: int, said: str
) -> None:
    monkeypatch.setattr(twin, "saved", lambda *_arguments: told)
    assert main(["twin", "save", "g"]) == status
    captured = capsys.readouterr()
    assert (captured.out, said in captured.err) == ("", True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "g.xml", "--twin"],
        ["check", "--image", "x", "--to", "qemu:///system", "--twin"],
        ["check", "g", "--destination-facts", "x", "--twin"],
    ],
)
def test_twin_of_what_does_not_run(arguments: list[str], capsys: Out) -> None:
    assert main(arguments) == 2
    assert "--twin" in capsys.readouterr().err


# --- over ssh -------------------------------------------------------------------------------------


def test_answer_over_ssh(tmp_path: Path) -> None:
    (tmp_path / "answer").write_text(json.dumps(twin.as_json(TOLD)))
    script = f'for last; do :; done; echo "$last" >{tmp_path}/asked; cat >{tmp_path}/sent'
    ssh = pretend(tmp_path, f"{script}\ncat {tmp_path}/answer; exit 1")
    assert remote.twin_of(ssh, b"the twin") == TOLD
    assert (tmp_path / "asked").read_text() == "vfio-preflight twin load - --format json\n"
    assert (tmp_path / "sent").read_bytes() == b"the twin"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 255", "ssh to b fails"),
        ("exit 127", "b has no vfio-preflight command"),
        ("echo \"invalid choice: 'twin'\" >&2; exit 2", "does not know 'twin': upgrade it"),
        ("echo 'damaged' >&2; exit 2", r"vfio-preflight twin fails on b \(status 2\): damaged"),
        ("echo Welcome", "printed no answer"),
        ("printf '[%.0s' $(seq 100000)", "printed no answer"),
        ("echo '{}'", "printed no answer"),
        ("echo '[]'", "printed no answer"),
    ],
)
def test_no_answer_over_ssh(tmp_path: Path, script: str, why: str) -> None:
    with pytest.raises(PreflightError, match=why):
        remote.twin_of(pretend(tmp_path, script), bytes(1 << 20))


def test_answer_of_a_newer_version_over_ssh(tmp_path: Path) -> None:
    (tmp_path / "answer").write_text(json.dumps(twin.as_json(TOLD._replace(outcome="new"))))
    with pytest.raises(PreflightError, match="no answer that is known here"):
        remote.twin_of(pretend(tmp_path, f"cat {tmp_path}/answer"), b"")


# --- in check -------------------------------------------------------------------------------------


def report() -> ReportDict:
    return as_dict(preflight(make_facts()), None)


def destination(uri: str, name: str = "") -> SimpleNamespace:
    import os

    return SimpleNamespace(getURI=lambda: uri, getHostname=lambda: name or os.uname().nodename)


FILE = Answer({"file": base64.b64encode(to_bytes(ENVELOPE)).decode(), "told": []})


def codes(found: ReportDict) -> list[str]:
    known = [finding["code"] for finding in report()["findings"]]
    return [f["code"] for f in found["findings"] if f["code"] not in known]


@pytest.mark.parametrize("asked", [True, False])
def test_same_host(answered: list[Told], asked: bool) -> None:
    found = twinned.with_twin(report(), FILE, destination("qemu:///system"), asked)
    assert codes(found) == ["twin-accepted", *(["twin-uncovered"] if asked else [])]
    assert found["verdict"] == "pass"


def test_refusal_is_no_go(answered: list[Told]) -> None:
    answered[0] = TOLD._replace(outcome=REFUSED, line=LINE)
    found = twinned.with_twin(report(), FILE, destination("qemu:///system"), False)
    assert (codes(found), found["verdict"]) == (["twin-refused"], "fail")


@pytest.mark.parametrize(
    ("source", "where", "why"),
    [
        (FILE, destination("qemu+tls://b/system", "b"), "not reached by ssh"),
        (Answer(None, "no process here is the QEMU"), destination("x"), "no process here"),
        (Answer({"file": "", "told": ["not-run", "slow", "", "", "", [], ""]}), destination("x"),
         "slow"),
    ],
)  # fmt: skip
def test_what_cannot_be_tried(
    answered: list[Told], source: Answer, where: SimpleNamespace, why: str
) -> None:
    assert twinned.with_twin(report(), source, where, False) == report()
    found = twinned.with_twin(report(), source, where, True)
    assert codes(found) == ["twin-not-run"]
    assert why in found["findings"][-1]["text"]
    assert found["verdict"] == "pass"


def test_source_that_refuses() -> None:
    source = Answer({"file": "", "told": ["blocked", "the line", "", "QEMU 1", "", [], ""]})
    found = twinned.with_twin(report(), source, destination("x"), False)
    assert (codes(found), found["verdict"]) == (["twin-blocked"], "fail")

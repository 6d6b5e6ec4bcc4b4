"""The example of an orchestrator's check: its words are those of the report and the exit status."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from unit.makers import make_device_report, make_report
from unit.patience import ends
from vfio_preflight.cli.output import exit_status
from vfio_preflight.judge.policy import Decision
from vfio_preflight.report.schema import as_dict

CHECKOUT = Path(__file__).parents[3]
A, B = "qemu+tls://a/system", "qemu+tls://b/system"
NOT_CHECKED = "not checked: "


def load() -> Any:  # noqa: ANN401 - a module that is no part of a package
    spec = importlib.util.spec_from_file_location(
        "precheck", CHECKOUT / "etc/integrations/precheck.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


precheck = load()


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command, a script that is yet to be written."""
    path = tmp_path / "vfio-preflight"
    monkeypatch.setattr(precheck, "COMMAND", str(path))
    return path


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def prints(path: Path, value: object, status: int) -> None:
    path.with_name("out").write_text(json.dumps(value))
    path.with_name("words").unlink(missing_ok=True)
    script(path, f'printf "%s\\n" "$@" >{path.parent}/words; cat {path.parent}/out; exit {status}')


def row(action: str | None, code: str, uri: str = "") -> dict[str, Any]:
    decision = Decision(action) if action else None
    found: dict[str, Any] = {**as_dict(make_report(make_device_report(code)), decision)}
    return {**found, "destination": uri} if uri else found


@pytest.mark.parametrize(
    ("action", "code", "word"),
    [
        ("annotate", "config-identical", "can"),
        ("annotate", "vsc-body-tolerated", "can"),
        ("mend", "vsc-body-differs", "can"),
        ("block", "vsc-body-differs", "cannot"),
        # QEMU will refuse what the policy lets pass.
        ("annotate", "vsc-body-differs", "cannot"),
        ("annotate", "source-unknown", "unknown"),
        ("block", "source-unknown", "cannot"),
        (None, "config-identical", "can"),
        (None, "source-unknown", "unknown"),
        (None, "config-differs", "cannot"),
    ],
)
def test_words(command: Path, action: str | None, code: str, word: str) -> None:
    report = row(action, code)
    status = exit_status(report)  # type: ignore[arg-type]
    prints(command, report, status)
    answer = precheck.precheck("g1", [A])[A]
    assert (answer.word, precheck.STATUSES[answer.word]) == (word, status)
    assert word == "can" or f"text of {code}" in answer.reason
    assert command.with_name("words").read_text().split("\n")[:-1] == [
        "check", f"--to={A}", "--format", "json", "--", "g1",
    ]  # fmt: skip


def test_several(command: Path) -> None:
    error = {"schema": 1, "destination": B, "error": "Connection refused"}
    prints(command, [row("annotate", "config-identical", A), error], 3)
    found = precheck.precheck("g1", [A, B])
    assert [answer.word for answer in found.values()] == ["can", "unknown"]
    assert found[B].reason == f"{NOT_CHECKED}Connection refused"


def test_error_about_all(command: Path) -> None:
    prints(command, {"schema": 1, "error": "no guest named g1"}, 2)
    found = precheck.precheck("g1", [A, B])
    assert list(found) == [A, B]
    assert set(found.values()) == {("unknown", f"{NOT_CHECKED}no guest named g1")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 0", "exit status 0, and it said: nothing"),
        ("echo broken >&2; exit 1", "exit status 1, and it said: broken"),
        ("echo '[]'", "another form"),
        ("echo '[1]'", "another form"),
        ("echo 17", "another form"),
        ("""echo '{"schema": 2, "verdict": "pass", "action": "annotate"}'""", "another form"),
        ("""echo '{"schema": 1}'""", "another form"),
        ("""echo '{"schema": 1, "verdict": null, "action": null}'; exit 3""", "another form"),
        ("kill -9 $$", "exit status -9"),
    ],
)
def test_what_is_no_answer_is_unknown(command: Path, text: str, said: str) -> None:
    script(command, text)
    word, reason = precheck.precheck("g1", [A])[A]
    assert word == "unknown" and reason.startswith(NOT_CHECKED) and said in reason


@pytest.mark.parametrize("status", [1, 3, 4])
def test_pass_that_the_exit_status_contradicts(command: Path, status: int) -> None:
    prints(command, row("annotate", "config-identical"), status)
    word, reason = precheck.precheck("g1", [A])[A]
    assert word == "unknown" and "contradicts" in reason


def test_not_installed(command: Path) -> None:
    word, reason = precheck.precheck("g1", [A])[A]
    assert word == "unknown" and "No such file" in reason


def test_check_that_never_ends(command: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precheck, "SECONDS", 0.2)
    monkeypatch.setattr(precheck, "GRACE", 0.2)
    # Deaf to SIGTERM. It has ended when there is an answer: the example waits for it.
    script(command, "trap '' TERM; while :; do sleep 0.05; done")
    with ends():
        word, reason = precheck.precheck("g1", [A])[A]
    assert word == "unknown" and "no answer within" in reason


def test_reason_is_one_line_of_text(command: Path) -> None:
    prints(command, {"schema": 1, "error": "no\n\x1b[31m\x9bguest\ud800"}, 2)
    assert precheck.precheck("g1", [A])[A].reason == f"{NOT_CHECKED}no ?[31m?guest?"


def test_command(
    command: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prints(command, [row("block", "config-differs", A), row(None, "source-unknown", B)], 1)
    monkeypatch.setattr(precheck.sys, "argv", ["precheck.py", "g1", A, B])
    assert precheck.main() == 1
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "cannot qemu+tls", "unknown qemu+tls",
    ]  # fmt: skip
    monkeypatch.setattr(precheck.sys, "argv", ["precheck.py", "g1"])
    assert precheck.main() == 2

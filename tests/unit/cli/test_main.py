from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from unit.cli.command import Q35_90, Out, complaint, make_guest_file
from vfio_preflight.cli import check, compare, state
from vfio_preflight.cli.main import main
from vfio_preflight.configuration import ConfigurationError


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["no-such-command"],
        ["compare"],
        ["compare", "a", "b"],
        ["compare", "a", "b", "--machine", "x", "--bus", "usb"],
        ["compare", "a", "b", "--machine", "x", "--property", "novalue"],
        ["check", "g1.xml", "--source-state", "novalue"],
        ["check", "g1", "--format", "xml"],
    ],
)
def test_usage_error(arguments: list[str], capsys: Out) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: vfio-preflight")


def test_version_and_help(capsys: Out) -> None:
    for arguments, part in ((["--version"], "vfio-preflight "), (["--help"], "Exit status: 0 go")):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        assert part in capsys.readouterr().out


@pytest.mark.parametrize("command", ["check", "compare", "state"])
def test_configuration_error(
    command: str,
    files: dict[str, str],
    tmp_path: Path,
    capsys: Out,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise ConfigurationError("/etc/vfio-preflight.conf: [policy] fial: no such setting")

    for module in (check, compare, state):
        monkeypatch.setattr(module, "load", broken)
    arguments = {
        "check": [make_guest_file(tmp_path)],
        "compare": [files["usual"], files["usual"], *Q35_90],
        "state": [files["usual"]],
    }[command]
    assert "[policy] fial" in complaint([command, *arguments], capsys)


def test_error_as_json(capsys: Out) -> None:
    assert main(["state", "/none", "--format", "json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "schema": 1,
        "error": "/none: cannot be read: No such file or directory",
    }
    assert err == "vfio-preflight: /none: cannot be read: No such file or directory\n"


@pytest.mark.parametrize("form", [["--format=json"], ["--format", "json"]])
def test_usage_error_as_json(form: list[str], capsys: Out) -> None:
    with pytest.raises(SystemExit):
        main(["compare", *form, "a"])
    out, err = capsys.readouterr()
    text = "the following arguments are required: DESTINATION, --machine"
    assert json.loads(out) == {"schema": 1, "error": text}
    assert err.startswith("usage: vfio-preflight compare") and err.endswith(f"error: {text}\n")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize(
    ("name", "shown"), [("gé日", {"ascii": "g\\xe9\\u65e5", "utf-8": "gé日"}), ("\udcff", {})]
)
def test_name_that_cannot_be_encoded(
    encoding: str, name: str, shown: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = {which: io.TextIOWrapper(io.BytesIO(), encoding) for which in ("stdout", "stderr")}
    for which, stream in streams.items():
        monkeypatch.setattr(sys, which, stream)
    assert main(["check", name]) == 2
    streams["stderr"].seek(0)
    # Not printable wherever it is shown (osutil.text), whatever the encoding has.
    expected = shown.get(encoding, "?")
    assert f"'{expected}' is not a file" in streams["stderr"].read()


def test_broken_pipe(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(_options: object) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(state, "run", leave)
    monkeypatch.setattr("os.dup2", lambda *_args: None)
    assert main(["state", files["usual"]]) == 2


def test_interrupt(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(state, "run", interrupt)
    assert main(["state", files["usual"]]) == 130

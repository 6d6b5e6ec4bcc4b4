from __future__ import annotations

import ast
import io
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import vfio_preflight
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


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "full"])
def test_output_that_nobody_gets(closed: bool) -> None:
    """A whole process, because Python itself writes at its end."""
    command = "exec >&-" if closed else "exec >/dev/full"
    program = f"{command}; exec {sys.executable} -m vfio_preflight --version"
    environment = {"PYTHONPATH": str(Path(vfio_preflight.__file__).parents[1])}
    done = subprocess.run(
        ["/bin/sh", "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert "Exception ignored" not in done.stderr and "Traceback" not in done.stderr
    assert done.returncode == (0 if closed else 2)


def test_interrupt(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(state, "run", interrupt)
    assert main(["state", files["usual"]]) == 130


@pytest.fixture
def no_lxml(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python on which nothing that needs lxml has been loaded, nor can be."""
    for name, part in vars(vfio_preflight).copy().items():
        if f"vfio_preflight.{name}" in sys.modules:
            # Set to what it is, so that it is put back after another has been loaded.
            monkeypatch.setattr(vfio_preflight, name, part)
    for name in list(sys.modules):
        if name.startswith(("vfio_preflight.", "lxml")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lxml", None)


@pytest.mark.parametrize(
    "arguments", [["check", "g1.xml"], ["state", "x", "--format", "json"], ["explain"], ["--help"]]
)
def test_no_lxml(arguments: list[str], no_lxml: None, capsys: Out) -> None:
    from vfio_preflight.cli.main import main as fresh

    assert fresh(arguments) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"vfio-preflight: {sys.executable} cannot load lxml")
    assert err.endswith("install python3-lxml from the distribution\n") and err.count("\n") == 1
    assert out == "" or "cannot load lxml" in json.loads(out)["error"]


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_installation_without_lxml(
    command: str, no_lxml: None, tmp_path: Path, capsys: Out
) -> None:
    """It says itself what the hook's interpreter lacks; it can be undone in any case."""
    from vfio_preflight.cli.main import main as fresh

    assert fresh([command, "--root", str(tmp_path / "none")]) == 2
    assert "none is not a directory" in capsys.readouterr().err


def test_other_module_that_is_missing_is_a_bug(
    no_lxml: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vfio_preflight.cli.main import main as fresh

    monkeypatch.setitem(sys.modules, "vfio_preflight.configuration", None)
    with pytest.raises(ImportError):
        fresh(["state", "x"])


@pytest.mark.parametrize("version", [(3, 8, 10), (3, 6, 8)])
def test_older_python(
    version: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.delitem(sys.modules, "vfio_preflight.__main__", raising=False)
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("vfio_preflight")
    assert caught.value.code == 2
    number = ".".join(map(str, version[:2]))
    told = f"vfio-preflight: {sys.executable} is Python {number}; this needs 3.9 or newer\n"
    assert capsys.readouterr().err == told


def test_what_an_older_python_reads_has_no_newer_syntax() -> None:
    """It has to get as far as saying that it is too old."""
    for name in ("__init__", "__main__"):
        source = Path(vfio_preflight.__file__).with_name(f"{name}.py").read_text()
        tree = ast.parse(source, feature_version=(3, 6))
        futures = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        assert not any(node.module == "__future__" for node in futures)

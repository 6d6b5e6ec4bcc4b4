from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vfio_preflight.cli.installation import interpreter
from vfio_preflight.cli.installation.payload import InstallError, data_file

HOOK = data_file("hooks/vfio-preflight")


def require(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> str:
    """What is said of an interpreter that is this script."""
    python = tmp_path / "python3"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(interpreter, "PYTHON", str(python))
    try:
        interpreter.require(HOOK)
    except InstallError as error:
        return str(error)
    return ""


def test_the_hook_says_where_it_imports_from() -> None:
    paths = interpreter.PATHS.findall(HOOK.decode())
    # The first is taken to the end by the second.
    assert [path.partition("(")[0] for path in paths] == [
        *("sys.path.insert", "sys.path.append", "sys.path.append", "sys.path.append")
    ]


def test_this_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own site directory named, where a virtual environment's lxml lies."""
    import lxml

    site = Path(lxml.__file__).parents[1]
    question = interpreter.QUESTION.replace("PATHS", f"sys.path.append({str(site)!r})\nPATHS")
    monkeypatch.setattr(interpreter, "QUESTION", question)
    assert require(tmp_path, monkeypatch, f'exec {sys.executable} "$@"') == ""


def test_lxml_of_another_directory_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the hook's interpreter cannot import does not help, wherever else it lies."""
    question = interpreter.QUESTION.replace("PATHS\n", "")
    monkeypatch.setattr(interpreter, "QUESTION", question)
    said = require(tmp_path, monkeypatch, f'exec {sys.executable} "$@"')
    assert "cannot load lxml (No module named 'lxml')" in said
    assert "install python3-lxml" in said


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 3.8.10; echo lxml", "is Python 3.8.10; the hook runs on it, and needs 3.9 or newer"),
        ("echo Python 3.8.10", "is Python 3.8.10"),
        ("echo Python 3.6.8 >&2", "is Python 3.6.8"),
        ("echo 3.9.0; echo lxml", ""),
        ("echo 3.14.0rc1; echo lxml", ""),
        ("echo 3.11.2; echo 'no lxml: libxml2.so.2: cannot open'", "(libxml2.so.2: cannot open)"),
        ("echo 3.11.2; kill -SEGV $$", "cannot load lxml (no answer)"),
        ("echo broken >&2; exit 1", "does not answer as a Python does: 'broken'"),
        ("kill -9 $$", "does not answer as a Python does: 'exit status -9'"),
        ("printf '\\033[31m\\n'", "does not answer as a Python does: '?[31m'"),
    ],
)
def test_what_it_answers(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = require(tmp_path, monkeypatch, script)
    assert said in found and bool(said) == bool(found)
    assert found.count("\n") == 0


def test_no_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "PYTHON", str(tmp_path / "none"))
    with pytest.raises(InstallError, match="is not there, or not executable"):
        interpreter.require(HOOK)


def test_interpreter_that_cannot_be_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python3").write_bytes(b"\x7fELF")
    (tmp_path / "python3").chmod(0o755)
    monkeypatch.setattr(interpreter, "PYTHON", str(tmp_path / "python3"))
    with pytest.raises(InstallError, match="cannot be run: "):
        interpreter.require(HOOK)

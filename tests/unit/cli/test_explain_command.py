"""``explain`` on files and standard input of any size and content."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from unit.cli.command import Out, printed_json
from vfio_preflight.cli import explain
from vfio_preflight.cli.main import main

LINE = (
    "get_pci_config_device: Bad config data: i=0x8 read: 1 device: 2 cmask: ff wmask: 0 w1cmask:0"
)


class Input:
    """Standard input, of which bytes are read."""

    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


@pytest.mark.parametrize("source", ["file", "-"])
@pytest.mark.parametrize("size", [100, 4096, 4097, 10_000])
def test_the_end_counts_and_lines_are_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out, source: str, size: int
) -> None:
    monkeypatch.setattr(explain, "MAX_TEXT", 4096)
    content = f"{LINE}\n".ljust(size, "\n").encode() + f"{LINE}\n".encode()
    (tmp_path / "log").write_bytes(content)
    monkeypatch.setattr("sys.stdin", Input(content))
    name = "-" if source == "-" else str(tmp_path / "log")
    assert main(["explain", "--format", "json", name]) == 0
    lines = [entry["line"] for entry in printed_json(capsys)["explanations"]]
    assert lines == [*([1] if size == 100 else []), size - len(LINE) + 1]


def test_terminals_are_told_nothing(tmp_path: Path, capsys: Out) -> None:
    log = tmp_path / "log"
    log.write_text("Unknown savevm section or instance '\x1b]0;x\x07\x9b2J\r\u2028' 0\n")
    assert main(["explain", str(log)]) == 0
    out = capsys.readouterr().out
    assert "]0;x" in out
    assert all(character.isprintable() for line in out.split("\n") for character in line)


def test_no_such_file(capsys: Out) -> None:
    assert main(["explain", "/nonexistent"]) == 2
    assert "/nonexistent: cannot be read" in capsys.readouterr().err

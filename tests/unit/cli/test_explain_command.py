"""``explain`` on files and standard input of any size and content."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from unit.cli.command import Out
from vfio_preflight.cli import explain
from vfio_preflight.cli.main import main

LINE = (
    "get_pci_config_device: Bad config data: i=0x8 read: 1 device: 2 cmask: ff wmask: 0 w1cmask:0"
)

STARTING = "2026-11-26 10:00:00.123+0000: starting up libvirt version: 11.3.0\n"
ENDED = "2026-11-26 10:00:01.000+0000: shutting down, reason=failed\n"
MIGRATED = "2026-11-26 10:00:01.000+0000: shutting down, reason=migrated\n"


def printed(capsys: Out) -> dict[str, Any]:
    """What was printed, of the schema of stories."""
    value = json.loads(capsys.readouterr().out)
    assert isinstance(value, dict) and value["schema"] == 2
    return value


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
    (attempt,) = printed(capsys)["attempts"]
    lines = [entry["line"] for entry in attempt["causes"]]
    assert lines == [1 if size == 100 else size - len(LINE) + 1]


def test_terminals_are_told_nothing(tmp_path: Path, capsys: Out) -> None:
    log = tmp_path / "log"
    log.write_text("Unknown savevm section or instance '\x1b]0;x\x07\x9b2J\r\u2028' 0\n")
    assert main(["explain", str(log)]) == 0
    out = capsys.readouterr().out
    assert "?2J" in out
    assert all(character.isprintable() for line in out.split("\n") for character in line)


def test_no_such_file(capsys: Out) -> None:
    assert main(["explain", "/nonexistent"]) == 2
    assert "/nonexistent: cannot be read" in capsys.readouterr().err


LOST = "load of migration failed: Invalid argument"


def explained(text: str, path: Path, *options: str) -> int:
    log = path / "log"
    log.write_text(text)
    return main(["explain", str(log), *options])


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (f"{LINE}\n{LOST}\n", 0),
        (f"{LOST}\n", 3),
        ("error: operation failed: migration out job: unexpectedly failed\n", 3),
        ("qemu-kvm: the frob is upside down\n", 3),
        ("all is well\n", 3),
        ("", 3),
        # The last failure counts: what is known of an older one is no answer.
        (f"{STARTING}{LINE}\n{LOST}\n{ENDED}{STARTING}qemu: frob\n{LOST}\n{ENDED}", 3),
        (f"{STARTING}qemu: frob\n{LOST}\n{ENDED}{STARTING}{LINE}\n{LOST}\n{ENDED}", 0),
        (f"{STARTING}{LINE}\n{LOST}\n{ENDED}{STARTING}{MIGRATED}", 0),
    ],
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_exit_status_is_0_only_with_a_cause(
    text: str, status: int, form: str, tmp_path: Path, capsys: Out
) -> None:
    assert explained(text, tmp_path, "--format", form) == status


def test_a_story_is_printed_cause_first(tmp_path: Path, capsys: Out) -> None:
    text = f"{STARTING}qemu-system-x86_64: {LINE}\nqemu-system-x86_64: {LOST}\n{ENDED}"
    explained(text, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[line 1] start at 2026-11-26 10:00:00.123+0000 (failed)")
    assert lines[1] == f"line 2: {LINE}"
    assert [line[:9] for line in lines[2:5]] == ["  what:  ", "  why:   ", "  to do: "]
    assert lines[5].startswith(f"  followed by line 3: {LOST}: QEMU stopped loading;")


def test_what_is_not_known_is_quoted(tmp_path: Path, capsys: Out) -> None:
    explained(f"qemu-kvm: the frob is upside down\nqemu-kvm: {LOST}\n", tmp_path)
    out = capsys.readouterr().out
    assert "the cause is not known" in out
    assert "not known: line 1: qemu-kvm: the frob is upside down" in out


def test_many_attempts_are_cut_to_the_last(
    tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain, "MOST_ATTEMPTS", 2)
    explained(f"{STARTING}{LINE}\n{ENDED}" * 5, tmp_path)
    out = capsys.readouterr().out
    assert out.startswith("3 earlier failures are left out\n\n[4 of 5, line 10]")


def test_json_has_causes_with_their_consequences(tmp_path: Path, capsys: Out) -> None:
    explained(f"{LINE}\n{LOST}\nqemu-kvm: frob failed\n", tmp_path, "--format", "json")
    value = printed(capsys)
    assert value["schema"] == 2
    (attempt,) = value["attempts"]
    (cause,) = attempt["causes"]
    assert (attempt["kind"], cause["kind"], cause["role"]) == (
        "unknown",
        "bad-config-data",
        "cause",
    )
    assert (cause["since"], cause["until"]) == ("8.0", "")
    assert [entry["kind"] for entry in cause["consequences"]] == ["migration-failed"]
    assert attempt["unknown"] == [{"line": 3, "quote": "qemu-kvm: frob failed"}]


def test_a_log_of_another_system(tmp_path: Path, capsys: Out) -> None:
    line = "qemu-kvm: Length mismatch: pc.ram: 0x100000000 in != 0x80000000: Invalid argument\r\n"
    for encoding in ("utf-16", "utf-16-le", "utf-8-sig"):
        log = tmp_path / encoding
        log.write_bytes(line.encode(encoding))
        assert main(["explain", str(log)]) == 0
        assert "'pc.ram' has 4 GiB" in capsys.readouterr().out


def test_a_log_that_was_rotated(tmp_path: Path, capsys: Out) -> None:
    log = tmp_path / "db7.log.1.gz"
    log.write_bytes(gzip.compress(b"load of migration failed: Invalid argument\n"))
    assert main(["explain", str(log)]) == 2
    assert f"compressed (gzip); run zcat {log} | vfio-preflight explain" in capsys.readouterr().err


def test_nothing_failed(tmp_path: Path, capsys: Out) -> None:
    log = tmp_path / "log"
    log.write_text(
        "2026-11-26 10:00:00.123+0000: starting up libvirt version: 11.3.0\n"
        "2026-11-26T10:00:10.000000Z qemu-kvm: terminating on signal 15 from pid 1 (libvirtd)\n"
        "2026-11-26 10:00:10.300+0000: shutting down, reason=migrated\n"
    )
    assert main(["explain", str(log)]) == 3
    assert "nothing in it says that anything failed" in capsys.readouterr().out

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from vfio_preflight.hook import refusals


def test_what_was_left_is_taken_once(tmp_path: Path) -> None:
    runtime = str(tmp_path / "run")
    refusals.leave(runtime, "g1", "token", "line 1\nline 2")
    assert refusals.take(runtime, "g1") == ("token", "line 1\nline 2")
    assert refusals.take(runtime, "g1") is None


def test_file_is_where_the_shell_looks_for_it(tmp_path: Path) -> None:
    """hooks/vfio-preflight tests for it before it starts Python."""
    hook = Path(__file__).parents[3] / "hooks" / "vfio-preflight"
    assert "run=/run/vfio-preflight\n" in hook.read_text()
    assert '"$run/refused/g-$1"' in hook.read_text()
    refusals.leave(str(tmp_path), "g 1", "t", "m")
    path = tmp_path / "refused" / "g-g 1"
    assert path.read_text() == "t\nm"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_directory_is_private(tmp_path: Path) -> None:
    refusals.leave(str(tmp_path), "g1", "t", "m")
    assert stat.S_IMODE((tmp_path / "refused").stat().st_mode) == 0o700


def test_guests_do_not_meet(tmp_path: Path) -> None:
    refusals.leave(str(tmp_path), "g1", "1", "m")
    refusals.leave(str(tmp_path), "g2", "2", "m")
    assert refusals.take(str(tmp_path), "g2") == ("2", "m")
    assert refusals.take(str(tmp_path), "g1") == ("1", "m")


def test_the_last_attempt_counts(tmp_path: Path) -> None:
    refusals.leave(str(tmp_path), "g1", "1", "first")
    refusals.leave(str(tmp_path), "g1", "2", "second")
    assert refusals.take(str(tmp_path), "g1") == ("2", "second")
    assert list((tmp_path / "refused").iterdir()) == []


@pytest.mark.parametrize("guest", ["", "../../etc/passwd", "/etc/passwd", "a/b"])
def test_name_never_leads_elsewhere(guest: str, tmp_path: Path) -> None:
    refusals.leave(str(tmp_path / "run"), guest, "t", "m")
    paths = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.parent == tmp_path / "run" / "refused" for path in paths)


def test_nowhere_to_leave_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        refusals.leave(str(tmp_path / "file"), "g1", "t", "m")


def test_longest_name_that_libvirt_can_have(tmp_path: Path) -> None:
    name = "\u00e4" * 125 + "x"
    (tmp_path / f"{name}.xml").touch()
    refusals.leave(str(tmp_path), name, "t", "m")
    assert refusals.take(str(tmp_path), name) == ("t", "m")


def test_name_that_is_too_long_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File name too long"):
        refusals.leave(str(tmp_path), "x" * 300, "t", "m")
    assert list((tmp_path / "refused").iterdir()) == []


def test_temporary_file_is_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link put in its place leads nowhere."""
    monkeypatch.setattr(os, "urandom", bytes)
    (tmp_path / "refused").mkdir()
    (tmp_path / "refused" / f".{bytes(8).hex()}.tmp").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        refusals.leave(str(tmp_path), "g1", "t", "m")
    assert not (tmp_path / "elsewhere").exists()


def test_message_with_any_characters(tmp_path: Path) -> None:
    refusals.leave(str(tmp_path), "g\u00e4st", "t", "d\u00e9j\u00e0 vu")
    assert refusals.take(str(tmp_path), "g\u00e4st") == ("t", "d\u00e9j\u00e0 vu")


def test_damaged_file_is_used_up_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "refused").mkdir()
    (tmp_path / "refused" / "g-g1").write_bytes(b"\xff\xfe")
    taken = refusals.take(str(tmp_path), "g1")
    assert taken is not None and taken[1] == ""
    assert refusals.take(str(tmp_path), "g1") is None


def test_file_of_any_size_is_read_in_part(tmp_path: Path) -> None:
    (tmp_path / "refused").mkdir()
    (tmp_path / "refused" / "g-g1").write_text("t\n" + "x" * (3 << 20))
    taken = refusals.take(str(tmp_path), "g1")
    assert taken is not None
    assert taken[0] == "t" and len(taken[1]) < 1 << 20

from __future__ import annotations

import errno
import os
import signal
import stat
import time
from pathlib import Path

import pytest

from vfio_preflight.hook import refusals


def left(path: Path) -> list[Path]:
    return [each for each in (path / "refused").rglob("*") if each.is_file()]


def test_what_was_left_is_taken_once(tmp_path: Path) -> None:
    runtime = str(tmp_path)
    refusals.leave(runtime, "g1", "token", "line 1\nline 2")
    assert refusals.take(runtime, "g1", "token") == "line 1\nline 2"
    assert refusals.take(runtime, "g1", "token") is None
    assert list((tmp_path / "refused").iterdir()) == []


def test_place_is_where_the_shell_looks_for_it(tmp_path: Path) -> None:
    """hooks/vfio-preflight tests for it before it starts Python."""
    hook = Path(__file__).parents[3] / "hooks" / "vfio-preflight"
    assert "run=/run/vfio-preflight\n" in hook.read_text()
    assert '"$run/refused/g-$1"' in hook.read_text()
    refusals.leave(str(tmp_path), "g 1", "t", "m")
    (path,) = (tmp_path / "refused" / "g-g 1").iterdir()
    assert path.read_text() == "m"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_guests_do_not_meet(tmp_path: Path) -> None:
    refusals.leave(str(tmp_path), "g1", "t", "of g1")
    refusals.leave(str(tmp_path), "g2", "t", "of g2")
    assert refusals.take(str(tmp_path), "g2", "t") == "of g2"
    assert refusals.take(str(tmp_path), "g1", "t") == "of g1"


def test_attempts_do_not_meet(tmp_path: Path) -> None:
    """Two restores of one image: each prepare takes its own."""
    refusals.leave(str(tmp_path), "g1", "a", "first")
    refusals.leave(str(tmp_path), "g1", "b", "second")
    for token in (None, "", "c", "a.tmp", "../a"):
        assert refusals.take(str(tmp_path), "g1", token) is None
    assert refusals.take(str(tmp_path), "g1", "a") == "first"
    assert refusals.take(str(tmp_path), "g1", "b") == "second"
    assert not left(tmp_path)


# --- what nobody came for ------------------------------------------------------------------------


def later(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    now = refusals._now()
    monkeypatch.setattr(refusals, "_now", lambda: now + seconds)


@pytest.mark.parametrize("guest", ["g1", "g2"])
def test_what_nobody_came_for_goes_with_the_next_refusal(
    guest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what a writer that was killed left beside it, or an older version."""
    refusals.leave(str(tmp_path), "g1", "a", "m")
    (old,) = left(tmp_path)
    old.with_name(f"{old.name}.tmp").touch()
    (tmp_path / "refused" / ".0123456789abcdef.tmp").touch()
    (tmp_path / "refused" / "g-g3").write_text("token\nof an older version")
    later(monkeypatch, refusals.SOON + 1)
    refusals.leave(str(tmp_path), guest, "b", "new")
    assert [path.read_text() for path in left(tmp_path)] == ["new"]


def test_what_nobody_came_for_goes_with_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals.leave(str(tmp_path), "g1", "a", "m")
    assert refusals.take(str(tmp_path), "g1", None) is None
    assert left(tmp_path)
    later(monkeypatch, refusals.SOON + 1)
    assert refusals.take(str(tmp_path), "g1", None) is None
    assert list((tmp_path / "refused").iterdir()) == []


def test_clock_that_is_set_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in (-86400.0, 86400.0):
        refusals.leave(str(tmp_path), "g1", "a", "m")
        then = time.time() + day
        monkeypatch.setattr("time.time", lambda then=then: then)
        assert refusals.take(str(tmp_path), "g1", "a") == "m"


@pytest.mark.parametrize("when", ["before it is made", "after"])
def test_other_hooks_that_sweep_meanwhile(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They remove a directory that is empty; the refusal gets out all the same."""
    times = iter(range(3))
    make = os.mkdir

    def removed(path: str, mode: int = 0o777) -> None:
        is_place = path.endswith("g-g1") and next(times, None) is not None
        if is_place and when == "before it is made":
            raise FileExistsError(errno.EEXIST, "it was there", path)
        make(path, mode)
        if is_place:
            refusals.sweep(str(tmp_path))

    monkeypatch.setattr("os.mkdir", removed)
    refusals.leave(str(tmp_path), "g1", "a", "m")
    assert refusals.take(str(tmp_path), "g1", "a") == "m"
    assert next(times, None) is None


def test_attempts_that_never_come_are_bounded(tmp_path: Path) -> None:
    for number in range(refusals.MAX_ATTEMPTS + 5):
        refusals.leave(str(tmp_path), "g1", f"t{number:03}", "m")
    assert len(left(tmp_path)) == refusals.MAX_ATTEMPTS


def test_older_versions_refusal_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "refused").mkdir()
    (tmp_path / "refused" / "g-g1").write_text("token\nmessage")
    assert refusals.take(str(tmp_path), "g1", "token") is None
    assert not left(tmp_path)


@pytest.mark.parametrize("guest", ["", "../../etc/passwd", "/etc/passwd", "a/b"])
def test_name_never_leads_elsewhere(guest: str, tmp_path: Path) -> None:
    refusals.leave(str(tmp_path / "run"), guest, "t", "m")
    paths = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.parent.parent == tmp_path / "run" / "refused" for path in paths)


def test_nowhere_to_leave_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        refusals.leave(str(tmp_path / "file"), "g1", "t", "m")


def test_longest_name_that_libvirt_can_have(tmp_path: Path) -> None:
    name = "\u00e4" * 125 + "x"
    (tmp_path / f"{name}.xml").touch()
    refusals.leave(str(tmp_path), name, "t", "m")
    assert refusals.take(str(tmp_path), name, "t") == "m"


def test_name_that_is_too_long_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File name too long"):
        refusals.leave(str(tmp_path), "x" * 300, "t", "m")
    assert list((tmp_path / "refused").iterdir()) == []


def test_refusal_that_is_half_written_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_paths: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="No space left"):
        refusals.leave(str(tmp_path), "g1", "t", "m")
    assert list((tmp_path / "refused").iterdir()) == []


def test_temporary_file_is_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link put in its place leads nowhere."""
    monkeypatch.setattr(refusals, "_now", lambda: 7)
    (tmp_path / "refused" / "g-g1").mkdir(parents=True)
    (tmp_path / "refused" / "g-g1" / "7.t.tmp").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        refusals.leave(str(tmp_path), "g1", "t", "m")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("message", ["d\u00e9j\u00e0 vu", "a\ud800b"])
def test_message_with_any_characters(message: str, tmp_path: Path) -> None:
    refusals.leave(str(tmp_path), "g\u00e4st", "t", message)
    taken = refusals.take(str(tmp_path), "g\u00e4st", "t")
    assert taken == message.replace("\ud800", "?")


@pytest.mark.parametrize("kind", ["damaged", "fifo", "device", "huge"])
def test_file_that_is_none_of_ours_is_used_up_all_the_same(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "refused" / "g-g1"
    place.mkdir(parents=True)
    path = place / f"{refusals._now()}.t"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b"\xff\xfe" if kind == "damaged" else b"x" * (3 << 20))
    taken = refusals.take(str(tmp_path), "g1", "t")
    if kind == "damaged":
        assert taken == "\ufffd\ufffd"
    elif kind == "huge":
        assert taken == "x" * (1 << 20)
    else:
        assert taken == f"vfio-preflight: restore blocked: {path}: it is not a regular file"
    assert not path.exists() and not path.is_symlink()


def test_writer_that_is_killed_leaves_a_whole_refusal_or_none(tmp_path: Path) -> None:
    """And nothing of it blocks a later attempt, nor stays."""
    message = "why\n" * 20_000
    for number in range(20):
        child = os.fork()
        if child == 0:
            try:
                for turn in range(10_000):
                    refusals.leave(str(tmp_path), "g1", f"t{number}-{turn}", message)
            finally:
                os._exit(0)
        time.sleep(0.002 * (1 + number % 7))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    tokens = {path.name.partition(".")[2] for path in left(tmp_path)}
    whole = {token for token in tokens if not token.endswith(".tmp")}
    assert whole and all(refusals.take(str(tmp_path), "g1", each) == message for each in whole)
    assert all(path.suffix == ".tmp" for path in left(tmp_path))

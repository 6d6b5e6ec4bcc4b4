from __future__ import annotations

import stat
from pathlib import Path

import pytest

from unit.expectations import make_expected
from vfio_preflight.hook import expected


def test_waits_until_it_is_dropped(tmp_path: Path) -> None:
    value = make_expected()
    assert expected.leave(str(tmp_path), "g1", value)
    assert expected.is_waiting(str(tmp_path), "g1")
    assert expected.waiting(str(tmp_path), "g1") == value
    expected.drop(str(tmp_path), "g1")
    assert not expected.is_waiting(str(tmp_path), "g1")
    assert expected.waiting(str(tmp_path), "g1") is None


def test_launcher_looks_for_the_same_file(tmp_path: Path) -> None:
    hook = Path(__file__).parents[3] / "hooks" / "vfio-preflight"
    assert "expected=$run/expected/$1.json\n" in hook.read_text()
    expected.leave(str(tmp_path), "g 1", make_expected())
    path = tmp_path / "expected" / "g 1.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_guests_named_alike_do_not_meet(tmp_path: Path) -> None:
    for name in ("g1", "g1.json", "g"):
        expected.leave(str(tmp_path), name, make_expected(guest=name))
    for name in ("g1", "g1.json", "g"):
        value = expected.waiting(str(tmp_path), name)
        assert value is not None and value["guest"] == name


def test_the_last_attempt_counts(tmp_path: Path) -> None:
    for token in ("1", "2"):
        expected.leave(str(tmp_path), "g1", make_expected(token=token))
    value = expected.waiting(str(tmp_path), "g1")
    assert value is not None and value["token"] == "2"
    assert len(list((tmp_path / "expected").iterdir())) == 1


@pytest.mark.parametrize("guest", ["", "../../etc/passwd", "/etc/passwd", "a/b"])
def test_name_never_leads_elsewhere(guest: str, tmp_path: Path) -> None:
    assert not expected.leave(str(tmp_path / "run"), guest, make_expected())
    assert not expected.is_waiting(str(tmp_path / "run"), guest)
    assert expected.waiting(str(tmp_path / "run"), guest) is None
    expected.drop(str(tmp_path / "run"), guest)
    assert list(tmp_path.rglob("*")) == []


def test_name_that_is_too_long(tmp_path: Path) -> None:
    assert not expected.leave(str(tmp_path), "x" * 251, make_expected())
    assert expected.leave(str(tmp_path), "x" * 250, make_expected())


def test_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected, "MAX_WAITING", 3)
    for number in range(5):
        expected.leave(str(tmp_path), f"g{number}", make_expected())
    assert len(list((tmp_path / "expected").iterdir())) == 3


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}'])
def test_damaged_file_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "expected").mkdir()
    (tmp_path / "expected" / "g1.json").write_text(text)
    assert expected.waiting(str(tmp_path), "g1") is None
    expected.drop(str(tmp_path), "g1")
    assert not expected.is_waiting(str(tmp_path), "g1")


def test_file_that_others_could_have_written_is_none(tmp_path: Path) -> None:
    expected.leave(str(tmp_path), "g1", make_expected())
    (tmp_path / "expected" / "g1.json").chmod(0o666)
    assert expected.waiting(str(tmp_path), "g1") is None

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.cli.command import Out, complaint, printed_json
from unit.host.hosts import MDEV, VGPU
from unit.makers import VSC_BODY, differing, make_state
from vfio_preflight.cli import catalogue as command
from vfio_preflight.cli.catalogue import read_export
from vfio_preflight.cli.main import main
from vfio_preflight.configuration import Configuration
from vfio_preflight.host.catalogue import (
    CatalogueError,
    Entry,
    add,
    entries,
    name_of,
    to_json,
)
from vfio_preflight.qemu.model.equivalence import equivalent_to_qemu

TIME = "2026-11-23T12:00:00Z"
ONE = Entry(MDEV, (make_state(evidence="vfio"),), "a", TIME)
TWO = Entry(VGPU, (make_state(evidence="vfio"),), "b", TIME)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A catalogue with two entries."""
    path = str(tmp_path / "catalogue")
    monkeypatch.setattr(command, "load", lambda: Configuration(catalogue=path))
    for entry in (ONE, TWO):
        add(path, entry, equivalent_to_qemu)
    return path


def names(directory: str) -> list[str]:
    return [name for name, _ in entries(directory)]


def test_list(directory: str, capsys: Out) -> None:
    assert main(["catalogue", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert name_of(MDEV) in lines and name_of(VGPU) in lines
    assert (
        "  vendor 10de, device 1e30, subsystem 10de:129e, type nvidia-63, driver nvidia,"
        " driver-version 550.54.16" in lines
    )
    assert f"  seen on a at {TIME}" in lines
    assert "  10de:1eb8, 256 bytes, evidence vfio, made up" in lines


def test_list_says_what_is_not_used(directory: str, capsys: Out) -> None:
    add(
        directory,
        ONE._replace(states=(differing(VSC_BODY)._replace(evidence="vfio"),)),
        equivalent_to_qemu,
    )
    main(["catalogue", "list"])
    assert "these differ" in capsys.readouterr().out


def test_list_json(directory: str, capsys: Out) -> None:
    assert main(["catalogue", "list", "--format", "json"]) == 0
    listed = printed_json(capsys)["entries"]
    assert [entry["name"] for entry in listed] == names(directory)
    assert listed[0]["traits"]["vendor"] == "10de"


def test_list_of_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out) -> None:
    monkeypatch.setattr(command, "load", lambda: Configuration(catalogue=str(tmp_path / "none")))
    assert main(["catalogue", "list"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/none has no entries\n"


def test_forget(directory: str, capsys: Out) -> None:
    assert main(["catalogue", "forget", name_of(MDEV)]) == 0
    assert capsys.readouterr().out == f"forgotten: {name_of(MDEV)}\n"
    assert names(directory) == [name_of(VGPU)]
    assert main(["catalogue", "forget", "--all", "--format", "json"]) == 0
    assert printed_json(capsys)["forgotten"] == [name_of(VGPU)]
    assert main(["catalogue", "forget", "--all"]) == 0
    assert capsys.readouterr().out == "nothing to forget\n"


def test_forget_entry_that_is_damaged(directory: str, capsys: Out) -> None:
    (Path(directory) / f"{name_of(MDEV)}.json").write_text("{")
    assert main(["catalogue", "forget", name_of(MDEV)]) == 0
    assert list(Path(directory).glob("*.json")) == [Path(directory) / f"{name_of(VGPU)}.json"]


def test_forget_what_is_not_there(directory: str, capsys: Out) -> None:
    assert "no entry 'x' in the catalogue" in complaint(["catalogue", "forget", "x"], capsys)
    assert len(names(directory)) == 2


def test_forget_says_which(directory: str) -> None:
    with pytest.raises(SystemExit) as usage:
        main(["catalogue", "forget"])
    assert usage.value.code == 2
    assert len(names(directory)) == 2


def test_export_import(directory: str, tmp_path: Path, capsys: Out) -> None:
    main(["catalogue", "export"])
    text = capsys.readouterr().out
    file = tmp_path / "export.json"
    file.write_text(text)
    main(["catalogue", "forget", name_of(VGPU)])
    capsys.readouterr()
    assert main(["catalogue", "import", str(file)]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(
        [f"known already: {name_of(MDEV)}", f"added: {name_of(VGPU)}"]
    )
    main(["catalogue", "export"])
    assert capsys.readouterr().out == text


def test_import_from_standard_input(
    directory: str, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    main(["catalogue", "export", name_of(MDEV)])
    stdin = io.TextIOWrapper(io.BytesIO(capsys.readouterr().out.encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    main(["catalogue", "forget", "--all"])
    capsys.readouterr()
    assert main(["catalogue", "import", "-", "--format", "json"]) == 0
    assert printed_json(capsys)["entries"] == [{"name": name_of(MDEV), "result": "added"}]


def test_export_of_nothing(directory: str, capsys: Out) -> None:
    assert "no entry 'x'" in complaint(["catalogue", "export", "x"], capsys)


def test_import_adds_all_or_nothing(directory: str, tmp_path: Path, capsys: Out) -> None:
    main(["catalogue", "forget", "--all"])
    capsys.readouterr()
    bad = {**to_json(TWO), "time": "now"}
    file = tmp_path / "bad.json"
    file.write_text(json.dumps({"schema": 1, "entries": [to_json(ONE), bad]}))
    told = complaint(["catalogue", "import", str(file)], capsys)
    assert "bad.json: entry 1: \"time\" is 'now'" in told
    assert names(directory) == []


def test_import_of_what_qemu_made_of_a_device(directory: str, tmp_path: Path, capsys: Out) -> None:
    sent = TWO._replace(states=(make_state(evidence="stream"),))
    file = tmp_path / "sent.json"
    file.write_text(json.dumps({"schema": 1, "entries": [to_json(sent)]}))
    told = complaint(["catalogue", "import", str(file)], capsys)
    assert "sent.json: entry 0: evidence 'stream' is what QEMU made of a device" in told


def test_import_of_no_file(directory: str, tmp_path: Path, capsys: Out) -> None:
    assert "No such file" in complaint(["catalogue", "import", str(tmp_path / "none")], capsys)


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", '"schema" is not 1'),
        (b'{"schema": 1}', '"entries" is not a list'),
        (b'{"schema": 1, "entries": {}}', '"entries" is not a list'),
        (
            b'{"schema": 1, "entries": [%s0]}' % (b"0," * 256),
            '"entries" is not a list of up to 256',
        ),
        (b'{"schema": 1, "entries": [0]}', "x: entry 0: not an entry"),
    ],
)
def test_what_is_no_export(data: bytes, part: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        read_export(data, "x")
    assert part in str(caught.value)


@given(st.data())
def test_damaged_export(data: st.DataObject) -> None:
    """Bytes changed, cut or repeated anywhere: an error of ours, or entries that are whole."""
    text = bytearray(json.dumps({"schema": 1, "entries": [to_json(ONE), to_json(TWO)]}).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        length = data.draw(st.integers(0, 40))
        text[at : at + length] = data.draw(st.binary(max_size=40))
    try:
        found = read_export(bytes(text), "x")
    except CatalogueError as error:
        assert str(error) and "\n" not in str(error)
        return
    assert all(e.traits.determined and len(e.states[0].config) in (256, 4096) for e in found)

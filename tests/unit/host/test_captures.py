"""What devices presented at their QEMU's start, kept for the recorder (host.captures)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unit.makers import HOST, make_state
from vfio_preflight.host.captures import KIND, Capture, captured, keep
from vfio_preflight.pci.state import Bar

STATE = make_state(evidence="vfio")._replace(bars=(Bar(0, 4096, "mem32"),), origin="VFIO")
CAPTURE = Capture(STATE, "stop-copy p2p", 1, 8224)


def test_round_trip(tmp_path: Path) -> None:
    assert keep(str(tmp_path), "g 1", "boot:7:1", {HOST: CAPTURE})
    assert captured(str(tmp_path), "g 1", "boot:7:1") == {HOST: CAPTURE}


def test_capture_is_for_one_process(tmp_path: Path) -> None:
    keep(str(tmp_path), "g1", "boot:7:1", {HOST: CAPTURE})
    assert captured(str(tmp_path), "g1", "boot:8:2") == {}
    assert captured(str(tmp_path), "g2", "boot:7:1") == {}


@pytest.mark.parametrize("guest", ["", "../g1", "a/b"])
def test_name_that_is_none_is_no_path(guest: str, tmp_path: Path) -> None:
    assert not keep(str(tmp_path), guest, "i", {HOST: CAPTURE})
    assert captured(str(tmp_path), guest, "i") == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1}', '{"schema": 1, "process": "i"}'])
def test_damaged_file_is_none(text: str, tmp_path: Path) -> None:
    keep(str(tmp_path), "g1", "i", {HOST: CAPTURE})
    (tmp_path / KIND / "g1.json").write_text(text)
    assert captured(str(tmp_path), "g1", "i") == {}


def test_damaged_device_costs_only_itself(tmp_path: Path) -> None:
    keep(str(tmp_path), "g1", "i", {HOST: CAPTURE, "other": CAPTURE, "third": CAPTURE})
    path = tmp_path / KIND / "g1.json"
    value = json.loads(path.read_text())
    value["devices"]["other"]["config"] = "xx"
    value["devices"]["third"] = 3
    path.write_text(json.dumps(value))
    assert captured(str(tmp_path), "g1", "i") == {HOST: CAPTURE}


def test_file_is_where_the_shell_looks_for_it(tmp_path: Path) -> None:
    hook = (Path(__file__).parents[3] / "hooks" / "vfio-preflight").read_text()
    assert "captured=$run/started/$1.json\n" in hook
    keep(str(tmp_path), "g 1", "i", {})
    assert (tmp_path / "started" / "g 1.json").exists()

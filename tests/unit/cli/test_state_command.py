from __future__ import annotations

import json
from pathlib import Path

import pytest

from unit.cli.command import Out, complaint
from unit.makers import VSC_BODY, differing, make_state
from vfio_preflight.cli import state as command
from vfio_preflight.cli.main import main
from vfio_preflight.configuration import Configuration
from vfio_preflight.host.sources import order
from vfio_preflight.host.sources.request import Answer
from vfio_preflight.host.vfio import VfioDevice
from vfio_preflight.pci.atomics import to_text
from vfio_preflight.pci.formats import parse, to_json


def test_state_text(files: dict[str, str], capsys: Out) -> None:
    assert main(["state", files["usual"]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "10de:1eb8, 256 bytes, evidence sysfs"
    assert lines[1].startswith("read from made up (from ")
    assert "  BAR0: 0x4000 bytes, mem32" in lines
    assert "  0x060-0x077 VSC" in lines
    assert not any(line.startswith("migration") for line in lines)
    assert "060: 09 78 14 01 a1 5a 00 10 20 30 40 de ad be ef 00" in lines


@pytest.mark.parametrize("widths", [0, 3])
def test_state_with_atomic_ops(widths: int, tmp_path: Path, capsys: Out) -> None:
    path = tmp_path / "state.json"
    path.write_text(to_json(make_state()._replace(atomics=widths)))
    assert main(["state", str(path)]) == 0
    line = f"AtomicOps that the host's root completes: {to_text(widths)}"
    assert line in capsys.readouterr().out.splitlines()
    assert main(["state", str(path), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["atomic_ops"] == to_text(widths)


def test_state_json_is_a_file_of_its_own(files: dict[str, str], capsys: Out) -> None:
    assert main(["state", files["vsc"], "--format", "json"]) == 0
    again = parse(capsys.readouterr().out.encode(), "x").state
    assert again[:3] == differing(VSC_BODY)[:3]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("0000:ff:1f.7", "this host has no PCI device 0000:ff:1f.7"),
        ("FF:1F.7", "this host has no PCI device 0000:ff:1f.7"),
        ("c2177883-f1bb-47f0-914d-32a22e3a8805", "no mediated device c2177883"),
        ("gpu", "gpu: cannot be read: No such file"),
    ],
)
def test_state_of_nothing(name: str, part: str, capsys: Out) -> None:
    assert part in complaint(["state", name], capsys)


def opened(migration: tuple[str, ...] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device, whatever its name, is listed and free."""
    device = VfioDevice(make_state(evidence="vfio"), migration)
    answer = Answer(device.state, offers=device.offers)
    monkeypatch.setattr(order, "SOURCES", (lambda _: answer,))
    monkeypatch.setattr(command, "load", lambda: Configuration(open_devices=("10de:*",)))


@pytest.mark.parametrize(
    ("migration", "offers"), [(("stop-copy", "p2p"), "stop-copy p2p"), (None, "none")]
)
def test_state_of_a_device_that_may_be_opened(
    migration: tuple[str, ...] | None, offers: str, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    opened(migration, monkeypatch)
    assert main(["state", "0000:ff:1f.7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "10de:1eb8, 256 bytes, evidence vfio"
    assert lines[2] == f"migration: its driver offers {offers}"
    assert main(["state", "0000:ff:1f.7", "--format", "json"]) == 0
    text = capsys.readouterr().out
    assert json.loads(text)["migration"] == offers
    assert parse(text.encode(), "x").state[:3] == make_state(evidence="vfio")[:3]

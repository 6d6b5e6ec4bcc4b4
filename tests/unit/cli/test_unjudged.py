"""What ``check`` says of guests without VFIO PCI devices, and of devices that it does not judge."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lab.guests import guest_xml, hostdev_pci
from unit.cli.command import GUEST_ADDRESS, Out, printed_json
from unit.domains import make_domain
from unit.makers import HOST, make_emulator
from unit.streams import make_image, make_stream
from vfio_preflight.cli import check
from vfio_preflight.cli.main import main
from vfio_preflight.configuration import Configuration
from vfio_preflight.gather import here
from vfio_preflight.judge.verdicts import DEFAULT_POLICY, UNKNOWN

USB = (
    "<hostdev mode='subsystem' type='usb'>"
    "<source><vendor id='0x0529'/><product id='0x0001'/></source></hostdev>"
)
NO_MODEL = (
    "<hostdev mode='subsystem' type='mdev'>"
    "<source><address uuid='5c9a3ab2-63b6-4d2b-9d6f-2a0e3c5f7d11'/></source></hostdev>"
)
PCI = hostdev_pci(HOST, GUEST_ADDRESS)
NOTHING = "no VFIO PCI device: nothing was checked"


@pytest.fixture(params=["rich", "plain"])
def renderer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "plain":
        monkeypatch.setitem(sys.modules, "rich.console", None)


def write(tmp_path: Path, *devices: str) -> str:
    path = tmp_path / "g1.xml"
    path.write_text(guest_xml("g1", "pc-q35-9.0", devices))
    return str(path)


@pytest.mark.parametrize("devices", [(), (USB,), (NO_MODEL,)])
def test_nothing_judged(
    devices: tuple[str, ...], tmp_path: Path, capsys: Out, renderer: None
) -> None:
    assert main(["check", write(tmp_path, *devices)]) == 3
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("UNKNOWN") and NOTHING in first
    assert first.endswith("the hook lets it pass") or "hook" not in first
    assert "will accept" not in "\n".join([first, *rest])


def test_what_was_seen_is_listed_with_the_reason(
    tmp_path: Path, capsys: Out, renderer: None
) -> None:
    assert main(["check", write(tmp_path, USB, NO_MODEL)]) == 3
    text = " ".join(capsys.readouterr().out.split())
    assert "USB device of the host (hostdev0, 0529:0001): it is no PCI device" in text
    assert "mediated device without a model (hostdev1" in text
    assert "libvirt refuses the XML: \"Missing required attribute 'model'" in text


def test_json_of_nothing_judged(tmp_path: Path, capsys: Out) -> None:
    assert main(["check", write(tmp_path, USB), "--format", "json"]) == 3
    report = printed_json(capsys)
    assert (report["verdict"], report["action"], report["devices"]) == ("unknown", "allow", [])
    assert [f["code"] for f in report["findings"] if f["verdict"] == "unknown"] == [
        "nothing-judged"
    ]
    (device,) = report["unjudged"]
    assert list(device) == ["kind", "what", "host", "alias", "reason", "known", "refused"]
    assert (device["kind"], device["host"], device["alias"]) == ("usb", "0529:0001", "hostdev0")


def test_policy_does_not_block_what_the_hook_does_not_look_at(
    tmp_path: Path, settings: Configuration, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    strict = settings._replace(policy={**DEFAULT_POLICY, UNKNOWN: "block"})
    monkeypatch.setattr(check, "load", lambda: strict)
    assert main(["check", write(tmp_path, USB), "--format", "json"]) == 3
    assert printed_json(capsys)["action"] == "allow"


def test_verdict_of_what_was_judged_beside_what_was_not(
    tmp_path: Path, files: dict[str, str], capsys: Out, renderer: None
) -> None:
    path = write(tmp_path, PCI, USB)
    states = [f"--{side}-state={HOST}={files['usual']}" for side in ("source", "destination")]
    assert main(["check", path, *states]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("PASS") and "1 other device not judged" in first
    assert any("USB device of the host (hostdev1, 0529:0001)" in line for line in rest)


def test_known_refusal_beside_what_was_judged(
    tmp_path: Path, files: dict[str, str], capsys: Out
) -> None:
    path = write(tmp_path, PCI, NO_MODEL)
    states = [f"--{side}-state={HOST}={files['usual']}" for side in ("source", "destination")]
    assert main(["check", path, *states, "--format", "json"]) == 3
    report = printed_json(capsys)
    assert report["devices"][0]["verdict"] == "pass"
    assert "unjudged-refused" in [finding["code"] for finding in report["findings"]]


@pytest.mark.parametrize("devices", [PCI, ""])
def test_foreign_architecture(
    devices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    emulator = make_emulator()._replace(target="x86_64")
    monkeypatch.setattr(here, "emulator_facts", lambda *_args, **_options: emulator)
    path = Path(write(tmp_path, devices))
    path.write_text(path.read_text().replace("arch='x86_64'", "arch='aarch64'"))
    assert main(["check", str(path)]) == 1
    text = capsys.readouterr().out
    assert "'aarch64'" in text and "emulates x86_64" in text


def test_image_of_nothing_to_judge(tmp_path: Path, capsys: Out) -> None:
    path = tmp_path / "g1.img"
    path.write_bytes(make_image(make_stream(), xml=make_domain(hosts=())))
    assert main(["check", "--image", str(path)]) == 3
    assert NOTHING in capsys.readouterr().out.splitlines()[0]

from __future__ import annotations

from pathlib import Path

import pytest

from lab.guests import guest_xml
from unit.cli.command import Out, complaint, make_guest_file, policy, printed_json
from unit.makers import HOST
from vfio_preflight.cli.main import main
from vfio_preflight.configuration import Configuration


@pytest.mark.parametrize(
    ("destination", "machine", "status", "verdict", "action"),
    [
        ("usual", "pc-q35-9.0", 0, "pass", "annotate"),
        ("vsc", "pc-q35-9.0", 1, "fail", "block"),
        ("vsc", "pc-q35-9.1", 0, "tolerated", "annotate"),
        ("pm", "pc-q35-9.1", 1, "fail", "block"),
        ("usual", "pc-q35-11.1", 1, "fail", "block"),
    ],
)
def test_check(
    destination: str,
    machine: str,
    status: int,
    verdict: str,
    action: str,
    files: dict[str, str],
    tmp_path: Path,
    capsys: Out,
) -> None:
    guest = make_guest_file(tmp_path, machine)
    states = [f"--source-state=hostdev0={files['usual']}"]
    states.append(f"--destination-state=hostdev0={files[destination]}")
    assert main(["check", guest, *states, "--format", "json"]) == status
    report = printed_json(capsys)
    assert (report["guest"], report["verdict"], report["action"]) == ("g1", verdict, action)
    assert report["devices"][0]["host"] == HOST


@pytest.mark.parametrize("name", ["hostdev0", HOST, "06:00.4", "0000:00:05.0", "00:05.0"])
def test_check_device_by_any_name(
    name: str, files: dict[str, str], tmp_path: Path, capsys: Out
) -> None:
    guest = make_guest_file(tmp_path)
    states = [f"--{side}-state={name}={files['usual']}" for side in ("source", "destination")]
    assert main(["check", guest, *states]) == 0
    assert capsys.readouterr().out.startswith("PASS ")


def test_check_without_states_is_undetermined(tmp_path: Path, capsys: Out) -> None:
    assert main(["check", make_guest_file(tmp_path), "--format", "json"]) == 3
    (device,) = printed_json(capsys)["devices"]
    codes = [finding["code"] for finding in device["findings"]]
    assert codes == ["source-unknown", "destination-unknown"]
    assert "vfio-preflight record g1" in device["findings"][0]["remedy"]


def test_check_takes_the_operators_state(
    files: dict[str, str], tmp_path: Path, settings: Configuration, capsys: Out
) -> None:
    Path(settings.states).mkdir()
    (Path(settings.states) / f"{HOST}.json").write_text(Path(files["vsc"]).read_text())
    source = f"--source-state={HOST}={files['usual']}"
    assert main(["check", make_guest_file(tmp_path), source, "--format", "json"]) == 1
    assert printed_json(capsys)["devices"][0]["qemu"].startswith("get_pci_config_device: Bad")


def test_check_guest_without_vfio_devices(tmp_path: Path, capsys: Out) -> None:
    path = tmp_path / "g2.xml"
    path.write_text(guest_xml("g2"))
    assert main(["check", str(path), "--format", "json"]) == 0
    assert printed_json(capsys)["devices"] == []


def test_check_follows_the_guests_policy(
    files: dict[str, str], tmp_path: Path, capsys: Out
) -> None:
    guest = make_guest_file(tmp_path, metadata=policy("unknown='block'"))
    assert main(["check", guest, "--format", "json"]) == 1
    assert printed_json(capsys)["action"] == "block"


@pytest.mark.parametrize("attributes", ["fail='banana'", "pass='mend'", "fial='allow'"])
def test_check_guest_with_a_policy_that_does_not_exist(
    attributes: str, files: dict[str, str], tmp_path: Path, capsys: Out
) -> None:
    guest = make_guest_file(tmp_path, metadata=policy(attributes))
    states = [f"--source-state=hostdev0={files['usual']}"]
    states.append(f"--destination-state=hostdev0={files['vsc']}")
    assert main(["check", guest, *states, "--format", "json"]) == 1
    report = printed_json(capsys)
    assert (report["verdict"], report["action"]) == ("fail", "block")
    assert "guest-policy-unusable" in [finding["code"] for finding in report["findings"]]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "the domain XML is empty"),
        ("<domain", "not well-formed"),
        ("<network/>", "not a libvirt domain"),
        ("<domain type='kvm'/>", "no"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><domain type='kvm'>&a;</domain>", "DOCTYPE"),
    ],
)
def test_check_of_no_guest(text: str, part: str, tmp_path: Path, capsys: Out) -> None:
    path = tmp_path / "x.xml"
    path.write_text(text)
    assert part in complaint(["check", str(path)], capsys)


def test_check_file_that_cannot_be_read(capsys: Out) -> None:
    complaint(["check", "/proc/self/mem"], capsys)


def test_check_name_without_destination(capsys: Out) -> None:
    err = complaint(["check", "g1"], capsys)
    assert (
        err == "vfio-preflight: 'g1' is not a file; for a running guest, say where to: --to URI\n"
    )


def test_check_state_of_no_device(files: dict[str, str], tmp_path: Path, capsys: Out) -> None:
    guest = make_guest_file(tmp_path)
    err = complaint(["check", guest, f"--source-state=hostdev7={files['usual']}"], capsys)
    assert "'hostdev7' names no VFIO device of guest g1; it has: hostdev0" in err


def test_check_state_with_to(files: dict[str, str], capsys: Out) -> None:
    state_of = f"--source-state=hostdev0={files['usual']}"
    assert "go with a domain XML file" in complaint(
        ["check", "g1", "--to", "x:///", state_of], capsys
    )

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from lab.configs import make_config
from unit.cli.command import Out, complaint, make_guest_file, policy, printed_json
from unit.domains import KEY, make_domain
from unit.makers import HOST, VSC_BODY, differing, make_record, make_state
from unit.streams import emulated, make_image, make_stream, vfio
from vfio_preflight.cli import check
from vfio_preflight.cli.check import image_as_guest
from vfio_preflight.cli.main import main
from vfio_preflight.configuration import Configuration
from vfio_preflight.guest.metadata import Record, find_ours, read_record, set_record, write_record
from vfio_preflight.guest.xml import parse_domain, to_bytes
from vfio_preflight.judge.verdicts import DEFAULT_POLICY
from vfio_preflight.pci.formats import to_json
from vfio_preflight.pci.state import ConfigState
from vfio_preflight.qemu.model.vfio_pci import Environment, VirtualConfig, realise

CONFIG = make_config()


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
    assert codes == ["source-unknown", "destination-unknown", "device-place"]
    assert "vfio-preflight record g1" in device["findings"][0]["remedy"]


def test_check_takes_the_operators_state(
    files: dict[str, str], tmp_path: Path, settings: Configuration, capsys: Out
) -> None:
    Path(settings.states).mkdir()
    (Path(settings.states) / f"{HOST}.json").write_text(Path(files["vsc"]).read_text())
    source = f"--source-state={HOST}={files['usual']}"
    assert main(["check", make_guest_file(tmp_path), source, "--format", "json"]) == 1
    assert printed_json(capsys)["devices"][0]["qemu"].startswith("get_pci_config_device: Bad")


def test_check_follows_the_guests_policy(
    files: dict[str, str], tmp_path: Path, capsys: Out
) -> None:
    guest = make_guest_file(tmp_path, metadata=policy("unknown='block'"))
    assert main(["check", guest, "--format", "json"]) == 1
    assert printed_json(capsys)["action"] == "block"


@pytest.mark.parametrize("rich", [True, False])
@pytest.mark.parametrize(
    ("destination", "policy_of", "status", "word"),
    [
        ("vsc", {"fail": "mend"}, 0, "MENDED"),
        ("pm", {"fail": "mend"}, 1, "FAIL"),
        ("vsc", {"fail": "annotate"}, 1, "FAIL"),
        (None, {"unknown": "block"}, 1, "BLOCKED"),
        (None, {"unknown": "allow"}, 3, "UNKNOWN"),
    ],
)
def test_check_begins_with_what_will_happen(
    destination: str | None,
    policy_of: dict[str, str],
    status: int,
    word: str,
    rich: bool,
    files: dict[str, str],
    tmp_path: Path,
    capsys: Out,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made_up = Configuration({**DEFAULT_POLICY, **policy_of}, vsc_tolerant=("10de:*",))
    monkeypatch.setattr(check, "load", lambda: made_up)
    if not rich:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    states = [f"--source-state=hostdev0={files['usual']}"] if destination else []
    states += [f"--destination-state=hostdev0={files[destination]}"] if destination else []
    assert main(["check", make_guest_file(tmp_path), *states]) == status
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert first.split()[:2] == [word, "g1:"] and "g1: hostdev0" in first and len(first) <= 200
    assert ("; the hook mends it" if word == "MENDED" else "; to do: ") in first
    assert "; the hook " in second, "what becomes of it"


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
    err = complaint(["check", str(path)], capsys)
    assert err.startswith(f"vfio-preflight: {path}: ") and part in err


def test_check_from_a_pipe(tmp_path: Path, capsys: Out) -> None:
    xml = Path(make_guest_file(tmp_path)).read_bytes()
    reading, writing = os.pipe()
    os.write(writing, xml)
    os.close(writing)
    try:
        assert main(["check", f"/dev/fd/{reading}", "--format", "json"]) == 3
    finally:
        os.close(reading)
    assert printed_json(capsys)["guest"] == "g1"


def test_check_of_what_never_ends(capsys: Out) -> None:
    assert "/dev/zero is not domain XML" in complaint(["check", "/dev/zero"], capsys)


@pytest.mark.parametrize("magic", [b"LibvirtQemudSave", b"LibvirtQemudPart", b"QEVM"])
def test_check_of_an_image_as_xml(magic: bytes, tmp_path: Path, capsys: Out) -> None:
    path = tmp_path / "g1.save"
    path.write_bytes(magic + bytes(100))
    assert f"say --image {path}" in complaint(["check", str(path)], capsys)


@pytest.mark.parametrize("xml", [b"<domain", b"<domain type='kvm'/>"])
def test_check_image_with_xml_that_is_none(xml: bytes, tmp_path: Path, capsys: Out) -> None:
    path = tmp_path / "g1.save"
    path.write_bytes(make_image(make_stream([vfio(CONFIG)]), xml=xml))
    err = complaint(["check", "--image", str(path)], capsys)
    assert err.startswith(f"vfio-preflight: {path}: ")


def test_check_goes_by_what_a_bare_migration_file_holds(
    files: dict[str, str], tmp_path: Path, capsys: Out
) -> None:
    path, state_of = tmp_path / "g1.qemu", tmp_path / "state.json"
    path.write_bytes(make_stream([vfio(CONFIG), emulated(CONFIG)]))
    err = complaint(["check", "--image", str(path)], capsys)
    assert (
        f"--source-state DEVICE=FILE, where FILE has what is printed by: state --image {path}"
        in err
    )

    assert main(["state", "--image", str(path), "--format", "json"]) == 0
    state_of.write_text(capsys.readouterr().out)
    states = [f"--source-state=hostdev0={state_of}"]
    states.append(f"--destination-state=hostdev0={files['usual']}")
    command = ["check", make_guest_file(tmp_path), *states, "--format", "json"]
    main(command)
    assert printed_json(capsys)["devices"][0]["source"]["evidence"] == "stream"


def test_check_state_of_an_image_with_two_devices(tmp_path: Path, capsys: Out) -> None:
    path, state_of = tmp_path / "g1.qemu", tmp_path / "state.json"
    path.write_bytes(make_stream([vfio(CONFIG), vfio(CONFIG, "0000:00:02.0:00.0")]))
    assert main(["state", "--image", str(path), "--format", "json"]) == 0
    state_of.write_text(capsys.readouterr().out)
    command = ["check", make_guest_file(tmp_path), f"--source-state=hostdev0={state_of}"]
    assert "holds 2 VFIO devices; give one" in complaint(command, capsys)


def test_check_of_two_guests(tmp_path: Path, capsys: Out) -> None:
    err = complaint(["check", "g1.xml", "--image", "g1.save"], capsys)
    assert err == (
        "vfio-preflight: give either 'g1.xml' or --image: an image has the guest's XML in it\n"
    )


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


# --- save images ---------------------------------------------------------------------------------

MADE = realise(make_state(), Environment("root-complex"))
assert isinstance(MADE, VirtualConfig)
SENT = MADE.config
STREAM = make_stream([vfio(SENT, KEY)])


def make_image_file(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "g1.img"
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize(("state", "status"), [(make_state(), 0), (differing(VSC_BODY), 1)])
def test_check_image_by_its_bytes(
    state: ConfigState, status: int, tmp_path: Path, settings: Configuration, capsys: Out
) -> None:
    Path(settings.states).mkdir()
    (Path(settings.states) / f"{HOST}.json").write_text(to_json(state))
    path = make_image_file(tmp_path, make_image(STREAM, xml=make_domain()))
    assert main(["check", "--image", path, "--format", "json"]) == status
    (device,) = printed_json(capsys)["devices"]
    assert (device["source"]["evidence"], device["source"]["origin"]) == (
        "stream",
        f"{path}, section {KEY}/vfio",
    )


def test_check_image_that_lacks_the_device_is_undetermined(tmp_path: Path, capsys: Out) -> None:
    path = make_image_file(
        tmp_path, make_image(make_stream(), xml=make_domain({KEY: make_state()}))
    )
    assert main(["check", "--image", path, "--format", "json"]) == 3
    (device,) = printed_json(capsys)["devices"]
    assert "the save image has no state of this device" in device["findings"][0]["text"]


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (make_image(STREAM, xml=make_domain(), magic=b"LibvirtQemudPart"), "an incomplete save"),
        (STREAM, "a bare QEMU migration file has no domain XML"),
        (make_image(STREAM[:-9], xml=make_domain()), "it does not end as a migration stream does"),
        (make_image(STREAM, xml=b"<network/>"), "not a libvirt domain"),
    ],
    ids=["part", "bare", "cut", "network"],
)
def test_check_what_is_no_image_of_a_guest(
    data: bytes, part: str, tmp_path: Path, capsys: Out
) -> None:
    path = make_image_file(tmp_path, data)
    assert part in complaint(["check", "--image", path], capsys)


def record_in(xml: str) -> Record:
    record = read_record(find_ours(parse_domain(xml.encode())))
    assert record is not None
    return record


def test_image_for_another_host_keeps_what_the_record_has(tmp_path: Path) -> None:
    """Driver and type are what the destination infers its own device's state from."""
    root = parse_domain(make_domain(hosts=(HOST, "0000:06:00.5")))
    states = {KEY: differing(VSC_BODY), "0000:00:06.0": make_state()}
    facts = {"driver": "nvidia", "age": "7200", "on": "a", "time": "2026-11-23T12:00:00Z"}
    attributes = {KEY: facts, "0000:00:06.0": facts}
    record = make_record(states, attributes, "a", facts["time"], "10.0.2")
    set_record(root, write_record(record))
    path = make_image_file(tmp_path, make_image(STREAM, xml=to_bytes(root)))
    merged = record_in(image_as_guest(path))
    assert merged[1:4] == record[1:4]
    assert merged.states[KEY].evidence == "stream" and merged.states[KEY].config == SENT
    assert merged.states["0000:00:06.0"] == make_state()  # the image lacks this one
    assert merged.entries["0000:00:06.0"] == record.entries["0000:00:06.0"]
    entry = merged.entries[KEY]
    assert (entry.traits.driver, entry.age) == ("nvidia", None)
    # The origin names a path of the host that the command runs on.
    assert entry.on == os.uname().nodename
    assert entry.time > facts["time"]


@pytest.mark.parametrize("metadata", ["", "<record schema='7'/>", "<record/>"])
def test_image_for_another_host_without_a_record(metadata: str, tmp_path: Path) -> None:
    ours = f"<p:preflight xmlns:p='urn:vfio-preflight:1'>{metadata}</p:preflight>"
    xml = make_domain(metadata=ours if metadata else "")
    merged = record_in(image_as_guest(make_image_file(tmp_path, make_image(STREAM, xml=xml))))
    assert (set(merged.states), merged.host) == ({KEY}, os.uname().nodename)

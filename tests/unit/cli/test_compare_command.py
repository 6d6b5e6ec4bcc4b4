from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lab.configs import make_config, patched
from unit.builds import changed, make_types
from unit.cli.command import Q35_90, Q35_91, Out, complaint, printed_json
from unit.findings_examples import terabyte
from unit.makers import EMULATOR, differing, make_emulator, make_state
from unit.physical import as_lspci, as_mail, as_vf, real
from vfio_preflight.cli import compare
from vfio_preflight.cli.main import main
from vfio_preflight.configuration import Configuration
from vfio_preflight.gather import builds
from vfio_preflight.gather import here as collect
from vfio_preflight.judge.verdicts import DEFAULT_POLICY
from vfio_preflight.pci.formats import to_json
from vfio_preflight.qemu.emulator.facts import EmulatorError
from vfio_preflight.qemu.emulator.machines import EmulatorFacts

NO_MMAP = changed("vfio-pci", x_no_mmap=True)


def link_file(tmp_path: Path) -> str:
    """A state that differs in LNKCAP."""
    (tmp_path / "link.json").write_text(to_json(differing(0x84)))
    return str(tmp_path / "link.json")


@pytest.mark.parametrize(
    ("destination", "arguments", "status", "verdict"),
    [
        ("usual", Q35_90, 0, "pass"),
        ("vsc", Q35_90, 1, "fail"),
        ("vsc", Q35_91, 0, "tolerated"),
        ("pm", Q35_91, 1, "fail"),
        # A device of PCI Express has 4096 bytes: of one of the two the rest is not known.
        ("large", Q35_91, 3, "unknown"),
        ("vsc", (*Q35_90, "--property", "skip-vsc-check=on"), 0, "tolerated"),
        ("usual", ("--machine", "pc-q35-11.1", "--emulator", EMULATOR), 1, "fail"),
        ("vsc", (*Q35_90, "--bus", "conventional"), 1, "fail"),
    ],
)
def test_compare(
    destination: str,
    arguments: tuple[str, ...],
    status: int,
    verdict: str,
    files: dict[str, str],
    capsys: Out,
) -> None:
    command = ["compare", files["usual"], files[destination], *arguments, "--format", "json"]
    assert main(command) == status
    assert printed_json(capsys)["verdict"] == verdict


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), "config-identical"),
        (("--source-emulator", "/old"), "builds-differ"),
        (("--source-emulator", EMULATOR), "config-identical"),
    ],
)
def test_compare_two_builds(
    options: tuple[str, ...],
    code: str,
    tmp_path: Path,
    capsys: Out,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not named, the source's QEMU is the destination's."""
    versions = {"/old": "10.0.2", EMULATOR: "11.1.3"}
    monkeypatch.setattr(
        collect, "emulator_facts", lambda path, **_options: make_emulator(version=versions[path])
    )
    state = tmp_path / "state.json"
    state.write_text(to_json(terabyte()))
    command = ["compare", str(state), str(state), *Q35_90, *options, "--format", "json"]
    assert main(command) == (code == "builds-differ")
    found = printed_json(capsys)["devices"][0]["findings"]
    assert code in [finding["code"] for finding in found]


def test_compare_tells_drift_of_two_builds(
    files: dict[str, str], capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        collect, "emulator_facts", lambda path, **_options: make_emulator()._replace(path=path)
    )
    built = {"/old": make_types(), EMULATOR: make_types(properties=NO_MMAP, version="11.1.3")}
    monkeypatch.setattr(builds, "type_facts", lambda path, **_options: built[path])
    command = ["compare", files["usual"], files["usual"], *Q35_90, "--source-emulator"]

    def drift(emulator: str) -> list[str]:
        assert main([*command, emulator, "--format", "json"]) == 0
        findings = printed_json(capsys)["findings"]
        return [finding["text"] for finding in findings if finding["code"] == "drift"]

    (text,) = drift("/old")
    assert "x-no-mmap of vfio-pci is 'off' on the source and 'on' on the destination" in text
    assert drift(EMULATOR) == []


def test_compare_with_an_emulator_of_the_source_that_is_not_there(
    files: dict[str, str], capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(path: str, **_options: object) -> EmulatorFacts:
        if path == "/none":
            raise EmulatorError("emulator /none: not there")
        return make_emulator()

    monkeypatch.setattr(collect, "emulator_facts", ask)
    command = ["compare", files["usual"], files["vsc"], *Q35_90, "--source-emulator", "/none"]
    assert "--source-emulator: emulator /none: not there" in complaint(command, capsys)


def test_compare_atomic_ops(tmp_path: Path, capsys: Out) -> None:
    paths = []
    for widths in (3, 0):
        paths.append(str(tmp_path / f"{widths}.json"))
        Path(paths[-1]).write_text(to_json(make_state()._replace(atomics=widths)))
    command = ["compare", *paths, *Q35_90]
    assert main(command) == 1
    assert "i=0x78 read: a0 device: 20" in capsys.readouterr().out
    assert main([*command, "--bus", "root-complex"]) == 0


def test_compare_without_an_emulator(
    files: dict[str, str], capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise EmulatorError("emulator /x: not there")

    monkeypatch.setattr(collect, "emulator_facts", refuse)
    command = ["compare", files["usual"], files["vsc"], *Q35_90, "--format", "json"]
    assert main(command) == 3
    report = printed_json(capsys)
    assert report["verdict"] == "unknown"
    assert report["findings"][0]["text"] == "emulator /x: not there"


def test_compare_bus_decides(files: dict[str, str], tmp_path: Path, capsys: Out) -> None:
    link = link_file(tmp_path)
    for bus, status in (("root-port", 1), ("root-complex", 0), ("conventional", 0)):
        assert main(["compare", files["usual"], link, *Q35_90, "--bus", bus]) == status


@pytest.mark.parametrize(("machine", "status"), [("pc-i440fx-9.0", 1), ("pc-q35-9.0", 0)])
def test_compare_conventional_bus_of_either_board(
    machine: str, status: int, files: dict[str, str], tmp_path: Path
) -> None:
    link = link_file(tmp_path)
    arguments = ["--machine", machine, "--emulator", EMULATOR, "--bus", "conventional"]
    assert main(["compare", files["usual"], link, *arguments]) == status


def test_compare_takes_the_only_sort_of_bus_there_is(
    files: dict[str, str], tmp_path: Path, capsys: Out
) -> None:
    machine = ["--machine", "pc-i440fx-9.0", "--emulator", EMULATOR, "--format", "json"]
    assert main(["compare", files["usual"], link_file(tmp_path), *machine]) == 1
    assert printed_json(capsys)["devices"][0]["placement"] == "conventional"


@pytest.mark.parametrize("bus", ["root-port", "root-complex"])
@pytest.mark.parametrize("machine", ["pc", "pc-i440fx-9.0"])
@pytest.mark.parametrize("command", ["compare", "masks"])
def test_bus_that_the_machine_does_not_have(
    command: str, machine: str, bus: str, files: dict[str, str], capsys: Out
) -> None:
    states = [files["usual"]] * (2 if command == "compare" else 1)
    err = complaint([command, *states, "--machine", machine, "--bus", bus], capsys)
    assert f"{machine} has no PCI Express: --bus {bus} is not possible there" in err


@pytest.mark.parametrize("action", ["allow", "block", "mend"])
def test_compare_is_no_matter_of_policy(
    action: str, files: dict[str, str], capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = Configuration({**DEFAULT_POLICY, "fail": action}, vsc_tolerant=("10de:*",))
    monkeypatch.setattr(compare, "load", lambda: made_up)
    command = ["compare", files["usual"], files["vsc"], *Q35_90]
    assert main([*command, "--format", "json"]) == 1
    assert printed_json(capsys)["action"] is None
    assert main(command) == 1
    first, *below = capsys.readouterr().out.splitlines()
    assert ": device: VSC at 0x60, Vendor Specific Information, offset 0x63: " in first
    assert len(first) <= 200
    # In full, over as many lines as it takes.
    named = f"{files['usual']} to {files['vsc']}: QEMU would refuse the guest"
    assert " ".join(" ".join(below).split()).startswith(named)


def test_compare_text(files: dict[str, str], capsys: Out) -> None:
    assert main(["compare", files["usual"], files["vsc"], *Q35_90]) == 1
    text = capsys.readouterr().out
    assert text.startswith("FAIL ")
    for part in ("VSC at 0x60", "0x63", "get_pci_config_device: Bad config data: i=0x63", "to do"):
        assert part in text


def test_compare_text_without_rich(
    files: dict[str, str], capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert main(["compare", files["usual"], files["vsc"], *Q35_90]) == 1
    text = capsys.readouterr().out
    assert text.startswith("FAIL ") and "VSC at 0x60" in text and "to do" in text


def test_compare_file_that_is_not_there(files: dict[str, str], capsys: Out) -> None:
    err = complaint(["compare", files["usual"], "/none.json", *Q35_90], capsys)
    assert err == "vfio-preflight: /none.json: cannot be read: No such file or directory\n"


# --- dumps ---------------------------------------------------------------------------------------


def dumps(tmp_path: Path, **files: bytes) -> list[str]:
    """Paths of files with these contents."""
    paths = []
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        paths.append(str(tmp_path / name))
    return paths


def test_compare_a_raw_dump_of_a_vf(tmp_path: Path, capsys: Out) -> None:
    """A VF's IDs read ffff: refused with the reason, or turned into VFIO's view; never a FAIL."""
    card = real("mlx-cx5ex-pf-15b3_1019")
    vfio = card.vfio._replace(config=patched(card.vfio.config, 0x3D, 0))
    known = as_vf(card.physical)
    unknown = known.replace(b" [15b3:1019]", b"")
    assert unknown != known
    files = {"known": known, "unknown": unknown, "vfio": to_json(vfio).encode()}
    paths = dict(zip(files, dumps(tmp_path, **files)))
    for pair in (("known", "vfio"), ("vfio", "known"), ("known", "known")):
        assert main(["compare", *(paths[name] for name in pair), *Q35_90]) == 0
        text = capsys.readouterr().out
        assert "evidence  sysfs" in text and "the sizes of the" in text
    err = complaint(["compare", paths["unknown"], paths["vfio"], *Q35_90], capsys)
    assert f"{paths['unknown']}: its vendor and device ID read ffff, as a VF's own do" in err
    assert "lspci -nn" in err


def test_compare_a_dump_in_mail(tmp_path: Path, capsys: Out) -> None:
    card = real("mlx-cx5ex-pf-15b3_1019")
    pair = dumps(tmp_path, mail=as_mail(card.physical), vfio=to_json(card.vfio).encode())
    assert main(["compare", *pair, *Q35_90]) == 0


def test_compare_a_device_that_does_not_answer(tmp_path: Path, capsys: Out) -> None:
    pair = dumps(tmp_path, dead=as_lspci(b"\xff" * 256), usual=as_lspci(make_config()))
    err = complaint(["compare", *pair, *Q35_90], capsys)
    assert "every byte reads ff: the device does not answer" in err


def test_compare_a_dump_that_others_than_root_made(tmp_path: Path, capsys: Out) -> None:
    for form in (bytes, as_lspci):
        pair = dumps(tmp_path, short=form(make_config()[:64]), usual=as_lspci(make_config()))
        assert "read it as root" in complaint(["compare", *pair, *Q35_90], capsys)

"""``masks``: what becomes of every byte, and how sure that is."""

from __future__ import annotations

import pytest

from unit.cli.command import Q35_90, Out, printed_json
from unit.makers import make_emulator, make_state
from vfio_preflight.cli import masks
from vfio_preflight.cli.main import main
from vfio_preflight.configuration import Configuration
from vfio_preflight.gather import here as collect
from vfio_preflight.pci.formats import read_file, to_json
from vfio_preflight.qemu.emulator.facts import EmulatorError
from vfio_preflight.qemu.model.vfio_pci import Environment


@pytest.fixture(autouse=True)
def loaded(settings: Configuration, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "load", lambda: settings)


def kinds(path: str, environment: Environment) -> dict[int, str]:
    found = masks.classify(read_file(path).state, environment)
    return {byte.offset: byte.kind for byte in found}


EXPECTED = [
    ((0x00, 0x06, 0x08, 0x34, 0x42, 0x62), "compared"),
    ((0x63, 0x77), "exempt"),
    # BARs, the ROM's, the interrupt line: QEMU's own, here by chance what the device has.
    ((0x0C, 0x12, 0x14, 0x27, 0x30, 0x33, 0x3C), "emulated"),
    # The interrupt pin is the device's: another one is refused, or shown.
    ((0x04, 0x2C, 0x2F, 0x3D, 0xF0), "ignored"),
]


@pytest.mark.parametrize(("offsets", "kind"), EXPECTED)
def test_kinds(files: dict[str, str], offsets: tuple[int, ...], kind: str) -> None:
    found = kinds(files["usual"], Environment("root-port"))
    assert {offset: found[offset] for offset in offsets} == dict.fromkeys(offsets, kind)


def test_what_a_property_sets_is_qemus_own(files: dict[str, str]) -> None:
    properties = {"x-pci-sub-vendor-id": "0x10de", "x-pci-sub-device-id": "0x12a2"}
    found = kinds(files["usual"], Environment("root-port", properties=properties))
    assert [found[offset] for offset in range(0x2C, 0x30)] == ["emulated"] * 4


def test_all_of_a_large_space(files: dict[str, str]) -> None:
    on_port = kinds(files["large"], Environment("root-port"))
    assert len(on_port) == 4096
    assert set(kinds(files["large"], Environment("conventional")).values()) <= set(masks.LEGEND)


@pytest.mark.parametrize(
    ("version", "told"), [("10.0.2", ""), ("12.0.0", "not verified on QEMU 12.0.0"), ("", "hung")]
)
def test_doubts_are_told(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Out, version: str, told: str
) -> None:
    def asked(*_args: object, **_options: object) -> object:
        if not version:
            raise EmulatorError("it hung")
        return make_emulator(version=version)

    monkeypatch.setattr(collect, "emulator_facts", asked)
    assert main(["masks", files["usual"], *Q35_90]) == 0
    second = capsys.readouterr().out.splitlines()[1]
    assert told in second if told else second.startswith("000: ")


def test_json(files: dict[str, str], capsys: Out) -> None:
    assert main(["masks", files["usual"], *Q35_90, "--format", "json"]) == 0
    first = printed_json(capsys)["ranges"][0]
    assert (first["start"], first["end"], first["kind"]) == (0, 1, "compared")


def test_refused_device(files: dict[str, str], capsys: Out, tmp_path: object) -> None:
    path = f"{tmp_path}/loop.json"
    with open(path, "w") as file:
        file.write(to_json(make_state(b"\xff" * 256)))
    assert main(["masks", path, *Q35_90]) == 2
    assert "would not realise this device (hang)" in capsys.readouterr().err

"""Runs the command through main() and takes apart what it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab.guests import guest_xml, hostdev_pci
from unit.makers import EMULATOR, HOST
from vfio_preflight.cli.main import main

Q35_90 = ("--machine", "pc-q35-9.0", "--emulator", EMULATOR)
Q35_91 = ("--machine", "pc-q35-9.1", "--emulator", EMULATOR)
GUEST_ADDRESS = "<address type='pci' domain='0' bus='0' slot='5' function='0'/>"

Out = pytest.CaptureFixture[str]


def make_guest_file(tmp_path: Path, machine: str = "pc-q35-9.0", metadata: str = "") -> str:
    """Path of the XML of guest g1, with one device."""
    path = tmp_path / "g1.xml"
    devices = [hostdev_pci(HOST, GUEST_ADDRESS)]
    path.write_text(guest_xml("g1", machine, devices, metadata=metadata))
    return str(path)


def policy(attributes: str) -> str:
    """Metadata with the guest's own policy."""
    return f"<p:preflight xmlns:p='urn:vfio-preflight:1'><policy {attributes}/></p:preflight>"


def printed_json(capsys: Out) -> dict[str, Any]:
    """What was printed, which must be JSON of schema 1."""
    value = json.loads(capsys.readouterr().out)
    assert isinstance(value, dict) and value["schema"] == 1
    return value


def complaint(arguments: list[str], capsys: Out) -> str:
    """The one line that a command ends with which cannot be carried out."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("vfio-preflight: ") and err.count("\n") == 1
    return err

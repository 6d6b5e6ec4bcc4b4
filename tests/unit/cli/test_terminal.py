"""What a guest is called is no command to the operator's terminal: the bytes, as od has them."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from unit.domains import KEY, make_domain
from unit.hooked import PLUGIN
from unit.makers import make_state
from vfio_preflight.guest.domain import parse_domain, to_bytes

# C1's CSI, carriage return, right-to-left override, escape.
NAME = "g\u009b2J\r\u202e1"
BYTES = (b"\xc2\x9b", b"\r", b"\xe2\x80\xae", b"\x1b]")


def named(name: str) -> bytes:
    root = parse_domain(make_domain({KEY: make_state()}))
    element = root.find("name")
    assert element is not None
    element.text = name
    return to_bytes(root)


def od(data: bytes) -> str:
    return subprocess.run(["od", "-c"], input=data, capture_output=True, check=True).stdout.decode()


def commanded(arguments: list[str], terminal: bool) -> bytes:
    """What the command writes, to a terminal or into a pipe."""
    environment = {**os.environ, "PYTHONPATH": str(PLUGIN), "LC_ALL": "C.UTF-8", "TERM": "xterm"}
    command = [sys.executable, "-m", "vfio_preflight", *arguments]
    if not terminal:
        done = subprocess.run(command, capture_output=True, env=environment)
        return done.stdout + done.stderr
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        written = b""
        try:
            while part := os.read(ours, 65536):
                written += part
        # How a terminal says that nobody has it open any more.
        except OSError:
            pass
    os.close(ours)
    return written.replace(b"\r\n", b"\n")


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("form", ["text", "json"])
def test_check(form: str, terminal: bool, tmp_path: Path) -> None:
    (tmp_path / "g.xml").write_bytes(named(NAME))
    written = commanded(["check", str(tmp_path / "g.xml"), "--format", form], terminal)
    shown = b"g?2J??1" if form == "text" else b'"g\\u009b2J\\r\\u202e1"'
    assert shown in written
    for part in BYTES:
        assert part not in written, od(written)


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("command", ["check", "state", "explain", "masks"])
def test_errors_and_arguments(command: str, form: str, terminal: bool, tmp_path: Path) -> None:
    path = tmp_path / f"\x1b]0;{NAME}"
    path.write_text("<domain type='\u009b'>get_pci_config_device: Bad \u009b config \u202e")
    for place in (str(path), f"{path}-none"):
        written = commanded([command, place, "--format", form], terminal)
        assert written.isascii() or form == "text"
        for part in BYTES:
            assert part not in written, od(written)


def test_colours_of_our_own_remain(tmp_path: Path) -> None:
    (tmp_path / "g.xml").write_bytes(named("\u202eg1"))
    assert b"\x1b[1;" in commanded(["check", str(tmp_path / "g.xml")], terminal=True)

"""The shell part of the hook: whom it calls Python for, and what it makes of Python's end."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HOOK = Path(__file__).parents[3] / "hooks" / "vfio-preflight"
XML = b"<domain>\n<hostdev/>\n</domain>"
# Those of them that are here: distributions differ in what /bin/sh is.
SHELLS = [
    shell for shell in (["sh"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])
]


class Launcher:
    """The hook with an interpreter of our own and a run-time directory of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shell = ["sh"]
        text = HOOK.read_text()
        for old, new in (
            ("/usr/bin/python3", f"{path}/python3"),
            ("/run/vfio-preflight", f"{path}/run"),
        ):
            assert old in text
            text = text.replace(old, new)
        (path / "hook").write_text(text)
        (path / "hook").chmod(0o755)

    def python(self, script: str) -> None:
        """What runs in place of Python."""
        (self.path / "python3").write_text(f"#!/bin/sh\n{script}\n")
        (self.path / "python3").chmod(0o755)

    def wait(self, directory: str, name: str) -> None:
        (self.path / "run" / directory).mkdir(parents=True)
        (self.path / "run" / directory / name).touch()

    def run(self, operation: str, guest: str = "g1") -> subprocess.CompletedProcess[bytes]:
        hook = str(self.path / "hook")
        return subprocess.run(
            [*self.shell, hook, guest, operation, "begin", "-"],
            input=XML,
            capture_output=True,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        )


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    return Launcher(tmp_path)


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize("operation", ["migrate", "restore", "prepare", "started"])
@pytest.mark.parametrize(
    ("end", "status"),
    [("exit 0", 0), ("exit 99", 1), ("exit 1", 0), ("exit 120", 0), ("kill -9 $$", 0)],
)
def test_only_a_verdict_fails_a_call(
    end: str, status: int, operation: str, shell: list[str], launcher: Launcher
) -> None:
    """A Python that cannot begin ends with 1; a restore that fails can cost a managed save."""
    launcher.shell = shell
    launcher.wait("refused", "g-g1")
    launcher.wait("second-gate", "g1.json")
    launcher.python(end)
    assert launcher.run(operation).returncode == status


@pytest.mark.parametrize("guest", ["g1", "-n", "a b", "new\nline", "\u00e4" * 100, "$(id)*"])
def test_python_gets_what_libvirt_gave(guest: str, launcher: Launcher) -> None:
    launcher.python('shift 4\nprintf "%s|" "$@"\ncat')
    done = launcher.run("migrate", guest)
    # The caller of the hook, whose open files show the image that is restored.
    expected = "|".join([str(os.getpid()), guest, "migrate", "begin", "-", ""])
    assert done.stdout == expected.encode() + XML


def test_without_an_interpreter_nothing_is_checked(launcher: Launcher) -> None:
    assert launcher.run("migrate").returncode == 0

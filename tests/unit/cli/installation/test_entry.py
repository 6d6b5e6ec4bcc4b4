"""What libvirt executes: it hands over to the version in force, or lets guests pass."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from vfio_preflight.cli.installation.payload import ENTRY

SHELLS = [
    shell for shell in (["sh"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])
]
SHELL = pytest.mark.parametrize("shell", SHELLS, ids=" ".join)


def run(tmp_path: Path, shell: list[str], body: str | None) -> subprocess.CompletedProcess[str]:
    library = "/usr/lib/vfio-preflight"
    assert library in ENTRY
    entry = tmp_path / "entry"
    entry.write_text(ENTRY.replace(library, str(tmp_path)))
    if body is not None:
        (tmp_path / "current").mkdir()
        (tmp_path / "current/hook").write_text(body)
    return subprocess.run(
        [*shell, str(entry), "a guest", "migrate", "begin", "-"],
        input="<domain/>",
        capture_output=True,
        text=True,
    )


@SHELL
@pytest.mark.parametrize("status", [0, 1, 99])
def test_hook_of_the_version_answers(status: int, shell: list[str], tmp_path: Path) -> None:
    body = f"printf '%s|' \"$@\"\ncat\necho reason >&2\nexit {status}\n"
    done = run(tmp_path, shell, body)
    assert done.returncode == status
    assert (done.stdout, done.stderr) == ("a guest|migrate|begin|-|<domain/>", "reason\n")


@SHELL
@pytest.mark.parametrize("kind", ["none", "directory", "dangling", "broken"])
def test_without_a_package_guests_pass(kind: str, shell: list[str], tmp_path: Path) -> None:
    """A call that fails costs a migration, or a managed save."""
    if kind == "directory":
        (tmp_path / "current/hook").mkdir(parents=True)
    elif kind == "dangling":
        (tmp_path / "current").symlink_to("0.1.0-12345678")
    done = run(tmp_path, shell, "case $1 in (\n" if kind == "broken" else None)
    assert (done.returncode, done.stdout) == (0, "")


@SHELL
def test_libvirt_is_the_parent_there_too(shell: list[str], tmp_path: Path) -> None:
    assert run(tmp_path, shell, "echo $PPID").stdout == f"{os.getpid()}\n"

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vfio_preflight.osutil.executable import ExecutableError, trusted_executable, unprivileged_user

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A filesystem with an emulator that is fit to be run: /usr/bin/qemu."""
    (tmp_path / "usr" / "bin").mkdir(parents=True)
    (tmp_path / "usr" / "bin" / "qemu").write_bytes(b"\x7fELF")
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    return tmp_path


def refusal(root: Path, path: str = "/usr/bin/qemu") -> str:
    with pytest.raises(ExecutableError) as caught:
        trusted_executable(path, str(root))
    return str(caught.value)


def test_trusted_executable(root: Path) -> None:
    found = trusted_executable("/usr/bin/qemu", str(root))
    info = (root / "usr/bin/qemu").stat()
    assert found.path == "/usr/bin/qemu"
    assert found.realpath == str(root / "usr/bin/qemu")
    assert found.identity[1:3] == (info.st_ino, 4)
    assert not found.script


def test_trusted_executable_resolves_links(root: Path) -> None:
    (root / "usr/bin/kvm").symlink_to("qemu")
    found = trusted_executable("/usr/bin/kvm", str(root))
    assert found.realpath == str(root / "usr/bin/qemu")


def test_trusted_executable_knows_scripts(root: Path) -> None:
    (root / "usr/bin/qemu").write_text("#!/bin/sh\n")
    assert trusted_executable("/usr/bin/qemu", str(root)).script


def test_identity_changes_with_the_file(root: Path) -> None:
    before = trusted_executable("/usr/bin/qemu", str(root)).identity
    (root / "usr/bin/new").write_bytes(b"\x7fELF")
    (root / "usr/bin/new").chmod(0o755)
    (root / "usr/bin/new").rename(root / "usr/bin/qemu")
    assert trusted_executable("/usr/bin/qemu", str(root)).identity != before


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("qemu", "not an absolute path"),
        ("", "not an absolute path"),
        ("/usr/bin/absent", "No such file or directory"),
        ("/usr/bin/qemu/x", "Not a directory"),
        ("/usr/bin", "not a regular file"),
        ("/usr/bin/\0", "not a path"),
        ("/usr/bin/\ud800", "not a path"),
        ("/" + "x" * 5000, "name too long"),
    ],
)
def test_refuses_what_is_no_program(root: Path, path: str, expected: str) -> None:
    assert expected in refusal(root, path)


def test_refuses_a_loop_of_links(root: Path) -> None:
    (root / "usr/bin/loop").symlink_to("loop")
    assert "symbolic links" in refusal(root, "/usr/bin/loop")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (0o644, "not executable"),
        (0o4755, "set-user-ID"),
        (0o2755, "set-group-ID"),
        (0o775, "writable by group or others (mode 0775)"),
        (0o757, "writable by group or others (mode 0757)"),
    ],
)
def test_refuses_a_mode(root: Path, mode: int, expected: str) -> None:
    (root / "usr/bin/qemu").chmod(mode)
    assert expected in refusal(root)


@pytest.mark.parametrize("directory", ["", "usr", "usr/bin"])
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_refuses_a_directory_in_the_reach_of_others(root: Path, directory: str, mode: int) -> None:
    (root / directory).chmod(mode)
    assert f"directory {root / directory} is writable by group or others" in refusal(root)


def test_refuses_a_link_to_a_place_in_the_reach_of_others(root: Path) -> None:
    (root / "tmp").mkdir()
    (root / "usr/bin/qemu").rename(root / "tmp/qemu")
    (root / "tmp").chmod(0o1777)
    (root / "usr/bin/qemu").symlink_to("../../tmp/qemu")
    assert f"directory {root / 'tmp'} is writable" in refusal(root)


def test_refuses_a_link_out_of_root(root: Path) -> None:
    (root / "usr/bin/sh").symlink_to("/bin/sh")
    assert "leads out of" in refusal(root, "/usr/bin/sh")
    assert "leads out of" in refusal(root, "/../" * 20 + "bin/sh")


@as_root
@pytest.mark.parametrize("path", ["usr/bin/qemu", "usr/bin", "usr", ""])
def test_refuses_what_belongs_to_others(root: Path, path: str) -> None:
    os.chown(root / path, 65534, 0)
    assert "belongs to user 65534" in refusal(root)


def test_real_places() -> None:
    assert trusted_executable("/bin/sh").realpath.startswith("/usr/bin/")


def test_unprivileged_user() -> None:
    user = unprivileged_user()
    assert (user is None) == (os.geteuid() != 0)
    assert user is None or (user.uid != 0 and user.name in ("libvirt-qemu", "qemu", "nobody"))

"""Files are read at once, as regular ones, and in part."""

from __future__ import annotations

import ast
import os
import stat
from pathlib import Path

import pytest

import vfio_preflight
from unit.patience import ends
from vfio_preflight.osutil.regular import open_regular, read_regular, read_start, whose

PACKAGE = Path(vfio_preflight.__file__).parent
# What opens files otherwise, and why.
OTHERWISE = {
    "osutil.regular": "this is it",
    "osutil.jsondir": "by the same flags, and refuses a link",
    "osutil.locks": "by the same flags, and refuses what is no lock of ours",
    "images.save_image": "by the same flags, and takes a block device",
    "pci.formats": "a command's argument, which may be a pipe",
    "osutil.shortage": "/proc of a child",
    "osutil.replaced": "the program of a running process, by its link in /proc",
    "hook.audit": "by the same flags, and refuses what is no log of ours",
    "hook.journal": "writes",
    "hook.refusals": "writes",
    "hook.supervise": "/dev/null",
    "host.vfio": "a VFIO device",
    "qemu.emulator.client": "/proc of its own child",
    "qemu.emulator.sent": "a file of this package",
    "qemu.emulator.verified": "a file of this package",
    "qemu.twin.place": "the compiled shim of this package, and writes",
    "qemu.trial.shim": "a file of this package, and writes",
    "qemu.trial.workbench": "a file of this package, and writes",
}


def test_nothing_the_hook_runs_opens_a_file_otherwise() -> None:
    """A FIFO that is opened in another way holds the hook until its deadline."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "open",
                "os.open",
                "io.open",
                "os.fdopen",
            ):
                found.add(".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    assert {name for name in found if not name.startswith("cli.")} == set(OTHERWISE)


def test_regular_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_regular(str(tmp_path / "a")) == b"12345"
    assert read_regular(str(tmp_path / "a"), 5) == b"12345"
    assert read_start(str(tmp_path / "a"), 3) == b"123"
    assert read_start(str(tmp_path / "a"), 9) == b"12345"
    assert int(read_start("/proc/self/stat", 4096).split()[0]) == os.getpid()
    assert (
        read_regular("/proc/sys/kernel/osrelease", 64 << 20).decode().strip() == os.uname().release
    )
    (tmp_path / "b").write_bytes(bytes(range(256)) * 4096)
    assert read_regular(str(tmp_path / "b")) == bytes(range(256)) * 4096


def test_larger_file_is_not_read_in_part(tmp_path: Path) -> None:
    """The first part of a configuration means something else than the whole."""
    (tmp_path / "a").write_bytes(b"12345")
    with pytest.raises(OSError, match="it has over 4 bytes") as caught:
        read_regular(str(tmp_path / "a"), 4)
    assert caught.value.strerror == "it has over 4 bytes"


@pytest.mark.parametrize("kind", ["fifo", "device", "socket", "directory", "terminal"])
def test_anything_else_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)
    elif kind == "directory":
        path.mkdir()
    else:
        path = Path(os.ttyname(os.openpty()[1]))
    before = len(os.listdir("/proc/self/fd"))
    with ends(), pytest.raises(OSError) as caught:
        open_regular(str(path))
    assert caught.value.strerror
    del caught
    assert len(os.listdir("/proc/self/fd")) == before


def test_whose(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    path.parent.mkdir()
    path.write_bytes(b"")
    assert whose(str(path)) == ""
    assert whose(f"{tmp_path}//./a/../a/b") == ""
    path.chmod(0o666)
    assert whose(str(path)) == f"{path} is writable by users other than root"
    path.chmod(0o644)
    path.parent.chmod(0o1777)
    assert whose(str(path)) == f"{path.parent} is writable by users other than root"
    path.parent.chmod(0o755)
    tmp_path.chmod(0o1777)
    assert whose(str(path)) == "", "what is root's in it cannot be replaced"
    tmp_path.chmod(0o777)
    assert whose(str(path)) == f"{tmp_path} is writable by users other than root"


def test_whose_in_a_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert whose("/etc/passwd") == ""


def test_whose_loop(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        whose(str(tmp_path / "a"))
    with pytest.raises(FileNotFoundError):
        whose(str(tmp_path / "b"))
